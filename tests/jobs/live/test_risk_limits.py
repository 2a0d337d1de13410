"""Hard lines on risk: people are told once, the state only tightens, a person's decision holds."""

from datetime import UTC, datetime, timedelta
from types import SimpleNamespace

import pytest

from jobs.live import risk_limits
from jobs.live.risk_limits import act
from mlops.io.ledger import Ledger
from mlops.io.ledger.alerts import Alerts
from mlops.risk.limits import Line, Measured, judge
from mlops.settings import RiskSettings, Settings
from mlops.types import Priority, TradingState

T0, SECOND = datetime(2026, 3, 2, 15, tzinfo=UTC), timedelta(seconds=1)
DAY = timedelta(days=1)
LINES = (
    Line("var", 0.02, 0.03, 0.05, owner="ada"),
    Line("drawdown", 0.08, 0.12, 0.20),
    Line("var", 0.01, 0.015, 0.02, owner="bob", scope="trend"),
)
QUIET = {"var": 0.01, "drawdown": 0.01}


@pytest.fixture
def context(ledger):
    return SimpleNamespace(ledger=ledger, settings=Settings())


def look(context, at=T0, trend=0.0, **values):
    measured = [Measured(name, value) for name, value in (QUIET | values).items()]
    return act(context, judge(LINES, [*measured, Measured("var", trend, scope="trend")]), at)


def keys(context):
    return sorted(alert.key for alert in context.ledger.alerts.newest())


def told(context, key):
    return context.ledger.alerts.get(key)


def lift(context, at, state="active", **accepted):
    seen = {f"{name}:all": value for name, value in accepted.items()} or None
    assert context.ledger.trading.set(state, "ada", "the feed was wrong", at, accepted=seen)


def test_while_every_line_is_kept_nothing_happens(context):
    assert TradingState.ACTIVE is look(context)
    assert TradingState.ACTIVE is look(context, var=0.029)  # a warning is for the page

    assert [] == keys(context)
    assert [] == context.ledger.trading.log()


def test_a_soft_line_is_an_alert_that_closes_itself_under_the_warning_line_and_not_before(context):
    look(context, var=0.031)
    assert ["risk_limit:var:all:soft:1"] == keys(context)
    alert = told(context, "risk_limit:var:all:soft:1")
    assert Priority.HIGH is alert.priority
    assert "var 3.1 %, at or over the soft line of 3.0 % (hard: 5.0 %); ada answers for it" == alert.title

    for i, value in enumerate((0.029, 0.031, 0.021)):
        look(context, T0 + i * SECOND, var=value)
    assert ["risk_limit:var:all:soft:1"] == keys(context)

    look(context, T0 + 9 * SECOND, var=0.019)
    assert [] == keys(context)
    look(context, T0 + 10 * SECOND, var=0.031)
    assert ["risk_limit:var:all:soft:2"] == keys(context)


def test_a_hard_line_reduces_and_says_what_that_means(context):
    assert TradingState.REDUCING is look(context, var=0.051)

    (change,) = context.ledger.trading.log()
    assert (TradingState.REDUCING, "jobs.risk_limits") == (change.state, change.actor)
    assert (
        "REDUCING: no new positions; open ones may only shrink. Because var 5.1 %, at or over the hard line of 5.0 %"
        == change.reason
    )
    assert ["risk_limit:var:all:hard:1", "trading_state:1"] == keys(context)
    assert {Priority.CRITICAL} == {alert.priority for alert in context.ledger.alerts.newest()}
    assert change.reason == told(context, "trading_state:1").title
    assert ["alert", "trading_state", "alert"] == [event.kind for event in context.ledger.outbox.events(0)]


def test_it_is_told_and_set_once_however_often_it_is_looked_at(context):
    for i in range(5):
        assert TradingState.REDUCING is look(context, T0 + i * SECOND, var=0.051)

    assert 1 == len(context.ledger.trading.log())
    assert 3 == len(context.ledger.outbox.events(0))


def test_a_second_process_that_looks_at_the_same_moment_changes_nothing(context, url, monkeypatch):
    opened = Alerts._opened

    def raced(alerts, alert):
        monkeypatch.setattr(Alerts, "_opened", opened)
        with Ledger(url) as other:
            look(SimpleNamespace(ledger=other, settings=Settings()), T0 + SECOND, var=0.051)
        return opened(alerts, alert)

    monkeypatch.setattr(Alerts, "_opened", raced)
    assert TradingState.REDUCING is look(context, var=0.051)

    assert ["risk_limit:var:all:hard:1", "trading_state:1"] == keys(context)
    assert 1 == len(context.ledger.trading.log())


def test_what_a_person_sets_in_between_is_not_overwritten(context, monkeypatch):
    from mlops import policy

    decide = policy.on_risk

    def slow(state, breaches, now, **more):
        decision = decide(state, breaches, now, **more)
        context.ledger.trading.set("halted", "ada", "I saw it first", now)
        return decision

    monkeypatch.setattr(policy, "on_risk", slow)

    assert TradingState.HALTED is look(context, var=0.051)
    assert ["ada"] == [change.actor for change in context.ledger.trading.log()]


def test_going_back_under_the_line_loosens_nothing(context):
    look(context, var=0.051)
    assert TradingState.REDUCING is look(context, T0 + DAY, var=0.001)

    assert ["trading_state:1"] == keys(context)  # the measure's alert is closed; the state holds, and is told
    lift(context, T0 + 2 * DAY)
    assert TradingState.ACTIVE is look(context, T0 + 2 * DAY + SECOND)
    assert [] == keys(context)


def test_a_loss_halts_at_the_second_look_because_shrinking_wins_nothing_back(context):
    assert TradingState.REDUCING is look(context, drawdown=0.21)
    assert TradingState.REDUCING is look(context, T0 + 9 * SECOND, drawdown=0.21)
    assert TradingState.HALTED is look(context, T0 + 10 * SECOND, drawdown=0.21)

    assert "HALTED: no orders at all, not even to close; what is open stays open. Because drawdown" in (
        context.ledger.trading.log()[-1].reason
    )
    assert ["risk_limit:drawdown:all:hard:1", "trading_state:2"] == keys(context)


def test_one_bad_price_reduces_and_halts_nothing(context):
    look(context, drawdown=0.9)
    for i in range(1, 30):
        assert TradingState.REDUCING is look(context, T0 + i * SECOND, drawdown=0.01)


def test_a_breach_that_grows_or_stays_halts(context):
    look(context, var=0.051)
    assert TradingState.REDUCING is look(context, T0 + SECOND, var=0.0634)
    assert TradingState.HALTED is look(context, T0 + 2 * SECOND, var=0.0636)


def test_a_breach_that_outlasts_the_patience_halts(context):
    context.settings = Settings(risk=RiskSettings(patience_s=3600))
    look(context, var=0.051)
    assert TradingState.REDUCING is look(context, T0 + timedelta(minutes=59), var=0.051)
    assert TradingState.HALTED is look(context, T0 + timedelta(minutes=60), var=0.051)


def test_what_is_not_known_neither_tightens_nor_closes(context):
    look(context, var=0.051)
    assert TradingState.REDUCING is look(context, T0 + 9 * DAY, var=float("nan"))

    assert ["risk_limit:var:all:hard:1", "trading_state:1"] == keys(context)


def test_what_a_person_lifted_is_accepted_until_it_is_clearly_worse(context):
    look(context, drawdown=0.21)
    look(context, T0 + DAY, drawdown=0.21)
    lift(context, T0 + DAY + SECOND, drawdown=0.22)

    for i in range(2, 40):
        assert TradingState.ACTIVE is look(context, T0 + i * DAY, drawdown=0.22)
    assert ["risk_accepted:drawdown:all:3", "risk_limit:drawdown:all:hard:1"] == keys(context)
    assert (
        "ada lifted trading to active while drawdown:all stood at 110% of its hard line; accepted up to 135%"
        == told(context, "risk_accepted:drawdown:all:3").title
    )

    assert TradingState.ACTIVE is look(context, T0 + 50 * DAY, drawdown=0.269)
    assert TradingState.REDUCING is look(context, T0 + 51 * DAY, drawdown=0.271)
    assert ["risk_limit:drawdown:all:hard:2", "trading_state:4"] == keys(context)
    assert TradingState.HALTED is look(context, T0 + 52 * DAY, drawdown=0.271)


@pytest.mark.parametrize("later", [2.45, 0.271])
def test_what_stands_at_the_first_look_after_a_lift_is_not_what_the_person_saw(context, later):
    look(context, drawdown=0.21)
    look(context, T0 + DAY, drawdown=0.21)
    lift(context, T0 + DAY + SECOND, drawdown=0.22)

    assert TradingState.REDUCING is look(context, T0 + DAY + 2 * SECOND, drawdown=later)


def test_a_lift_without_a_look_accepts_no_more_than_what_crossed_the_line(context):
    look(context, drawdown=0.21)
    lift(context, T0 + SECOND)

    assert TradingState.ACTIVE is look(context, T0 + 2 * SECOND, drawdown=0.259)
    assert TradingState.REDUCING is look(context, T0 + 3 * SECOND, drawdown=0.261)


def test_a_breach_that_did_not_stand_when_a_person_lifted_is_a_new_one(context):
    look(context, drawdown=0.21, var=0.051)
    look(context, T0 + SECOND, drawdown=0.19, var=0.051)
    lift(context, T0 + 2 * SECOND, var=0.051)

    assert TradingState.ACTIVE is look(context, T0 + 3 * SECOND, drawdown=0.19, var=0.051)
    assert TradingState.REDUCING is look(context, T0 + 4 * SECOND, drawdown=0.201, var=0.051)


def test_what_was_accepted_and_is_over_begins_anew(context):
    look(context, var=0.051)
    lift(context, T0 + SECOND)
    look(context, T0 + 2 * SECOND, var=0.051)
    look(context, T0 + 3 * SECOND, var=0.019)
    assert [] == keys(context)

    assert TradingState.REDUCING is look(context, T0 + 4 * SECOND, var=0.051)


def test_a_person_may_lift_one_step_only(context):
    look(context, drawdown=0.21)
    look(context, T0 + DAY, drawdown=0.21)
    lift(context, T0 + DAY + SECOND, "reducing")

    assert TradingState.REDUCING is look(context, T0 + 9 * DAY, drawdown=0.21)
    assert ["risk_accepted:drawdown:all:3", "risk_limit:drawdown:all:hard:1"] == keys(context)


def test_an_acceptance_that_is_closed_by_hand_is_taken_back(context):
    look(context, var=0.051)
    lift(context, T0 + SECOND)
    look(context, T0 + 2 * SECOND, var=0.051)

    context.ledger.alerts.resolve("risk_accepted:var:all:2", T0 + 3 * SECOND)

    assert TradingState.REDUCING is look(context, T0 + 4 * SECOND, var=0.051)


def test_an_alert_that_is_closed_by_hand_while_accepted_is_told_again_and_stays_accepted(context):
    look(context, var=0.051)
    lift(context, T0 + SECOND)
    look(context, T0 + 2 * SECOND, var=0.051)

    context.ledger.alerts.resolve("risk_limit:var:all:hard:1", T0 + 3 * SECOND)

    assert TradingState.ACTIVE is look(context, T0 + 4 * SECOND, var=0.051)
    assert ["risk_accepted:var:all:2", "risk_limit:var:all:hard:2"] == keys(context)


def test_a_line_on_one_strategy_is_its_own_and_tightens_the_one_state(context):
    assert TradingState.REDUCING is look(context, trend=0.021)

    assert ["risk_limit:var:trend:hard:1", "trading_state:1"] == keys(context)
    assert "var of trend 2.1 %" in told(context, "trading_state:1").title


def test_the_settings_lines_are_lines_of_the_room():
    found = risk_limits.lines(Settings().risk.limits)

    assert ("var", 0.02, 0.03, 0.05, "desk", "all") == (
        found[0].measure,
        found[0].warning,
        found[0].soft,
        found[0].hard,
        found[0].owner,
        found[0].scope,
    )
    assert len(Settings().risk.limits) == len(found)
