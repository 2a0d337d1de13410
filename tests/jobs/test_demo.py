"""The demo empties a folder only if it made it."""

import pytest

from jobs import demo
from mlops.errors import SettingsError


def test_a_folder_that_the_demo_did_not_make_is_never_emptied(tmp_path):
    (tmp_path / "thesis.txt").write_text("mine")

    with pytest.raises(SettingsError, match="Choose another"):
        demo._fresh(tmp_path)

    assert "mine" == (tmp_path / "thesis.txt").read_text()


def test_an_earlier_demo_is_emptied(tmp_path):
    demo._fresh(tmp_path / "demo")
    (tmp_path / "demo" / "ledger.db").touch()

    demo._fresh(tmp_path / "demo")

    assert [".demo"] == [path.name for path in (tmp_path / "demo").iterdir()]


def test_a_feed_that_is_down_every_other_week_repeats_its_last_close(bars_of_two):
    stuck = demo.broken(bars_of_two).pivot(index="event_time", columns="symbol", values="close")

    assert (stuck.iloc[5:10] == stuck.iloc[4]).all().all()
    assert (stuck.iloc[10] != stuck.iloc[9]).all()


@pytest.fixture
def bars_of_two():
    import pandas as pd

    times = pd.date_range("2008-01-01", periods=15, tz="UTC")
    rows = [(at, symbol, 100.0 + i) for i, at in enumerate(times) for symbol in ("A", "B")]
    return pd.DataFrame(rows, columns=["event_time", "symbol", "close"])
