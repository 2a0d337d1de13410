"""Labels that stop: the monitor and the comparison say that they do not know, and a person is told until they come."""

from dataclasses import replace
from datetime import timedelta

import pandas as pd
import pytest

from benchmarks.simulated.platform import START, Platform, bar_at, platforms
from benchmarks.simulated.world import Law, World
from jobs import monitor
from jobs.monitoring import overdue_labels
from mlops.settings import MonitorSettings, Settings
from mlops.types import Finding, Level, Priority, Verdict

MODEL, STOP = "m", 40
SETTINGS = Settings(monitor=MonitorSettings(window=200))


class Unlabelled(Platform):
    """A platform whose outcomes end at bar STOP, for some units or for all; `resume` brings the others."""

    units = 8
    kept = None

    def _outcomes(self):
        held, add = [], self.context.ledger.telemetry.add_outcomes
        self.context.ledger.telemetry.add_outcomes = held.append
        super()._outcomes()
        self.context.ledger.telemetry.add_outcomes = add
        (rows,) = held
        lost = (rows["event_time"] >= bar_at(STOP)) & (rows["unit"] < f"U{self.units:03d}")
        self.kept = rows[lost]
        add(rows[~lost])

    def resume(self, at):
        late = self.kept.assign(known_at=self.kept["known_at"].clip(lower=pd.Timestamp(at)))
        self.context.ledger.telemetry.add_outcomes(late)

    def look(self, bar, job="monitor"):
        return self.decide(job, bar_at(bar) + timedelta(hours=1))[0]

    def found(self):
        return {f["name"]: f for f in self.findings()}


@pytest.fixture
def context():
    with platforms(SETTINGS) as opened:
        yield opened


def _begun(context, units=8):
    one = Unlabelled(context, World(Law(units=8, horizon=1, fall=0.25, fall_at=STOP), 160, 3), MODEL)
    one.units = units
    one.begin()
    return one


def _told(context):
    return [a for a in context.ledger.alerts.newest(open_only=False) if a.key.startswith(overdue_labels.KINDS)]


def test_labels_that_stop_leave_the_accuracy_unknown_and_a_person_is_told_once(context):
    one = _begun(context)
    assert Verdict.HOLD is one.look(STOP).verdict
    assert [] == _told(context)

    for bar in (60, 150):
        decision, found = one.look(bar), one.found()
        assert Verdict.INCONCLUSIVE is decision.verdict
        assert "no outcome came of a bar after 2007-07-27" in decision.reason
        assert "would have been seen" not in decision.reason
        assert {"unknown"} == {found[n]["finding_level"] for n in ("accuracy_change", "chart_power", "layer_verdict")}
        assert Level.ALERT.value == found["pending"]["finding_level"]
        assert "labels have stopped" in found["layer_verdict"]["note"]
    (alert,) = _told(context)
    assert (Priority.HIGH, None) == (alert.priority, alert.closed_at)
    assert alert.title.startswith(f"{MODEL}: no outcome came of a bar after 2007-07-27")


def test_labels_that_come_late_close_the_alert_and_show_the_fall(context):
    one = _begun(context)
    one.look(60)
    one.resume(bar_at(70))
    decision = one.look(75)
    (alert,) = _told(context)
    assert bar_at(75) + timedelta(hours=1) == alert.closed_at
    assert "the accuracy fell" in decision.reason


def test_outcomes_of_some_units_only_are_told_and_said_beside_what_silence_is_worth(context):
    one = _begun(context, units=2)
    decision = one.look(60)
    (alert,) = _told(context)
    assert (Priority.MEDIUM, {"units": "U000,U001"}) == (alert.priority, alert.details)
    assert "of 2 of 8 units (U000, U001) no outcome came of a bar after 2007-07-27" in alert.title
    assert Level.WARN.value == one.found()["pending"]["finding_level"]
    assert Level.UNKNOWN.value != one.found()["accuracy_change"]["finding_level"]
    assert Verdict.INCONCLUSIVE is not decision.verdict


def test_the_cool_down_goes_on_while_labels_are_away(context):
    _begun(context)
    before, after = (monitor._bars_since(context, MODEL, START, bar_at(bar)) for bar in (STOP, STOP + 60))
    assert 60 == after - before


def test_a_chart_that_is_not_quiet_stays_so_without_labels():
    stopped = Finding("pending", 9.0, 0.0, Level.ALERT, 9, note="no outcome came")
    alarm = Finding("accuracy_change", 9.0, 3.0, Level.ALERT, 90)
    assert alarm == overdue_labels.unknown(alarm, stopped)
    assert Level.UNKNOWN is overdue_labels.unknown(replace(alarm, level=Level.OK), stopped).level


def test_a_comparison_without_new_labels_is_inconclusive_and_says_why(context):
    one = _begun(context)
    one.challenge(START - timedelta(hours=12))
    decision = one.look(100, "compare")
    assert Verdict.INCONCLUSIVE is decision.verdict
    assert "labels have stopped" in decision.reason
    assert "no outcome came of a bar after 2007-07-27" in decision.reason
