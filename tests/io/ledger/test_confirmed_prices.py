"""Prices that a person confirmed, and breaches that a person accepted with a change of the trading state."""

from datetime import UTC, datetime, timedelta

import pandas as pd
import pytest

from mlops.errors import DataError

T0 = datetime(2026, 3, 2, 15, tzinfo=UTC)


def test_the_last_price_that_a_person_confirmed_holds_and_the_log_keeps_all(ledger):
    for i, price in enumerate((50.0, 49.0)):
        ledger.confirmed_prices.add("A", price, "ada", "2 for 1 split", T0 + timedelta(hours=i))
    ledger.confirmed_prices.add("B", 1.0, "bob", "delisted", T0)

    assert {"A": (50.0, T0), "B": (1.0, T0)} == ledger.confirmed_prices.last(as_of=T0 + timedelta(minutes=1))
    assert (49.0, T0 + timedelta(hours=1)) == ledger.confirmed_prices.last(as_of=T0 + timedelta(days=1))["A"]
    assert {} == ledger.confirmed_prices.last(as_of=T0 - timedelta(seconds=1))
    assert [("A", 50.0), ("A", 49.0), ("B", 1.0)] == [(one.unit, one.price) for one in ledger.confirmed_prices.log()]


@pytest.mark.parametrize(
    ("unit", "price", "actor", "reason"),
    [("A", float("nan"), "a", "r"), ("A", float("inf"), "a", "r"), (" ", 1.0, "a", "r"), ("A", 1.0, "", "r"),
     ("A", 1.0, "a", " ")],
)  # fmt: skip
def test_a_confirmation_without_a_price_a_name_or_a_reason_is_refused(sqlite_ledger, unit, price, actor, reason):
    with pytest.raises(DataError, match="must"):
        sqlite_ledger.confirmed_prices.add(unit, price, actor, reason, T0)


def test_what_a_person_accepted_is_kept_with_the_change_of_state(ledger):
    ledger.trading.set("halted", "jobs.risk_limits", "drawdown", T0)
    ledger.trading.set("active", "ada", "seen", T0, accepted={"drawdown:all": 0.22})

    assert [None, {"drawdown:all": 0.22}] == [change.accepted for change in ledger.trading.log()]


def test_quotes_until_an_instant_are_those_of_the_last_seconds_and_three_before(ledger):
    def put(seconds, price, late=0):
        at, known = T0 + timedelta(seconds=seconds), T0 + timedelta(seconds=seconds + late)
        row = {"unit": "A", "event_time": at, "known_at": known, "bid": price, "ask": price}
        ledger.quotes.add(pd.DataFrame([row | {"bid_size": 0.0, "ask_size": 0.0}]))

    for seconds, late in ((0, 0), (1, 0), (2, 0), (3, 0), (4, 0), (8, 0), (9, 60), (10, 0), (11, 0)):
        put(seconds, 100.0 + seconds, late)
    at = T0 + timedelta(seconds=10)

    found = ledger.quotes.last("A", after=T0, until=at, span=timedelta(seconds=5), as_of=at)

    assert [102.0, 103.0, 104.0, 108.0, 110.0] == [bid for _, bid, _ in found]
    assert found[0][0] == T0 + timedelta(seconds=2)
    assert [] == ledger.quotes.last("B", after=T0, until=at, span=timedelta(seconds=5), as_of=at)
