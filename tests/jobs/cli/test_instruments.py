"""What units are, from a file."""

from datetime import UTC, datetime

import pytest
from typer.testing import CliRunner

from jobs.cli import main
from mlops.errors import DataError
from mlops.io.ledger import Ledger

CLI = CliRunner()


@pytest.fixture
def there(tmp_path, monkeypatch):
    monkeypatch.setenv("MLOPS_STATE", str(tmp_path))
    monkeypatch.setenv("MLOPS_TRACKING_URI", "http://127.0.0.1:1")
    return tmp_path


def load(folder, text):
    (folder / "units.csv").write_text(text, encoding="utf-8")
    return CLI.invoke(main.app, ["instrument", "load", str(folder / "units.csv")])


@pytest.mark.parametrize("content", [b"", b"\xff\xfe\x00", b'unit,kind\nA,spot,1,2,3\n"B'])
def test_a_file_that_is_no_table_is_said_to_be_none(there, content):
    (there / "units.csv").write_bytes(content)

    done = CLI.invoke(main.app, ["instrument", "load", str(there / "units.csv")])
    assert isinstance(done.exception, DataError)  # `main` says it in a line
    assert "units.csv must be a readable CSV" in str(done.exception)


def test_good_rows_go_in_and_each_bad_one_is_told_with_its_line(there):
    done = load(
        there,
        "unit,kind,sector,underlying,strike,expiry,american,daily_volume\n"
        "AAPL,,tech,,,,,1e6\n"
        "C150,call,tech,AAPL,150,2026-04-17T20:00+00:00,yes,\n"
        "P90,put,tech,AAPL,90,2026-04-17,no,\n"
        "X,bond,,,,,,\n"
        ",,,,,,,\n",
    )

    assert 1 == done.exit_code
    assert "2 instruments kept" in done.output
    assert "line 4: expiry must carry its offset" in done.output
    assert [True, True, True] == [f"line {n}:" in done.output for n in (4, 5, 6)]
    with Ledger(f"sqlite:///{there / 'ledger.db'}") as ledger:
        frame = ledger.instruments.frame().set_index("unit")
    assert ["AAPL", "C150"] == list(frame.index)
    assert datetime(2026, 4, 17, 20, tzinfo=UTC) == frame.expiry["C150"]
    assert (True, False) == (frame.american["C150"], frame.american["AAPL"])
    assert 1e6 == frame.daily_volume["AAPL"]


def test_what_is_known_is_listed(there):
    assert 0 == load(there, "unit,sector\nAAPL,tech\n").exit_code

    assert "AAPL" in CLI.invoke(main.app, ["instrument", "list"]).output


@pytest.mark.parametrize(("text", "why"), [("unit,colour\nA,red\n", "colour"), ("kind\nspot\n", "a column unit")])
def test_a_file_of_another_kind_is_refused_whole(there, text, why):
    done = load(there, text)

    assert 2 == done.exit_code
    assert why in done.output
