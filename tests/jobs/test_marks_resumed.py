"""Prices that moved while nobody looked are followed as they came, however long the service was away."""

from datetime import UTC, datetime, timedelta
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from jobs.live.risk import Live
from jobs.live.risk_limits import act
from jobs.portfolio import confirmed_prices
from mlops.settings import BookBalance, BookSettings, Settings
from mlops.types import TradingState

T0, S, MINUTE = datetime(2026, 3, 2, 15, tzinfo=UTC), timedelta(seconds=1), timedelta(minutes=1)


@pytest.fixture
def context(sqlite_ledger):
    settings = Settings(books=BookSettings(balances=(BookBalance(amount=1e6),)))
    found = SimpleNamespace(ledger=sqlite_ledger, settings=settings, run_id=None)
    row = {"fill_id": "a", "model": "direction", "version": 1, "book": "live", "unit": "A", "event_time": T0 - S}
    found.ledger.telemetry.add_fills(pd.DataFrame([row | {"quantity": 9000.0, "price": 100.0, "fee": 0.0}]))
    return found


def quotes(context, prices, start, step):
    at = [start + i * step for i in range(len(prices))]
    told = pd.DataFrame({"event_time": at, "known_at": at, "bid": prices, "ask": prices})
    context.ledger.quotes.add(told.assign(unit="A", bid_size=0.0, ask_size=0.0))
    return at[-1]


def up_again(context, at, price=50.0):
    """The price and the state of trading after looks a second at one price, by a service that has just begun."""
    live = Live(context)
    for i in range(1, 20):
        quotes(context, [price], at + i * S, S)
        look = live.look(at + i * S)
        act(context, look.findings, look.state.as_of, unknown=look.unknown)
    return look.state.positions["direction/live/A"].price, context.ledger.trading.state(), look


@pytest.mark.parametrize(("n", "step"), [(60, MINUTE), (600, 6 * S), (60, 20 * MINUTE)])
def test_a_slide_to_half_while_the_service_was_down_is_no_split(context, n, step):
    quotes(context, [100.0], T0, S)
    Live(context).look(T0)
    at = quotes(context, np.geomspace(100, 50, n), T0 + S, step) + MINUTE

    price, trading, look = up_again(context, at)

    assert 50.0 == pytest.approx(price)
    assert {} == dict(look.jumps)
    assert 550_000 == pytest.approx(look.state.kpi.equity)
    assert TradingState.HALTED is trading


def test_a_fall_to_half_at_once_while_the_service_was_down_still_waits_for_a_person(context):
    quotes(context, [100.0], T0, S)
    Live(context).look(T0)
    at = quotes(context, [100.0] * 60 + [50.0] * 60, T0 + S, S)

    price, trading, look = up_again(context, at)

    assert (100.0, 2.0) == (price, look.jumps["A"].split)
    assert TradingState.ACTIVE is trading


def test_of_many_quotes_the_newest_are_followed_one_by_one_and_all_others_in_steps(context, monkeypatch):
    monkeypatch.setattr(confirmed_prices, "STEPS", 100)
    told = [confirmed_prices.Observation(T0 + i * S, 1.0, 1.0) for i in range(1000)]

    kept = confirmed_prices._thinned(told)

    assert told[-60:] == kept[-60:]
    assert len(kept) <= 100 + 61
    assert told[0] == kept[0]
    assert [] == confirmed_prices._thinned([])
