"""A comparison keeps the plan of its first look, whatever the settings say later."""

import json
from dataclasses import replace
from datetime import timedelta

import pytest
from sqlalchemy import text

from benchmarks.simulated.platform import START, Platform, bar_at, platforms
from benchmarks.simulated.world import Law, World
from jobs import compare, report
from jobs.comparison import plans
from mlops.errors import DataError
from mlops.types import Level, ModelRef
from registry_hooks import apply

SOON = START - timedelta(hours=12)


@pytest.fixture
def one():
    """A challenger that is much worse, and not looked at yet."""
    with platforms() as context:
        platform = Platform(context, World(Law(units=8, horizon=1, skill=0.8, gain=-0.28), 120, 3), "m", known=False)
        platform.begin()
        platform.challenge(SOON)
        yield platform


def _context(one, **changed):
    """The same platform under other settings."""
    s = one.context.settings
    return replace(one.context, settings=s.model_copy(update={"experiment": s.experiment.model_copy(update=changed)}))


def _trial(one, kind="compare"):
    return [t for t in one.context.ledger.registry.comparisons("m") if t.kind == kind][-1]


def _proof(look):
    return next(f for f in look.report.findings if f.name == "paired_log_loss")


def test_the_first_look_stores_the_plan_and_later_settings_do_not_change_it(one):
    assert None is _trial(one).plan
    compare.at(one.context, "m", bar_at(10))
    stored = plans.plan(one.context, _trial(one))

    looser = _context(one, confidence=0.6, horizon_bars=30, min_bars=10, margin=0.0, min_samples=1, min_events=0)
    compare.at(looser, "m", bar_at(15))

    assert stored == plans.plan(looser, _trial(one))
    assert (0.95, 252, 40, 0.0002, 1000) == (
        stored.confidence,
        stored.horizon_bars,
        stored.min_bars,
        stored.margin,
        stored.min_samples,
    )
    assert 252 == _proof(compare.look(looser, _trial(one), bar_at(35))).params["horizon_bars"]


def test_a_comparison_that_ended_is_told_by_its_own_plan(one):
    for bar in range(40, 116, 5):
        compare.at(one.context, "m", bar_at(bar))
    comparison = _trial(one)
    assert comparison.ended_at is not None

    told = _proof(compare.look(_context(one, confidence=0.999, look_every=50), comparison, comparison.ended_at))
    assert (Level.ALERT, 0.95, 5) == (told.level, told.params["confidence"], told.params["look_every"])


def test_a_comparison_of_an_older_release_gets_its_plan_at_its_next_look(one):
    context = one.context
    compare.at(context, "m", bar_at(10))
    with context.ledger.writing() as connection:
        connection.execute(text("UPDATE experiments SET plan = NULL"))

    assert 252 == plans.plan(context, _trial(one)).horizon_bars  # a report reads the settings, and stores nothing
    assert None is _trial(one).plan
    compare.at(_context(one, horizon_bars=200), "m", bar_at(15))
    assert 200 == plans.plan(context, _trial(one)).horizon_bars


def test_those_that_joined_share_the_error_of_a_stored_plan(one):
    compare.at(one.context, "m", bar_at(10))
    one.challenge(bar_at(12))

    assert 2 == plans.plan(one.context, _trial(one)).arms


def test_one_that_joins_takes_its_part_from_its_first_bar_on_and_no_look_back(one):
    compare.at(one.context, "m", bar_at(10))
    waiting = one.challenge(bar_at(50))
    looks = {
        t.challenger: _proof(compare.look(one.context, t, bar_at(100)))
        for t in one.context.ledger.registry.open_comparisons("m")
    }

    first, second = looks[2].params, looks[waiting.version].params
    (bars,) = first["joined"]
    assert (2, 2, ()) == (first["arms"], second["arms"], second["joined"])
    assert bars == 50  # of bars 0 to 49 it has no forecast; the look at the next one counts it
    report_of = report.at(one.context, "m", bar_at(100), _trial(one).id)
    assert (bars,) == report_of.account.comparison.plan.joined


def test_a_version_that_waited_keeps_its_plan_when_it_is_nominated(one):
    waiting = one.challenge(bar_at(1))
    compare.at(one.context, "m", bar_at(10))
    first = _trial(one, "shadow")
    assert first.plan is not None

    going_on = replace(first, id=_trial(one).id, kind="compare", plan=None)  # a row of the same comparison
    assert waiting.version == going_on.challenger
    assert first.plan == plans.keep(_context(one, horizon_bars=30), going_on).plan


def test_a_plan_that_a_hand_made_impossible_is_refused_with_its_name(one):
    compare.at(one.context, "m", bar_at(10))
    with one.context.ledger.writing() as connection:
        connection.execute(
            text("UPDATE experiments SET plan = replace(plan, '\"look_every\": 5', '\"look_every\": 0')")
        )

    with pytest.raises(
        DataError, match=r"comparison 1 of m \(v2 against v1\) must have .* look_every must be .* got 0"
    ):
        compare.at(one.context, "m", bar_at(15))
    assert 1 == one.context.ledger.registry.champion("m")


def test_a_watch_keeps_its_plan_too(one):
    _watched(one)
    plans.keep(_context(one, watch_bars=20, watch_confidence=0.6), _trial(one, "watch"))

    planned = plans.plan(one.context, _trial(one, "watch"))
    assert (126, 0.975, 1.0) == (planned.horizon_bars, planned.confidence, planned.power)


@pytest.fixture
def known():
    """Two equal versions whose records are known, not compared yet."""
    with platforms() as context:
        platform = Platform(context, World(Law(units=8, horizon=1), 80, 3), "m", line=False)
        platform.begin()
        platform.challenge(SOON)
        yield platform


def _watched(one):
    """The watch on version 2, its plan stored."""
    act = one.context.act("benchmarks", bar_at(5))
    apply.promote(one.context.registry, ModelRef("m", 2), "by hand", act, expected=1)
    plans.keep(one.context, _trial(one, "watch"))
    return _trial(one, "watch")


@pytest.mark.parametrize("changed", [{"watch_confidence": 0.6}, {"watch_confidence": 0.999}, {"watch_bars": 20}])
def test_both_halves_of_a_watch_follow_its_plan_and_not_the_settings_of_today(known, changed):
    watch = _watched(known)

    def halves(context):
        found = {f.name: f for f in compare.look(context, watch, bar_at(60)).report.findings}
        chart, proof = found["accuracy_change"], found["paired_log_loss"]
        return chart.limit, chart.params["false_alarms_per_year"], proof.params["nominal"]

    planned = halves(known.context)
    assert 0.05 == pytest.approx(planned[1])
    assert planned == halves(_context(known, **changed))


def test_a_watch_whose_plan_was_stored_without_its_chart_has_half_of_the_budget_for_it(one):
    watch = _watched(one)
    without = {name: value for name, value in json.loads(watch.plan).items() if name != "chart_alarms"}
    earlier = replace(watch, plan=json.dumps(without))

    assert plans.plan(_context(one, watch_confidence=0.6), earlier) == plans.plan(one.context, watch)
    assert None is plans.plan(one.context, _trial(one)).chart_alarms
