"""Challengers on their way through `jobs.compare`: shadow, A/B, champion, and back; on a simulated market."""

from dataclasses import replace
from datetime import timedelta

import pandas as pd
import pytest

from benchmarks.simulated.platform import START, Platform, bar_at, platforms
from benchmarks.simulated.world import Law, World
from jobs import compare, limits
from mlops.settings import ExperimentSettings, Settings
from mlops.types import SCORING_COLUMNS, Level, ModelRef, Verdict
from registry_hooks import apply, stages

BETTER = Law(units=6, horizon=2, gain=0.2)
SHORT = Settings(experiment=ExperimentSettings(horizon_bars=100, min_samples=200))
HOUR = timedelta(hours=1)


@pytest.fixture(scope="module")
def context():
    with platforms(SHORT) as found:
        yield found


def opened(context, name, *, challengers=1, reports=True):
    one = Platform(context, World(BETTER, 150, seed=3), name, known=False, reports=reports)
    one.begin()
    for _ in range(challengers):
        one.challenge(START - 12 * HOUR)
    return one


def look(one, bar):
    """What is found of each challenger after a bar; then the job does what follows."""
    at = bar_at(bar) + HOUR
    apply.nominate_next(one.context.registry, one.model, one.context.act("jobs.compare", at))
    looks = [compare.look(one.context, t, at) for t in one.context.ledger.registry.open_comparisons(one.model)]
    one.decide("compare", at)
    return {x.other.version: x for x in looks}


def weight(one, version=2):
    comparison = stages.comparison(one.context.ledger, one.model)
    return one.context.ledger.assignments.epochs(comparison)[-1].weights.get(version, 0.0)


def found(one_look, name):
    return next(f for f in one_look.report.findings if f.name == name)


def ask(one, version, first, last, **about):
    """Report how a version was asked at bars `first` to `last`."""
    times = [pd.Timestamp(bar_at(i)) for i in range(first, last + 1)]
    rows = {"model": one.model, "event_time": times, "version": version, "batch": "again", "failed": 0, "rows": 6}
    one.context.ledger.scorings.add(pd.DataFrame(rows | {"seconds": 0.01} | about)[list(SCORING_COLUMNS)])


def test_a_challenger_is_promoted_after_its_time_in_shadow_and_its_time_of_trading(context):
    one = opened(context, "path")
    assert Verdict.INCONCLUSIVE is look(one, 18)[2].decision.verdict
    assert 0.0 == weight(one)
    assert Verdict.ADVANCE is look(one, 20)[2].decision.verdict
    assert weight(one) == pytest.approx(0.1)
    early = look(one, 37)[2]
    assert (Verdict.INCONCLUSIVE, 17) == (early.decision.verdict, found(early, "trading").n)
    assert [Verdict.PROMOTE] == [x.decision.verdict for x in look(one, 45).values()]
    assert 2 == context.ledger.registry.champion(one.model)


def test_who_is_proven_before_it_has_traded_waits_although_the_plan_is_over(context):
    one = opened(context, "late")
    dropped = look(one, 104)[2]  # nobody looked before: the plan is over, and it is proven
    assert (Verdict.ADVANCE, True) == (dropped.decision.verdict, dropped.proof.params["finished"])
    waits = look(one, 115)[2]
    assert (Verdict.INCONCLUSIVE, ["trading"]) == (waits.decision.verdict, [f.name for f in waits.decision.because])
    assert Verdict.PROMOTE is look(one, 126)[2].decision.verdict


def test_one_that_is_slow_in_shadow_is_given_nothing_and_ends_with_its_plan(context):
    one = opened(context, "slow")
    ask(one, 2, 0, 110, seconds=3.0)
    held = look(one, 40)[2]
    assert (Verdict.HOLD, Level.ALERT) == (held.decision.verdict, found(held, "shadow_latency").level)
    assert "shadow_latency: it took 3.000 s" in held.decision.reason
    look(one, 104)
    assert "hold" == context.ledger.registry.comparisons(one.model)[0].verdict


def test_one_that_fails_while_it_trades_goes_back_to_shadow_and_comes_again_by_the_same_gate(context):
    one = opened(context, "fails")
    look(one, 20)
    ask(one, 2, 24, 26, failed=1)
    back = look(one, 26)[2]
    assert (Verdict.WITHDRAW, 0.0) == (back.decision.verdict, weight(one))
    told = [a.title for a in context.ledger.alerts.newest() if a.key.startswith("challenger_withdrawn:fails:v2:")]
    assert 1 == len(told)
    assert "it failed to score 3 of the last 20 bars, the last 3 in a row" in told[0]
    assert Verdict.INCONCLUSIVE is look(one, 45)[2].decision.verdict  # bar 26 is one of the last 20
    assert Verdict.ADVANCE is look(one, 46)[2].decision.verdict
    assert Verdict.INCONCLUSIVE is look(one, 60)[2].decision.verdict
    assert Verdict.PROMOTE is look(one, 66)[2].decision.verdict


def test_one_that_waits_trades_before_it_is_promoted_and_its_plan_goes_on_when_it_is_nominated(context):
    one = opened(context, "waits", challengers=2)
    first = look(one, 20)
    assert {2: Verdict.ADVANCE, 3: Verdict.INCONCLUSIVE} == {v: x.decision.verdict for v, x in first.items()}
    (waits,) = context.ledger.registry.open_comparisons(one.model, "shadow")
    proven = next(
        bar for bar in range(45, 90, 5) if compare.look(context, waits, bar_at(bar) + HOUR).proof.level is Level.OK
    )
    apply.retire(context.registry, ModelRef(one.model, 2), "hold", bar_at(proven))
    assert Verdict.ADVANCE is look(one, proven)[3].decision.verdict  # nominated in this very look
    comparison = stages.comparison(context.ledger, one.model)
    assert (3, waits.started_at) == (comparison.challenger, comparison.started_at)
    assert Verdict.INCONCLUSIVE is look(one, proven + 10)[3].decision.verdict
    assert Verdict.PROMOTE is look(one, proven + 21)[3].decision.verdict


def test_one_that_waits_is_given_a_share_beside_the_nominated_one_and_is_promoted_before_it(context):
    one = opened(context, "beside", challengers=2)
    ask(one, 2, 0, 140, seconds=3.0)
    given = next(bar for bar in range(20, 90, 5) if look(one, bar)[3].decision.verdict is Verdict.ADVANCE)
    assert (0.0, pytest.approx(0.1)) == (weight(one), weight(one, 3))
    assert 1 == context.ledger.registry.champion(one.model)
    assert Verdict.INCONCLUSIVE is look(one, given + 19)[3].decision.verdict
    assert Verdict.PROMOTE is look(one, given + 21)[3].decision.verdict
    assert 3 == context.ledger.registry.champion(one.model)


def test_one_that_fails_while_it_trades_is_taken_back_within_seconds(context):
    one = opened(context, "at-once")
    look(one, 20)
    ask(one, 2, 21, 22, failed=1)
    assert [] == limits.at(context, one.model, bar_at(22) + HOUR)
    ask(one, 2, 23, 23, failed=1)
    (decision,) = limits.at(context, one.model, bar_at(23) + HOUR)
    assert (Verdict.WITHDRAW, 0.0) == (decision.verdict, weight(one))
    assert [] == limits.at(context, one.model, bar_at(24) + HOUR)
    assert 1 == sum(a.key.startswith("challenger_withdrawn:at-once:") for a in context.ledger.alerts.newest())


def test_a_bot_that_reports_no_latency_is_told_of_once_and_a_person_may_accept_it(context):
    one = opened(context, "unseen", reports=False)
    for bar in (20, 25):
        waits = look(one, bar)[2]
        assert (Verdict.INCONCLUSIVE, Level.UNKNOWN) == (waits.decision.verdict, found(waits, "shadow_latency").level)
    (told,) = [a.title for a in context.ledger.alerts.newest() if a.key.startswith("shadow_unreported:unseen:")]
    assert (
        "cannot leave the shadow stage: not looked at: of 21 bars scored, how long it takes is known of 0 bars" in told
    )
    experiment = context.settings.experiment.model_copy(update={"shadow_unreported": True})
    one.context = replace(context, settings=context.settings.model_copy(update={"experiment": experiment}))
    assert Verdict.ADVANCE is look(one, 30)[2].decision.verdict
