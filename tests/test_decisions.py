"""The simulated years of `benchmarks.decisions`: their shortcuts change nothing that the platform decides."""

from dataclasses import replace

import numpy as np
import pytest

from benchmarks.simulated import years
from benchmarks.simulated.cells import CELLS, GRID, figures, rate
from benchmarks.simulated.chunks import Chunk, Store, code, run
from benchmarks.simulated.platform import START, Platform, bar_at, platforms
from benchmarks.simulated.world import Law, World
from jobs.comparison import plans
from mlops.settings import ExperimentSettings, Settings
from mlops.types import Verdict

SHORT = Settings(experiment=ExperimentSettings(horizon_bars=60, min_samples=200))
BETTER, WORSE, EQUAL = (Law(units=6, horizon=2, gain=gain) for gain in (0.2, -0.2, 0.0))
SATURDAY = years.SATURDAY


def _followed(context, law, seed, *, thorough):
    """All that the ledger says after a quarter with a training in its third week."""
    world = World(law, 90, seed)
    one = Platform(context, world, f"{'all' if thorough else 'some'}{seed}", known=law is EQUAL, thorough=thorough)
    one.begin()
    one.challenge(START - (bar_at(1) - START) / 2)
    jobs = ("monitor", "compare", "train", "train-recent") if one.known else ("compare",)
    one.run(80, jobs, also=[START + SATURDAY] if one.known else [], enough=years._moved)
    ledger = context.ledger
    moves = [
        (p.kind, p.from_version, p.to_version, p.created_at, p.reason) for p in ledger.registry.promotions(one.model)
    ]
    comparisons = [
        (t.kind, t.champion, t.challenger, t.started_at, t.ended_at, t.verdict)
        for t in ledger.registry.comparisons(one.model)
    ]
    told = [(a.key, a.as_of) for a in ledger.alerts.newest(open_only=False) if a.model == one.model]
    decided = [
        (e.at, e.decision.verdict) for e in one.events if e.decision.verdict in (Verdict.RETRAIN, Verdict.PROMOTE)
    ]
    return str((moves, comparisons, told, decided)).replace(one.model, "m")


@pytest.mark.parametrize("law", [BETTER, WORSE, EQUAL], ids=["better", "worse", "equal"])
def test_looks_that_are_left_out_would_have_changed_nothing(law):
    with platforms(SHORT) as context:
        for seed in range(2):
            assert _followed(context, law, seed, thorough=True) == _followed(context, law, seed, thorough=False)


@pytest.mark.parametrize("law", [BETTER, EQUAL], ids=["better", "equal"])
def test_years_whose_paired_test_proves_nothing_promote_nobody_and_are_not_run(law, monkeypatch):
    with platforms(SHORT) as context:
        short = [years.compared(context, law, seed) for seed in range(41, 45)]
    monkeypatch.setattr(years, "CONTROL", 1)
    with platforms(SHORT) as context:
        assert short == [years.compared(context, law, seed) for seed in range(41, 45)]
    assert law is EQUAL or any(year.promoted is not None for year in short)


@pytest.mark.parametrize("bad", [0.0, 0.2])
def test_looks_of_a_watch_that_are_left_out_would_have_changed_nothing(bad, monkeypatch):
    law = Law(units=6, horizon=2, bad=bad)
    with platforms() as context:
        few = years.watched(context, law, 5)
    monkeypatch.setattr(Platform, "_quiet", lambda *_: False)
    with platforms() as context:
        assert years.watched(context, law, 5) == few
    assert (few.rolled_back is not None) == (bad > 0)


def test_a_better_challenger_is_promoted_and_a_worse_one_is_not():
    with platforms(SHORT) as context:
        assert "'promote', 1, 2" in _followed(context, BETTER, 10, thorough=False)
        assert "'promote', 1, 2" not in _followed(context, WORSE, 11, thorough=False)


@pytest.mark.parametrize(("horizon", "compare_from", "watch_from"), [(1, 40, 40), (5, 40, 40), (20, 160, 126)])
def test_a_plan_waits_for_labels_that_do_not_overlap(horizon, compare_from, watch_from):
    with platforms() as context:
        one = Platform(context, World(Law(units=2, horizon=horizon), 60, 1), "m", known=False)
        one.begin()
        one.challenge(START)
        (comparison,) = context.ledger.registry.open_comparisons("m")
        planned = [plans.plan(context, replace(comparison, kind=kind)) for kind in ("compare", "watch")]
        assert [compare_from, watch_from] == [plan.min_bars for plan in planned]


@pytest.mark.parametrize("horizon", [1, 5])
def test_a_simulated_model_is_as_right_as_its_law_says_before_and_after_its_fall(horizon):
    world = World(Law(horizon=horizon, fall=0.1, fall_at=4000), 8000, 1)
    right = (world.forecasts(1) > 0.5) == (world.labels > 0.5)
    assert np.allclose([right[:4000].mean(), right[4000:].mean()], [0.61, 0.51], atol=0.015)


def test_rare_forecasts_of_both_versions_are_equally_bad():
    world = World(Law(rare=True), 40_000, 1)
    losses = [-np.log(np.where(world.labels > 0.5, p, 1 - p)).mean() for p in (world.forecasts(1), world.forecasts(2))]
    assert abs(losses[0] - losses[1]) < 0.01


def test_an_interval_holds_the_share_that_it_is_of():
    mean, low, high = rate([1.0] * 5 + [0.0] * 95, share=True)
    assert low < mean < high
    assert (0.0215, 0.1118) == (round(low, 4), round(high, 4))


KEYS = {
    *("told_fall_10", "told_fall_5", "bars_to_told_10", "retrain_fall_10", "told_unchanged_per_year"),
    *("words_unchanged_share", "promote_equal", "promote_worse", "promote_2_points", "promote_2_points_unrelated_pnl"),
    *("promote_4_points_volatile", "promote_1_unit", "promote_rare_equal", "rollback_good", "rollback_bad_10"),
    "told_fall_10_weekly_training",
}


def test_every_promised_key_is_measured_and_each_once():
    moved = years.Year(promoted=1, rolled_back=1, told=1, retrained=1, weeks=1)
    keys = [key for cell in (*CELLS, *GRID) for key in figures(cell, [moved])]
    assert len(keys) == len(set(keys))
    assert set(keys) >= KEYS


def test_a_run_that_was_stopped_goes_on_where_it_was(tmp_path):
    cells = [replace(cell, years=26) for cell in CELLS if cell.name == "1 unit, right .75 against .50"]
    first = Store(tmp_path / "years.jsonl")
    todo = first.left(cells, 1.0)
    assert [count for *_, count in todo] == [25, 1]
    run(first, todo[1:], 1, float("inf"))
    second = Store(tmp_path / "years.jsonl")
    assert second.left(cells, 1.0) == todo[:1]
    assert second.of(cells[0])[0].years == first.of(cells[0])[0].years


def test_a_year_is_stored_with_all_that_was_loud_in_it(tmp_path):
    law = Law(units=6, horizon=2, fall=0.2, fall_at=60)
    with platforms(SHORT) as context:
        year = years.monitored(context, law, 4)
    assert year.loud
    assert year.told is not None
    cell = CELLS[0]
    store = Store(tmp_path / "years.jsonl")
    store.add(Chunk(cell.name, repr((cell.law, None)), code(), 0, (year,), 1.0))
    assert Store(tmp_path / "years.jsonl").of(cell)[0].years == (year,)
