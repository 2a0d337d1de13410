"""What no door lets in: fills of days ahead, and books without end."""

from datetime import UTC, datetime, timedelta

import pandas as pd
import pytest

from jobs.house import opened
from mlops.errors import DataError
from mlops.settings import ServiceSettings, Settings
from registry_hooks import account


def frame(*rows):
    plain = {"model": "direction", "version": 1, "unit": "A", "quantity": 1.0, "price": 1.0, "fee": 0.0}
    return pd.DataFrame([plain | {"book": "live", "event_time": datetime.now(UTC)} | row for row in rows])


@pytest.mark.parametrize("ahead", [timedelta(days=2), timedelta(days=40_000)])
def test_python_refuses_a_fill_of_days_ahead(sqlite_ledger, ahead):
    rows = frame({"fill_id": "good"}, {"fill_id": "far", "event_time": datetime.now(UTC) + ahead})

    with pytest.raises(DataError, match="event_time of a fill must lie before"):
        sqlite_ledger.add_fills(rows)
    assert [] == sqlite_ledger.traded_models()

    assert 1 == sqlite_ledger.add_fills(rows.head(1).assign(event_time=datetime.now(UTC) + timedelta(hours=1)))


@pytest.mark.parametrize("door", ["jobs", "bot"])
def test_python_opens_no_more_books_than_http_does(tmp_path, door):
    settings = Settings(
        state=tmp_path, tracking_uri=f"sqlite:///{tmp_path}/m.db", service=ServiceSettings(max_books=2, max_books_all=3)
    )
    house = opened(settings) if door == "jobs" else None
    ledger = house.__enter__().ledger if house else account.connect(settings).ledger
    try:
        ledger.add_fills(frame({"fill_id": "1", "book": "a"}, {"fill_id": "2", "book": "b"}))
        with pytest.raises(DataError, match="books of direction must be at most 2, got one more: 'c'"):
            ledger.add_fills(frame({"fill_id": "3", "book": "c"}))
        ledger.add_fills(frame({"fill_id": "4", "book": "a"}))
        ledger.add_fills(frame({"fill_id": "5", "model": "volatility", "book": "a"}))
        with pytest.raises(DataError, match="books of all models must be at most 3"):
            ledger.add_fills(frame({"fill_id": "6", "model": "volatility", "book": "b"}))
    finally:
        house.__exit__(None, None, None) if house else ledger.close()
