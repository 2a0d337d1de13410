"""Pictures for the documents are of a state folder as it is, and leave no key behind."""

import shutil
from datetime import UTC, datetime, timedelta

import pandas as pd
import pytest
from PIL import Image

from benchmarks import pictures
from jobs import books
from jobs.context import opened
from mlops.errors import SettingsError
from mlops.learn import STRATEGIES
from mlops.settings import Settings

T0, DAY = datetime(2022, 3, 1, 21, tzinfo=UTC), timedelta(days=1)


@pytest.fixture
def state(tmp_path):
    """A folder with a book of three bars."""
    folder = tmp_path / "demo"
    days = pd.DatetimeIndex([T0 + i * DAY for i in range(3)])
    with opened(Settings(state=folder, tracking_uri=f"sqlite:///{folder / 'mlflow.db'}")) as context:
        row = {"fill_id": "f", "model": "direction", "version": 1, "book": "paper", "unit": "AAPL", "event_time": T0}
        context.ledger.telemetry.add_fills(pd.DataFrame([row | {"quantity": 100.0, "price": 50.0, "fee": 0.0}]))
        bars = pd.DataFrame({"event_time": days, "known_at": days, "symbol": "AAPL", "close": [50.0, 52.0, 51.0]})
        books.advance(context, STRATEGIES["direction"], bars, days[-1].to_pydatetime())
    return folder


@pytest.mark.skipif(shutil.which("chromium") is None, reason="chromium was not found; install it to take pictures")
def test_pictures_are_taken_of_what_is_in_the_folder_and_the_key_is_taken_back(state, tmp_path):
    with pictures.replayed(state) as (url, key):
        pictures.draw(url, key, tmp_path)

    for name, _, width, *_ in pictures.PICTURES:
        with Image.open(tmp_path / f"{name}.png") as picture:
            assert width == picture.width
    with opened(Settings(state=state, tracking_uri=f"sqlite:///{state / 'mlflow.db'}")) as context:
        (key,) = context.ledger.api_keys.all()
    assert key.revoked_at is not None


def test_a_folder_that_no_demo_made_is_refused_with_the_way_to_make_one(tmp_path):
    with pytest.raises(SettingsError, match="make demo"), pictures.replayed(tmp_path):
        pass
