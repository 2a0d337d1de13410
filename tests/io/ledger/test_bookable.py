"""What no door lets in: fills of days ahead, books without end, prices below zero of what is worth something."""

import math
from datetime import UTC, datetime, timedelta

import pandas as pd
import pytest

from jobs.context import opened
from mlops.errors import DataError
from mlops.io.ledger import Instrument
from mlops.io.storage.insert import fill_rows, quote_rows
from mlops.settings import ServiceSettings, Settings
from mlops.types import Kind
from registry_hooks import account

T0 = datetime(2026, 3, 2, 15, tzinfo=UTC)


def frame(*rows):
    plain = {"model": "direction", "version": 1, "unit": "A", "quantity": 1.0, "price": 1.0, "fee": 0.0}
    return pd.DataFrame([plain | {"book": "live", "event_time": datetime.now(UTC)} | row for row in rows])


@pytest.mark.parametrize("ahead", [timedelta(days=2), timedelta(days=40_000)])
def test_python_refuses_a_fill_of_days_ahead(sqlite_ledger, ahead):
    rows = frame({"fill_id": "good"}, {"fill_id": "far", "event_time": datetime.now(UTC) + ahead})

    with pytest.raises(DataError, match="event_time of a fill must lie before"):
        sqlite_ledger.telemetry.add_fills(rows)
    assert [] == sqlite_ledger.risk.traded_models()

    assert 1 == sqlite_ledger.telemetry.add_fills(
        rows.head(1).assign(event_time=datetime.now(UTC) + timedelta(hours=1))
    )


@pytest.mark.parametrize("door", ["jobs", "bot"])
def test_python_opens_no_more_books_than_http_does(tmp_path, door):
    settings = Settings(
        state=tmp_path, tracking_uri=f"sqlite:///{tmp_path}/m.db", service=ServiceSettings(max_books=2, max_books_all=3)
    )
    context = opened(settings) if door == "jobs" else None
    ledger = context.__enter__().ledger if context else account.connect(settings).ledger
    try:
        ledger.telemetry.add_fills(frame({"fill_id": "1", "book": "a"}, {"fill_id": "2", "book": "b"}))
        with pytest.raises(DataError, match="books of direction must be at most 2, got one more: 'c'"):
            ledger.telemetry.add_fills(frame({"fill_id": "3", "book": "c"}))
        ledger.telemetry.add_fills(frame({"fill_id": "4", "book": "a"}))
        ledger.telemetry.add_fills(frame({"fill_id": "5", "model": "volatility", "book": "a"}))
        with pytest.raises(DataError, match="books of all models must be at most 3"):
            ledger.telemetry.add_fills(frame({"fill_id": "6", "model": "volatility", "book": "b"}))
    finally:
        context.__exit__(None, None, None) if context else ledger.close()


@pytest.fixture
def four(sqlite_ledger):
    """A share, a unit that nothing is known of, a future, an option."""
    end = datetime.now(UTC) + timedelta(days=30)
    put = Instrument("P", Kind.PUT, multiplier=100.0, underlying="A", strike=10.0, expiry=end)
    sqlite_ledger.instruments.put([Instrument("A"), Instrument("F", Kind.FUTURE, multiplier=1_000.0), put], T0)
    return sqlite_ledger


@pytest.mark.parametrize(("price", "of"), [(3.0, "AUFP"), (0.0, "FP"), (-37.63, "F"), (-1e-9, "F")])
@pytest.mark.parametrize("unit", ["A", "U", "F", "P"])
def test_only_a_future_is_traded_below_zero_and_only_it_and_an_option_at_zero(four, unit, price, of):
    rows = frame({"fill_id": "good"}, {"fill_id": "x", "unit": unit, "price": price})
    if unit in of:
        assert 2 == four.telemetry.add_fills(rows)
        return
    with pytest.raises(DataError, match=f"price of {unit} must be positive .* got {price}. .*instrument load"):
        four.telemetry.add_fills(rows)
    assert [] == four.risk.traded_models(), "nothing of it is stored"
    assert [1] == list(four.telemetry.unbookable(fill_rows(rows)))


@pytest.mark.parametrize(
    ("bid", "ask", "of"),
    [(1.0, 1.1, "AUFP"), (0.0, 0.05, "AUFP"), (0.0, 0.0, "F"), (-0.01, 0.02, "F"), (-37.7, -37.6, "F"), (-1, 0, "F")],
)
@pytest.mark.parametrize("unit", ["A", "U", "F", "P"])
def test_only_a_future_is_quoted_below_zero_and_a_bid_of_zero_is_anyones(four, unit, bid, ask, of):
    about = {"event_time": T0, "known_at": T0, "bid_size": 0.0, "ask_size": 0.0}
    rows = pd.DataFrame([about | {"unit": "A", "bid": 1.0, "ask": 2.0}, about | {"unit": unit, "bid": bid, "ask": ask}])
    rows.loc[1, "event_time"] = rows.loc[1, "known_at"] = T0 + timedelta(seconds=1)
    if unit in of:
        assert 2 == four.quotes.add(rows)
        return
    with pytest.raises(DataError, match=rf"(bid|ask) of {unit} must be .* got .*instrument load"):
        four.quotes.add(rows)
    assert {} == four.quotes.latest_times()
    assert [1] == list(four.telemetry.unbookable(quote_rows(rows)))


@pytest.mark.parametrize("price", [math.nan, math.inf, -math.inf, -1e20, 1e20])
def test_no_price_of_anything_is_past_all_numbers(four, price):
    with pytest.raises(DataError, match="price of fills must be"):
        four.telemetry.add_fills(frame({"fill_id": "x", "unit": "F", "price": price}))


def test_the_value_of_a_fill_below_zero_has_its_bound_too(four):
    with pytest.raises(DataError, match="value of a fill of F must be under"):
        four.telemetry.add_fills(frame({"fill_id": "x", "unit": "F", "price": -1e9, "quantity": 1e9}))
