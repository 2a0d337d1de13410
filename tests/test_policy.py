from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from mlops import policy
from mlops.policy import CONFIRM, Place
from mlops.types import Decision, Finding, Level, ModelRef, Report, Stage, TradingState, Verdict

CHAMPION, OTHER = ModelRef("volatility", 1, "champion"), ModelRef("volatility", 2, "challenger")
WHEN = {"since_last_train_bars": 100, "cool_down_bars": 60}


def _report(*findings):
    return Report(CHAMPION, datetime(2007, 6, 1, tzinfo=UTC), findings)


def _finding(name, level=Level.OK, subject=""):
    return Finding(name, 1.0, 0.0, level, 100, {"p_adjusted": 0.01} if subject else {}, subject, f"{name} as noted")


def _gates(**changed):
    names = ("paired_log_loss", "skill", "samples", "trading", "pairing", "drawdown", "srm")
    return _report(*(_finding(name, changed.get(name, Level.OK)) for name in names))


def _drift(alarmed, of=8):
    return [_finding("ks", Level.ALERT if i < alarmed else Level.OK, f"f{i}") for i in range(of)]


def test_a_change_of_accuracy_asks_for_a_retrain():
    decision = policy.on_monitor(_report(_finding("accuracy_change", Level.ALERT)), **WHEN)
    assert (Verdict.RETRAIN, CHAMPION, CHAMPION) == (decision.verdict, decision.model, decision.against)
    assert "accuracy_change as noted" in decision.reason


def test_a_fresh_retrain_is_given_time():
    red = _report(_finding("accuracy_change", Level.ALERT))
    decision = policy.on_monitor(red, since_last_train_bars=59, cool_down_bars=60)
    assert Verdict.HOLD is decision.verdict
    assert "59 bars old" in decision.reason


@pytest.mark.parametrize(
    ("now", "before", "verdict"),
    [(2, 2, Verdict.RETRAIN), (8, 1, Verdict.HOLD), (1, 8, Verdict.HOLD), (8, 0, Verdict.HOLD), (0, 8, Verdict.HOLD)],
)
def test_drift_of_a_quarter_of_the_features_twice_running_asks_for_a_retrain(now, before, verdict):
    decision = policy.on_monitor(_report(*_drift(now)), previous=_report(*_drift(before)), **WHEN)
    assert verdict is decision.verdict


@pytest.mark.parametrize(("loud", "verdict"), [(1, Verdict.HOLD), (2, Verdict.HOLD), (3, Verdict.RETRAIN)])
def test_a_feature_has_drifted_when_most_of_the_detectors_that_know_of_it_say_so(loud, verdict):
    rules = ("ks", "psi", "wasserstein", "jensen_shannon")
    found = [
        _finding(name, Level.ALERT if i < loud else Level.WARN, f"f{k}")
        for k in range(4)
        for i, name in enumerate(rules)
    ]
    found.append(Finding("chi_square", 0.0, 0.3, Level.UNKNOWN, 5, {"p_adjusted": 1.0}, "f0"))
    report = _report(*found)
    assert verdict is policy.on_monitor(report, previous=report, **WHEN).verdict


def test_segments_and_layers_are_shown_and_change_no_verdict():
    others = [
        Finding("error_segment", 0.1, 0.05, Level.ALERT, 50, {"p_holm": 0.001}, f"unit U{i}", "as noted")
        for i in range(20)
    ]
    others += [_finding("layer_verdict", Level.ALERT), _finding("decay_log_loss", Level.ALERT)]
    others.append(_finding("accuracy_change"))
    assert Verdict.HOLD is policy.on_monitor(_report(*others), previous=_report(*others), **WHEN).verdict
    sustained = policy.on_monitor(_report(*_drift(2), *others), previous=_report(*_drift(2)), **WHEN)
    assert Verdict.RETRAIN is sustained.verdict


def test_drift_without_a_report_before_is_only_shown():
    assert Verdict.HOLD is policy.on_monitor(_report(*_drift(8)), **WHEN).verdict


@pytest.mark.parametrize("level", [Level.OK, Level.WARN])
def test_nothing_red_changes_nothing(level):
    decision = policy.on_monitor(_report(_finding("accuracy_change", level), _finding("log_loss", level)), **WHEN)
    assert Verdict.HOLD is decision.verdict
    assert "The accuracy has not changed; whether the inputs did is not known yet." == decision.reason


def test_of_a_model_that_predicted_nothing_nothing_is_said():
    names = [("accuracy_change", ""), ("skill", ""), ("ks", "f0")]
    report = _report(*(Finding(name, 0.0, 0.0, Level.UNKNOWN, 0, {"p_adjusted": 1.0}, s) for name, s in names))
    for nothing in (report, _report()):
        decision = policy.on_monitor(nothing, **WHEN)
        assert Verdict.INCONCLUSIVE is decision.verdict
        assert "Unknown: too little is known" in decision.reason
        assert "n = 0" in decision.reason


def test_what_the_accuracy_chart_lacks_is_said():
    lacks = Finding("accuracy_change", 0.0, 0.0, Level.UNKNOWN, 60, note="0 baseline and 60 current bars")
    assert "(0 baseline and 60 current bars)" in policy.on_monitor(_report(lacks), **WHEN).reason
    assert "not known yet (0 baseline and 60" in policy.on_monitor(_report(lacks, *_drift(0)), **WHEN).reason


def test_a_verdict_that_moves_nothing_says_what_the_silence_is_worth():
    powers = [Finding(name, 0.9, 0.0, Level.OK, 90, note="a fall would have been seen") for name in policy.POWERS]
    quiet = (_finding("accuracy_change"), *_drift(0), powers[0])
    assert policy.on_monitor(_report(*quiet), **WHEN).reason.endswith(" A fall would have been seen.")
    open_gates = (*_gates(paired_log_loss=Level.UNKNOWN).findings, powers[1])
    assert policy.on_comparison(_report(*open_gates), OTHER).reason.endswith(" A fall would have been seen.")
    assert policy.on_watch(_report(*powers), OTHER).reason.count("A fall would have been seen.") == 2
    lost = (*_gates(paired_log_loss=Level.ALERT).findings, powers[1])
    assert "would have been seen" not in policy.on_comparison(_report(*lost), OTHER).reason


def test_what_a_silent_bot_predicted_long_ago_is_no_evidence_of_now():
    quiet = Finding("silence", 9.0, 2.0, Level.ALERT, 100, note="the last came at 2007-05-01 21:00 UTC")
    calm = (_finding("accuracy_change"), *_drift(0))
    decision = policy.on_monitor(_report(*calm, quiet), **WHEN)
    assert (Verdict.INCONCLUSIVE, (quiet,)) == (decision.verdict, decision.because)
    assert "the bot is silent, the last came at 2007-05-01" in decision.reason
    fell = _finding("accuracy_change", Level.ALERT)
    assert Verdict.RETRAIN is policy.on_monitor(_report(fell, quiet), **WHEN).verdict


def test_a_challenger_that_passes_every_gate_is_promoted():
    decision = policy.on_comparison(_gates(), OTHER)
    assert (Verdict.PROMOTE, OTHER, CHAMPION) == (decision.verdict, decision.model, decision.against)
    assert 7 == len(decision.because)
    assert decision.reason.startswith(
        "Promote volatility v2 (challenger) over volatility v1 (champion): paired_log_loss"
    )


@pytest.mark.parametrize("gate", ["paired_log_loss", "skill", "samples", "trading", "pairing", "drawdown", "srm"])
@pytest.mark.parametrize("level", [Level.UNKNOWN, Level.WARN, Level.ALERT])
def test_any_gate_that_is_not_passed_keeps_the_champion_and_is_named(gate, level):
    place = Place(Stage.SHADOW if gate == "drawdown" else Stage.AB)  # one that trades is withdrawn for it
    decision = policy.on_comparison(_gates(**{gate: level}), OTHER, place)
    assert (CHAMPION, CHAMPION) == (decision.model, decision.against)
    assert decision.verdict in (Verdict.HOLD, Verdict.INCONCLUSIVE)
    assert f"{gate} as noted" in decision.reason
    assert [gate] == [f.name for f in decision.because]


@pytest.mark.parametrize("gate", ["paired_log_loss", "skill", "samples", "drawdown"])
def test_evidence_against_a_challenger_holds_and_too_little_is_inconclusive(gate):
    place = Place(Stage.SHADOW if gate == "drawdown" else Stage.AB)
    assert Verdict.HOLD is policy.on_comparison(_gates(**{gate: Level.ALERT}), OTHER, place).verdict
    little = policy.on_comparison(_gates(**{gate: Level.UNKNOWN}), OTHER)
    assert (Verdict.INCONCLUSIVE, True) == (little.verdict, "not enough evidence yet" in little.reason)


@pytest.mark.parametrize("gate", policy.BROKEN)
def test_a_broken_comparison_decides_nothing_whatever_else_it_says(gate):
    for proof in (Level.OK, Level.ALERT):
        decision = policy.on_comparison(_gates(**{gate: Level.ALERT, "paired_log_loss": proof}), OTHER)
        assert (Verdict.INCONCLUSIVE, True) == (decision.verdict, "the comparison is broken" in decision.reason)


@pytest.mark.parametrize("name", policy.REQUIRED)
def test_a_required_gate_that_is_missing_is_inconclusive(name):
    rest = [f for f in _gates().findings if f.name != name]
    decision = policy.on_comparison(_report(*rest), OTHER)
    assert Verdict.INCONCLUSIVE is decision.verdict
    assert f"{name} is missing" in decision.reason


def test_an_empty_report_moves_nothing():
    assert Verdict.INCONCLUSIVE is policy.on_comparison(_report(), OTHER).verdict
    assert Verdict.HOLD is policy.on_watch(_report(), OTHER).verdict


SHADOW_STAGE = dict.fromkeys(policy.IN_SHADOW, Level.OK)
NOT_YET = {"paired_log_loss": Level.UNKNOWN, "skill": Level.UNKNOWN, "samples": Level.UNKNOWN, "trading": Level.UNKNOWN}


def _staged(**changed):
    levels = SHADOW_STAGE | NOT_YET | changed
    gates = _gates(**{name: level for name, level in levels.items() if name in policy.GATES})
    return _report(*gates.findings, *(_finding(name, levels[name]) for name in policy.IN_SHADOW))


def _verdict(report, place):
    return policy.on_comparison(report, OTHER, place).verdict


def test_a_challenger_in_shadow_that_passed_its_gate_is_given_its_share_and_is_not_promoted():
    for proof in (NOT_YET, {"trading": Level.UNKNOWN}):
        decision = policy.on_comparison(_staged(**dict.fromkeys(NOT_YET, Level.OK) | proof), OTHER, Place(Stage.SHADOW))
        assert (Verdict.ADVANCE, OTHER, CHAMPION) == (decision.verdict, decision.model, decision.against)
        assert {*policy.TO_TRADE} == {f.name for f in decision.because}
        assert decision.reason.startswith("Give volatility v2 (challenger) its share of the units beside volatility v1")


@pytest.mark.parametrize("level", [Level.UNKNOWN, Level.WARN, Level.ALERT])
@pytest.mark.parametrize("gate", policy.TO_TRADE)
def test_no_challenger_trades_while_a_gate_of_the_shadow_stage_is_not_passed(gate, level):
    decision = policy.on_comparison(_staged(**{gate: level}), OTHER, Place(Stage.SHADOW))
    assert decision.verdict in (Verdict.HOLD, Verdict.INCONCLUSIVE)
    assert f"{gate}: {gate} as noted" in decision.reason


@pytest.mark.parametrize("gate", policy.TO_TRADE)
def test_a_gate_of_the_shadow_stage_that_is_missing_is_not_passed(gate):
    rest = [f for f in _staged().findings if f.name != gate]
    assert Verdict.INCONCLUSIVE is _verdict(_report(*rest), Place(Stage.SHADOW))


@pytest.mark.parametrize("gate", ["paired_log_loss", "samples", "srm"])
def test_nothing_that_has_something_against_it_is_given_a_share(gate):
    assert _verdict(_staged(**{gate: Level.ALERT}), Place(Stage.SHADOW)) in (Verdict.HOLD, Verdict.INCONCLUSIVE)


def test_one_that_waits_in_line_trades_only_after_every_other_gate():
    place = Place(Stage.SHADOW, waits=True)
    assert Verdict.INCONCLUSIVE is _verdict(_staged(), place)
    for gate in ("paired_log_loss", "skill", "samples"):
        passed = dict.fromkeys(NOT_YET, Level.OK) | {"trading": Level.UNKNOWN, gate: Level.UNKNOWN}
        assert Verdict.INCONCLUSIVE is _verdict(_staged(**passed), place)
    passed = dict.fromkeys(NOT_YET, Level.OK) | {"trading": Level.UNKNOWN}
    assert Verdict.ADVANCE is _verdict(_staged(**passed), place)


def test_one_that_is_held_says_why_and_trades_nothing():
    decision = policy.on_comparison(_staged(), OTHER, Place(Stage.SHADOW, held="a person took it out of trading"))
    assert (Verdict.HOLD, CHAMPION) == (decision.verdict, decision.model)
    assert "but a person took it out of trading" in decision.reason


@pytest.mark.parametrize("gate", policy.NO_LONGER)
def test_one_that_trades_is_taken_back_when_it_fails_is_slow_or_falls(gate):
    decision = policy.on_comparison(_staged(**{gate: Level.ALERT}), OTHER, Place(Stage.AB))
    assert (Verdict.WITHDRAW, OTHER, CHAMPION) == (decision.verdict, decision.model, decision.against)
    assert f"{gate}: {gate} as noted" in decision.reason
    for level in (Level.UNKNOWN, Level.WARN):
        assert Verdict.INCONCLUSIVE is _verdict(_staged(**{gate: level}), Place(Stage.AB))
    proven_worse = _staged(**{gate: Level.ALERT, "paired_log_loss": Level.ALERT})
    assert Verdict.HOLD is _verdict(proven_worse, Place(Stage.AB))


def test_nobody_is_promoted_who_has_not_traded():
    for place in (Place(Stage.AB), Place(Stage.SHADOW), Place(Stage.SHADOW, waits=True)):
        report = _staged(**dict.fromkeys(NOT_YET, Level.OK) | {"trading": Level.UNKNOWN, "shadow_bars": Level.UNKNOWN})
        decision = policy.on_comparison(report, OTHER, place)
        assert (Verdict.INCONCLUSIVE, True) == (decision.verdict, policy.proven(report))
        assert "trading: trading as noted" in decision.reason
    assert not policy.proven(_staged())


@pytest.mark.parametrize(
    ("levels", "proven"),
    [
        ({"paired_log_loss": Level.OK, "skill": Level.OK, "samples": Level.OK}, True),
        ({"paired_log_loss": Level.OK, "skill": Level.OK}, False),
        ({"paired_log_loss": Level.OK, "skill": Level.OK, "samples": Level.OK, "drawdown": Level.WARN}, False),
        ({"paired_log_loss": Level.OK, "skill": Level.OK, "samples": Level.OK, "trading": Level.UNKNOWN}, True),
    ],
)
def test_what_is_proven_has_each_gate_that_is_required_and_fails_none(levels, proven):
    assert proven is policy.proven(_report(*(_finding(name, level) for name, level in levels.items())))


def test_a_watch_decides_about_the_champion_by_its_evidence():
    better = Finding("paired_log_loss", 0.02, 0.0, Level.OK, 80, note="proven better")
    reason = "Roll back volatility v1 (champion) to volatility v2 (challenger): the previous champion is proven better."
    assert Decision(Verdict.ROLLBACK, CHAMPION, (better,), CHAMPION, reason) == policy.on_watch(_report(better), OTHER)

    fell = Finding("accuracy_change", 0.4, 0.5, Level.ALERT, 90, {"alarm_at": "2007-05-25T20:00:00"}, note="40 %")
    ahead = Finding("paired_log_loss", 0.02, 0.0, Level.UNKNOWN, 80, {"p_now": 0.05}, note="not proven")
    reason = (
        "Roll back volatility v1 (champion) to volatility v2 (challenger): the accuracy fell through its chart's limit "
        "on 2007-05-25 (40 %), and the previous champion gains +0.0200 log-loss a bar on the same 80 bars."
    )
    decision = policy.on_watch(_report(fell, ahead), OTHER)
    assert Decision(Verdict.ROLLBACK, CHAMPION, (fell, ahead), CHAMPION, reason) == decision

    late = Finding("pending", 9.0, 0.0, Level.ALERT, 9, note="labels have stopped")
    unsure = replace(ahead, params={})
    reason = (
        "Keep volatility v1 (champion), whether it is worse is unknown: labels have stopped; until then: not proven."
    )
    decision = policy.on_watch(_report(fell, unsure, late), OTHER)
    assert Decision(Verdict.INCONCLUSIVE, CHAMPION, (late,), CHAMPION, reason) == decision
    reason = "Keep volatility v1 (champion): not proven."
    assert Decision(Verdict.HOLD, CHAMPION, (unsure,), CHAMPION, reason) == policy.on_watch(_report(unsure), OTHER)


def test_a_challenger_that_passed_waits_while_the_champion_rests():
    decision = policy.on_comparison(_gates(), OTHER, resting="the cool-down lasts")
    assert (Verdict.HOLD, CHAMPION) == (decision.verdict, decision.model)
    assert "passed every gate" in decision.reason
    assert {Level.OK} == {f.level for f in decision.because}


@pytest.mark.parametrize(
    ("hours_ago", "words"),
    [
        ([], ""),
        ([24 * 8], ""),
        ([24 * 6], "7 days are the cool-down"),
        ([24 * 7], ""),
        ([24], "7 days are the cool-down"),  # a day is over after 24 hours
        ([30], "7 days are the cool-down"),
        ([1], "moved 1 times in 24 hours and 1 a day are allowed"),
        ([24 * 8, 2, 1], "moved 2 times"),
    ],
)
def test_the_champion_rests_after_a_move(hours_ago, words):
    now = datetime(2007, 6, 1, tzinfo=UTC)
    found = policy.resting(
        [now - timedelta(hours=h) for h in hours_ago], now, cool_down=timedelta(days=7), most_a_day=1
    )
    assert (words in found, bool(words)) == (True, bool(found))


def _limit(name, level, subject=""):
    return Finding(name, 0.2, 0.1, level, 10, subject=subject, note=f"{name} as noted")


def test_a_broken_hard_limit_rolls_back_at_once_if_there_is_somewhere_to_go():
    broken = _report(_limit("limit_loss", Level.ALERT), _limit("limit_drawdown", Level.OK))
    decision = policy.on_limits(broken, OTHER)
    assert (Verdict.ROLLBACK, CHAMPION, "limit_loss as noted" in decision.reason) == (
        decision.verdict,
        decision.model,
        True,
    )
    assert ["limit_loss"] == [f.name for f in decision.because]
    nowhere = policy.on_limits(broken, None)
    assert (Verdict.HOLD, True) == (nowhere.verdict, "A person must decide" in nowhere.reason)


def test_a_limit_that_the_previous_champion_breaks_too_is_a_matter_for_a_person():
    loss = _limit("limit_loss", Level.ALERT)
    both = _report(loss, _limit("limit_loss", Level.ALERT, policy.PREVIOUS))
    assert (Verdict.HOLD, True) == (
        policy.on_limits(both, OTHER).verdict,
        "did little better on the same bars" in policy.on_limits(both, OTHER).reason,
    )
    more = _report(loss, _limit("limit_failures", Level.ALERT), _limit("limit_loss", Level.ALERT, policy.PREVIOUS))
    assert Verdict.ROLLBACK is policy.on_limits(more, OTHER).verdict


@pytest.mark.parametrize("level", [Level.OK, Level.UNKNOWN, Level.WARN])
def test_limits_that_are_kept_or_unknown_move_nothing(level):
    assert Verdict.HOLD is policy.on_limits(_report(_limit("limit_loss", level)), OTHER).verdict


@pytest.mark.parametrize(
    ("level", "verdict"),
    [(Level.OK, Verdict.ROLLBACK), (Level.UNKNOWN, Verdict.HOLD), (Level.ALERT, Verdict.HOLD)],
)
def test_a_champion_that_its_predecessor_beats_is_rolled_back(level, verdict):
    decision = policy.on_watch(_report(_finding("paired_log_loss", level)), OTHER)
    assert (verdict, CHAMPION, CHAMPION) == (decision.verdict, decision.model, decision.against)


def test_no_retraining_is_asked_for_while_the_answer_to_it_is_compared():
    decision = policy.on_monitor(
        _report(_finding("accuracy_change", Level.ALERT)), since_last_train_bars=500, cool_down_bars=60, answering=True
    )

    assert Verdict.HOLD is decision.verdict
    assert "trained since is being compared" in decision.reason


def test_an_alarm_that_nothing_answered_yet_asks_again_and_waits_for_the_cool_down():
    calm, told = _report(_finding("accuracy_change")), "the alarm of 2007-05-01 is not answered"
    asked, held = (
        policy.on_monitor(calm, since_last_train_bars=n, cool_down_bars=60, unanswered=told) for n in (60, 59)
    )
    assert [Verdict.RETRAIN, Verdict.HOLD] == [asked.verdict, held.verdict]
    assert "Retrain: the alarm of 2007-05-01 is not answered." == asked.reason
    assert "accuracy_change" == held.because[0].name


@pytest.mark.parametrize(
    ("gain", "now", "chart", "verdict"),
    [
        (0.2, 0.1, Level.ALERT, Verdict.ROLLBACK),
        (-0.1, 0.8, Level.ALERT, Verdict.HOLD),  # a wild market cost the previous champion even more
        (0.01, 0.3, Level.ALERT, Verdict.HOLD),  # one of two equal ones is ahead anyway
        (0.2, None, Level.ALERT, Verdict.HOLD),  # not known
        (0.2, 0.1, Level.OK, Verdict.HOLD),
        (0.2, 0.1, Level.UNKNOWN, Verdict.HOLD),
    ],
)
def test_a_collapse_rolls_back_only_to_a_champion_that_did_better(gain, now, chart, verdict):
    paired = Finding("paired_log_loss", gain, 0.0, Level.UNKNOWN, 14, {"p_now": now})

    decision = policy.on_watch(_report(paired, _finding("accuracy_change", chart)), ModelRef("direction", 1))

    assert verdict is decision.verdict


# --- trading states ---------------------------------------------------------------------------------------------------

NOW = datetime(2026, 3, 2, 15, tzinfo=UTC)


def _breach(name="var", value=0.06, first=0.06, age=timedelta(0), limit=0.05):
    return policy.Breach(Finding(name, value, limit, Level.ALERT, 9, note=f"{name} {value}"), NOW - age, first)


@pytest.mark.parametrize("state", TradingState)
@pytest.mark.parametrize("breach", [None, _breach(), _breach(age=timedelta(days=9)), _breach("drawdown", age=CONFIRM)])
def test_a_breach_never_loosens_the_trading_state(state, breach):
    after, why = policy.on_risk(state, [breach] if breach else [], NOW)

    assert [*TradingState].index(after) >= [*TradingState].index(state)
    assert bool(why) is (after is not state)


@pytest.mark.parametrize(
    ("breach", "state"),
    [
        (_breach(), "reducing"),
        (_breach(value=9.0, first=0.06), "reducing"),  # at the very first look there is nothing to compare with
        (_breach(value=0.0724, age=CONFIRM), "reducing"),
        (_breach(value=0.0725, age=CONFIRM), "halted"),
        (_breach(age=policy.PATIENCE - CONFIRM), "reducing"),
        (_breach(age=policy.PATIENCE), "halted"),
        (_breach("drawdown"), "reducing"),
        (_breach("drawdown", age=CONFIRM), "halted"),
        (_breach("daily_loss", age=CONFIRM), "halted"),
        (_breach("gross", age=CONFIRM), "reducing"),
    ],
)
@pytest.mark.parametrize("now", ["active", "reducing"])
def test_a_hard_breach_reduces_and_one_that_reducing_does_not_cure_halts(now, breach, state):
    after, why = policy.on_risk(TradingState(now), [breach], NOW)

    assert state == after
    assert why.startswith(f"{breach.finding.name} {breach.finding.value}") or now == state


def test_of_several_breaches_those_that_halt_are_named():
    state, why = policy.on_risk(TradingState.ACTIVE, [_breach("var"), _breach("drawdown", age=CONFIRM)], NOW)

    assert (TradingState.HALTED, "drawdown 0.06, and what is lost is not won back by shrinking") == (state, why)
