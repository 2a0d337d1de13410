"""What an alarm of the monitor leads to: a person is told once, it is answered once, and then charted anew."""

from datetime import timedelta

import pytest

from benchmarks.simulated.platform import START, Platform, bar_at, platforms
from benchmarks.simulated.world import Law, World
from benchmarks.simulated.years import SATURDAY
from jobs.monitoring import alarms
from mlops.settings import ExperimentSettings, MonitorSettings, Settings
from mlops.types import Alert, Level, Priority, Verdict

MODEL = "m"
FALLS = Law(units=8, horizon=1, skill=0.65, fall=0.25, fall_at=40)
SETTINGS = Settings(
    monitor=MonitorSettings(window=200, cool_down_bars=20), experiment=ExperimentSettings(horizon_bars=252)
)


@pytest.fixture
def context():
    with platforms(SETTINGS) as opened:
        yield opened


def _platform(context, law=FALLS, bars=120):
    one = Platform(context, World(law, bars, 3), MODEL)
    one.begin()
    return one


def _told(context):
    """Oldest first."""
    return [
        alert
        for alert in context.ledger.alerts.newest(open_only=False)[::-1]
        if alert.key.startswith("alarm_accuracy:")
    ]


def _unanswered(context):
    return [
        alert for alert in context.ledger.alerts.newest(open_only=False) if alert.key.startswith("alarm_unanswered:")
    ]


def _standing(context, *bars):
    return [alarms.unanswered(context, MODEL, 1, bar_at(bar)) for bar in bars]


def _retrains(one):
    return [event.at for event in one.events if event.decision.verdict is Verdict.RETRAIN]


def test_an_alarm_that_is_newer_than_what_is_compared_is_told_and_answered(context):
    one = _platform(context)
    one.challenge(START - timedelta(hours=12))  # its comparison is open for all of the year
    one.run(80, ("monitor", "compare"))

    (alert, *_), (asked, *_) = _told(context), _retrains(one)
    assert bar_at(40) < alert.as_of == asked < bar_at(60)
    assert (Priority.HIGH, MODEL) == (alert.priority, alert.model)
    assert "the accuracy fell" in alert.title
    assert "v1" in alert.key


def test_while_the_answer_is_compared_no_other_one_is_asked_for(context):
    one = _platform(context)
    one.run(58, ("monitor", "compare"))
    assert 1 == len(_retrains(one))
    assert [1, 2] == [row.version for row in context.ledger.registry.bundles(MODEL)]
    assert not any(
        alert.key.startswith("alarm_accuracy:") for alert in context.ledger.alerts.newest()
    )  # it is answered


def test_a_model_that_is_trained_every_week_is_told_of_all_the_same(context):
    one = _platform(context)
    one.run(60, ("monitor", "compare"), also=[START + SATURDAY + timedelta(weeks=i) for i in range(12)])
    assert bar_at(40) < min(alert.as_of for alert in _told(context)) < bar_at(60)


def test_charts_start_at_a_promotion_and_at_no_training(context):
    one = _platform(context, Law(units=8, horizon=1))
    one.run(20, ("monitor",), also=[START + SATURDAY])
    champion = context.ledger.registry.promotions(MODEL)[-1]
    assert champion.created_at == alarms.start(context, MODEL, 1, bar_at(20))
    (chart,) = (f for f in one.findings() if f["name"] == "accuracy_change")
    assert 19 == chart["n"]


def test_charts_start_anew_where_a_person_was_told_and_the_alarm_stands_until_it_is_answered(context):
    one = _platform(context)
    began = context.ledger.registry.promotions(MODEL)[-1].created_at
    for bar in (10, 20):
        context.ledger.alerts.add(alarms.alarm("accuracy", MODEL, 1, bar_at(bar - 10), bar_at(bar)))
    first, second = _told(context)
    starts = [alarms.start(context, MODEL, 1, bar_at(bar)) for bar in (10, 11, 30)]
    assert [began, bar_at(10), bar_at(20)] == starts  # a look that is done again sees what it saw
    assert [None, first.key] == [found and found.key for found in _standing(context, 10, 11)]

    context.ledger.alerts.resolve(second.key, bar_at(22))
    context.ledger.alerts.resolve(first.key, bar_at(25))
    assert [second.key, first.key, None] == [found and found.key for found in _standing(context, 21, 23, 26)]

    context.ledger.alerts.add(alarms.alarm("accuracy", MODEL, 1, bar_at(20), bar_at(30)))
    one.challenge(bar_at(29))
    one.train(bar_at(31))  # newer, and compared with nothing
    assert [None] != _standing(context, 32)
    one.challenge(bar_at(31))
    assert [None] == _standing(context, 32)


def test_an_alarm_in_the_cool_down_is_answered_after_it(context):
    one = _platform(context)
    one.run(75, ("monitor",), also=[bar_at(38)])
    (asked,) = _retrains(one)
    assert bar_at(54) < asked < bar_at(60)  # 20 bars after the training
    told = _told(context)[0].as_of
    assert told < asked
    held = [e.decision.reason for e in one.events if told < e.at < asked]
    assert held
    assert all("is not answered, but the last training that led to a comparison is" in reason for reason in held)


def test_an_alarm_is_told_once_however_often_it_is_seen(context):
    one = _platform(context)
    at = bar_at(55) + timedelta(hours=1)
    for _ in range(2):
        (decision,) = one.decide("monitor", at)
        assert Verdict.RETRAIN is decision.verdict
    assert 1 == len(_told(context))


@pytest.mark.parametrize("refused", [False, True])
def test_a_version_that_is_compared_with_nothing_answers_nothing_and_a_person_is_told(context, refused):
    one = _platform(context)
    told = bar_at(55) + timedelta(hours=1)
    one.decide("monitor", told)
    idle = one.train(told + timedelta(hours=10))
    if refused:
        key = f"not_comparable:{MODEL}:v{idle.version}:v1"
        context.ledger.alerts.add(Alert(key, Priority.HIGH, MODEL, "no challenger: horizon", told))
    looks = [told + timedelta(weeks=week) for week in (1, 2)]
    decisions = [one.decide("monitor", at)[0] for at in looks]

    assert [Verdict.RETRAIN] * 2 == [decision.verdict for decision in decisions]  # no cool-down runs from it
    (alert,) = _unanswered(context)
    assert looks[0] == alert.as_of  # told once
    said = "v2 was refused (no challenger: horizon)" if refused else "v2 was not nominated"
    assert f"Trained since and compared with nothing: {said}." in alert.title
    assert alert.title.endswith(decisions[0].reason)
    assert _told(context)[0].closed_at is None

    one.challenge(looks[1] + timedelta(hours=10))
    (held,) = one.decide("monitor", looks[1] + timedelta(weeks=1))
    assert Verdict.HOLD is held.verdict
    assert [looks[1] + timedelta(weeks=1)] * 2 == [a.closed_at for a in (_told(context)[0], *_unanswered(context))]


def test_a_person_who_closes_the_alarm_closes_what_was_trained_in_vain(context):
    one = _platform(context)
    told = bar_at(55) + timedelta(hours=1)
    one.decide("monitor", told)
    one.train(told + timedelta(hours=10))
    one.decide("monitor", told + timedelta(weeks=1))
    assert [None] == [alert.closed_at for alert in _unanswered(context)]
    (alarm,) = _told(context)
    context.ledger.alerts.resolve(alarm.key, told + timedelta(weeks=1, hours=1))
    one.decide("monitor", told + timedelta(weeks=1, hours=2))
    assert [] == [alert for alert in context.ledger.alerts.newest() if alert.key.startswith("alarm_unanswered:")]


def test_a_transition_that_was_undone_starts_no_chart(context):
    one = _platform(context, Law(units=8, horizon=1))
    one.train(bar_at(2))
    entry = context.ledger.registry.append_promotion(
        MODEL, expected=1, to=2, kind="promote", actor="a", reason="r", evidence_run="", correlation_id="", at=bar_at(3)
    )
    context.ledger.registry.settle_promotion(entry.id, "undone", bar_at(3))
    assert context.ledger.registry.promotions(MODEL)[0].created_at == alarms.start(context, MODEL, 1, bar_at(9))


def test_a_quiet_model_tells_nobody(context):
    one = _platform(context, Law(units=8, horizon=1))
    one.run(40, ("monitor",))
    assert not _told(context)
    assert {Level.OK.value} >= {f["finding_level"] for f in one.findings() if f["name"] == "accuracy_change"}
