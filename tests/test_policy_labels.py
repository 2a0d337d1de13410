"""What is decided while labels have stopped: nothing in favour of anybody, and what protects money goes on."""

from datetime import UTC, datetime

import pytest

from mlops import policy
from mlops.policy import Place
from mlops.types import Finding, Level, ModelRef, Report, Stage, Verdict

CHAMPION, OTHER = ModelRef("m", 1), ModelRef("m", 2)
GATES = (*policy.GATES, *policy.IN_SHADOW)
STOPPED = Finding("pending", 900.0, 0.0, Level.ALERT, 900, note="no outcome came of a bar after Monday")
SOME = Finding("pending", 9.0, 0.0, Level.WARN, 9, note="no outcome came of U1")


def _report(*more, **changed):
    gates = (Finding(name, 1.0, 0.0, changed.get(name, Level.OK), 100, note=f"{name} as noted") for name in GATES)
    return Report(CHAMPION, datetime(2007, 6, 1, tzinfo=UTC), (*gates, *more))


@pytest.mark.parametrize(("stage", "before"), [(Stage.AB, Verdict.PROMOTE), (Stage.SHADOW, Verdict.ADVANCE)])
def test_nobody_is_promoted_or_given_a_share_without_labels(stage, before):
    assert before is policy.on_comparison(_report(), OTHER, Place(stage)).verdict
    decision = policy.on_comparison(_report(STOPPED), OTHER, Place(stage))
    assert (Verdict.INCONCLUSIVE, CHAMPION) == (decision.verdict, decision.model)
    assert "labels have stopped" in decision.reason
    assert "pending: no outcome came of a bar after Monday" in decision.reason
    assert STOPPED in decision.because


def test_what_is_against_a_challenger_holds_and_takes_back_without_labels_too():
    worse = policy.on_comparison(_report(STOPPED, paired_log_loss=Level.ALERT), OTHER)
    assert (Verdict.HOLD, True) == (worse.verdict, STOPPED.note in worse.reason)
    assert Verdict.WITHDRAW is policy.on_comparison(_report(STOPPED, shadow_failures=Level.ALERT), OTHER).verdict


def test_a_new_champion_that_was_proven_worse_is_rolled_back_and_of_another_one_nothing_is_known():
    assert Verdict.ROLLBACK is policy.on_watch(_report(STOPPED), OTHER).verdict
    kept = policy.on_watch(_report(STOPPED, paired_log_loss=Level.UNKNOWN), OTHER)
    assert Verdict.INCONCLUSIVE is kept.verdict
    assert "whether it is worse is unknown: no outcome came" in kept.reason


def test_units_without_labels_are_named_beside_a_verdict():
    chart, drift = (Finding(name, 0.0, 1.0, Level.OK, 90, {"p_adjusted": 1.0}) for name in ("accuracy_change", "ks"))
    report = Report(CHAMPION, datetime(2007, 6, 1, tzinfo=UTC), (chart, drift, SOME))
    decision = policy.on_monitor(report, since_last_train_bars=100, cool_down_bars=60)
    assert Verdict.HOLD is decision.verdict
    assert decision.reason.endswith("Not looked at: no outcome came of U1.")
    waits = policy.on_comparison(_report(SOME, samples=Level.UNKNOWN), OTHER)
    assert waits.reason.endswith("Not looked at: no outcome came of U1.")
