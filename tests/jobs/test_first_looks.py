"""Accounts that traded for days before the service looked at them first."""

from datetime import timedelta
from types import SimpleNamespace

import pandas as pd
import pytest

from jobs import books
from jobs.accounts import equity
from jobs.live.risk import Live
from mlops.learn import STRATEGIES
from mlops.settings import Settings
from tests.jobs.accounts.test_equity import DAY, SECOND, T0, balance, fill, quote

KEY = f"balance_unexplained:direction:live:{T0 + 2 * DAY + SECOND:%Y-%m-%dT%H:%M:%S}"


@pytest.fixture
def context(sqlite_ledger):
    """A bot that bought four at 100, which were 90 at the close with its first balance, and are 80."""
    context = SimpleNamespace(ledger=sqlite_ledger, settings=Settings(), run_id=None)
    fill(context, 4, 100.0)
    days = pd.DatetimeIndex([T0 + i * DAY for i in range(3)])
    bars = pd.DataFrame({"event_time": days, "known_at": days, "symbol": "A", "close": [100.0, 90.0, 80.0]})
    books.advance(context, STRATEGIES["direction"], bars, days[-1].to_pydatetime())
    balance(context, 960.0, T0 + DAY)
    return context


def look(context, live, at):
    quote(context, 80.0, at)
    found = live.look(at)
    equity.tell(context, found.accounts, at)
    return found.state


def told(context):
    return [one for one in context.ledger.alerts.newest() if one.key.startswith("balance")]


def test_what_went_before_the_first_look_is_told_and_is_no_loss(context):
    balance(context, 600.0, T0 + 2 * DAY + SECOND)
    live, at = Live(context), T0 + 2 * DAY + 2 * SECOND
    state = look(context, live, at)

    (alert,) = told(context)
    assert (KEY, pytest.approx(320.0)) == (alert.key, alert.details["less"])
    assert "320.00 less than its first balance and its trades since explain" in alert.title
    assert 600.0 == pytest.approx(state.kpi.equity)
    look(context, live := Live(context), at + SECOND)
    assert [KEY] == [one.key for one in told(context)], "once, also after a restart"

    balance(context, 640.0, T0 + DAY + 2 * SECOND, flow=-320.0)
    assert 600.0 == pytest.approx(look(context, live, at + 12 * SECOND).kpi.equity)
    assert [] == told(context)


@pytest.mark.parametrize("amount", [920.0, 2000.0])
def test_what_trades_explain_and_what_is_more_is_not_told(context, amount):
    balance(context, amount, T0 + 2 * DAY + SECOND)

    assert amount == pytest.approx(look(context, Live(context), T0 + 2 * DAY + 2 * SECOND).kpi.equity)
    assert [] == told(context)


def test_an_alert_that_a_person_closed_stays_closed(context):
    balance(context, 600.0, T0 + 2 * DAY + SECOND)
    live, at = Live(context), T0 + 2 * DAY + 2 * SECOND
    look(context, live, at)
    context.ledger.alerts.resolve(KEY, at)
    look(context, live, at + timedelta(seconds=12))

    assert [] == told(context)
