"""A book that lost all that it had, or more, and still holds something: beyond every line, not unknown."""

from datetime import UTC, datetime, timedelta
from types import SimpleNamespace

import pandas as pd
import pytest

from jobs.live import Live
from jobs.risk_limits import act
from mlops.settings import BookBalance, BookSettings, RiskLimit, RiskSettings, Settings
from mlops.types import TradingState

T0, S = datetime(2026, 3, 2, 15, tzinfo=UTC), timedelta(seconds=1)
MEASURES = ("gross", "leverage", "net", "concentration", "var", "es")
LINES = tuple(RiskLimit(measure=name, warning=4, soft=8, hard=50) for name in MEASURES)


@pytest.fixture
def house(sqlite_ledger):
    books = BookSettings(balances=(BookBalance(amount=1e6),))
    settings = Settings(risk=RiskSettings(limits=LINES), books=books)
    return SimpleNamespace(ledger=sqlite_ledger, settings=settings, run_id=None)


def fill(house, quantity, price, at):
    row = {"fill_id": f"{at}", "model": "direction", "version": 1, "book": "live", "unit": "A", "event_time": at}
    house.ledger.add_fills(pd.DataFrame([row | {"quantity": float(quantity), "price": float(price), "fee": 0.0}]))


def quote(house, price, at):
    row = {"unit": "A", "event_time": at, "known_at": at, "bid": price, "ask": price, "bid_size": 0.0, "ask_size": 0.0}
    house.ledger.add_quotes(pd.DataFrame([row]))


@pytest.mark.parametrize("last", [80.0, 75.0])
def test_five_times_its_equity_and_all_of_it_lost_tightens(house, last):
    fill(house, 50_000, 100.0, T0 - S)
    live, at, state = Live(house), T0, TradingState.ACTIVE
    for price in [*range(100, int(last), -1), *[last] * 12]:
        quote(house, float(price), at)
        look = live.look(at)
        state, at = act(house, look.findings, at, unknown=look.unknown), at + S

    stood = {f.name: f.params["state"].value for f in look.findings}
    assert last * 50_000 - 4e6 == look.state.kpi.equity
    assert dict.fromkeys(MEASURES, "hard") == stood
    assert TradingState.ACTIVE is not state
    row = look.state.limits["gross:all"]
    assert (None, "hard") == (row.value, row.state)
    assert "nothing to hold exposure against" in row.why
    assert "something is held" in look.state.limits["var:all"].why

    fill(house, -50_000, last, at)
    flat = live.look(at + S)

    assert {"unknown"} == {f.params["state"].value for f in flat.findings if f.name != "daily_loss"}
