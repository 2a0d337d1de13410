"""A book that lost all that it had, or more, and still holds something: beyond every line, not unknown."""

from contextlib import nullcontext
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace

import pandas as pd
import pytest
from typer.testing import CliRunner

from jobs.accounts import balances
from jobs.live.risk import Live
from jobs.live.risk_limits import act
from mlops.settings import BookBalance, BookSettings, RiskLimit, RiskSettings, Settings
from mlops.types import TradingState

T0, S = datetime(2026, 3, 2, 15, tzinfo=UTC), timedelta(seconds=1)
MEASURES = ("gross", "leverage", "net", "concentration", "var", "es")
LINES = tuple(RiskLimit(measure=name, warning=4, soft=8, hard=50) for name in MEASURES)


@pytest.fixture
def context(sqlite_ledger):
    books = BookSettings(balances=(BookBalance(amount=1e6),))
    settings = Settings(risk=RiskSettings(limits=LINES), books=books)
    return SimpleNamespace(ledger=sqlite_ledger, settings=settings, run_id=None)


def fill(context, quantity, price, at):
    row = {"fill_id": f"{at}", "model": "direction", "version": 1, "book": "live", "unit": "A", "event_time": at}
    context.ledger.telemetry.add_fills(
        pd.DataFrame([row | {"quantity": float(quantity), "price": float(price), "fee": 0.0}])
    )


def quote(context, price, at):
    row = {"unit": "A", "event_time": at, "known_at": at, "bid": price, "ask": price, "bid_size": 0.0, "ask_size": 0.0}
    context.ledger.quotes.add(pd.DataFrame([row]))


@pytest.mark.parametrize("last", [80.0, 75.0])
def test_five_times_its_equity_and_all_of_it_lost_tightens(context, last):
    fill(context, 50_000, 100.0, T0 - S)
    live, at, state = Live(context), T0, TradingState.ACTIVE
    for price in [*range(100, int(last), -1), *[last] * 12]:
        quote(context, float(price), at)
        look = live.look(at)
        state, at = act(context, look.findings, at, unknown=look.unknown), at + S

    stood = {f.name: f.params["state"].value for f in look.findings}
    assert last * 50_000 - 4e6 == look.state.kpi.equity
    assert dict.fromkeys(MEASURES, "hard") == stood
    assert TradingState.ACTIVE is not state
    row = look.state.limits["gross:all"]
    assert (None, "hard") == (row.value, row.state)
    assert "nothing to hold exposure against" in row.why
    assert "something is held" in look.state.limits["var:all"].why

    fill(context, -50_000, last, at)
    flat = live.look(at + S)

    assert {"unknown"} == {f.params["state"].value for f in flat.findings if f.name != "daily_loss"}


def balance(context, amount, at):
    row = {"model": "direction", "book": "live", "event_time": at, "known_at": at, "amount": amount, "flow": 0.0}
    context.ledger.balances.add(pd.DataFrame([row]))


@pytest.mark.parametrize("amount", [0.0, -500.0])
@pytest.mark.parametrize("first", [None, 1000.0])
def test_an_account_that_owes_more_than_it_has_is_beyond_every_line(context, amount, first):
    context.settings = context.settings.model_copy(update={"books": BookSettings()})
    fill(context, 4, 100.0, T0 - S)
    if first is not None:
        balance(context, first, T0 - S)
    live = Live(context)
    live.look(T0)
    balance(context, amount, T0 + S)
    look = live.look(T0 + 12 * S)

    assert amount == look.state.kpi.equity
    assert {"hard"} == {one.params["state"].value for one in look.findings if one.name in MEASURES}
    assert TradingState.ACTIVE is not act(context, look.findings, T0 + 12 * S, unknown=look.unknown)
    assert look.state.kpi.drawdown.now == (None if first is None else 1 - amount / first)


def test_a_person_confirms_a_debt(context, monkeypatch):
    context.settings = context.settings.model_copy(update={"books": BookSettings()})
    now = datetime.now(UTC)
    fill(context, 4, 100.0, now - 9 * S)
    balance(context, -500.0, now - 8 * S)
    monkeypatch.setattr(balances, "opened", lambda: nullcontext(context))
    asked = CliRunner().invoke(balances.app, ["confirm", "direction", "-500", "--reason", "a margin loan"])

    assert (0, "direction/live: -500.00 is confirmed.") == (asked.exit_code, asked.output.strip())
    assert [-500.0, -500.0] == [
        one.amount for one in context.ledger.balances.of("direction", "live", as_of=now + 99 * S)
    ]
