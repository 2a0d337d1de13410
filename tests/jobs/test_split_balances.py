"""What accounts are worth around a split that is told late."""

from types import SimpleNamespace

import pandas as pd
import pytest

from jobs import books
from jobs.live.risk import Live
from mlops.settings import Settings
from tests.jobs.portfolio.test_splits import DAY, HOUR, OPEN, SECOND, STRATEGY, T0, bars, book, fill, quote


@pytest.fixture
def context(sqlite_ledger):
    """A bot that holds A through a 2 for 1 split."""
    context = SimpleNamespace(ledger=sqlite_ledger, settings=Settings(), run_id=None, client=None)
    fill(context, "A", 1000.0, 100.0, T0)
    fill(context, "B", 10.0, 20.0, T0)
    return context


@pytest.mark.parametrize("looked", [False, True], ids=["seen after the split was told", "seen before"])
@pytest.mark.parametrize("barred", [False, True])
@pytest.mark.parametrize("lost", [0.0, 5e4])
def test_a_balance_told_before_a_late_split_is_of_its_own_instant(context, looked, barred, lost):
    told = {"model": "direction", "book": "live", "event_time": OPEN - HOUR, "known_at": OPEN - HOUR, "flow": 0.0}
    context.ledger.balances.add(pd.DataFrame([told | {"amount": 1e6}]))
    live = Live(context)
    for i in range(3):
        quote(context, "A", 100.0, OPEN - HOUR + i * SECOND)
        live.look(OPEN - HOUR + i * SECOND)
    for i in range(12):
        end = OPEN + i * SECOND
        quote(context, "A", 50.0, end)
        live.look(end)
    if barred:
        end = T0 + DAY
        books.advance(context, STRATEGY, bars(A=[100.0, 50.0], B=[20.0] * 2), end)
    told |= {"event_time": end + SECOND, "known_at": end + SECOND, "amount": 1e6 - lost}
    context.ledger.balances.add(pd.DataFrame([told]))
    if looked:
        live.look(end + 12 * SECOND)
    book(context, at=OPEN, now=end + 13 * SECOND)
    for second in (14, 25, 36):
        state = live.look(end + second * SECOND).state

    assert 1e6 - lost == pytest.approx(state.kpi.equity, abs=1.0)
    assert lost / 1e6 == pytest.approx(state.kpi.drawdown.now, abs=1e-6)
