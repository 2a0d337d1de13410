"""A set-up that the release before left (`golden/former_set_up.py` says how) is opened and goes on."""

import tarfile
from datetime import UTC, datetime, timedelta
from pathlib import Path

import optuna
import pytest

from jobs import compare, schedule, train, worker
from jobs.context import opened
from jobs.live import freshness
from jobs.portfolio import unbooked_fills
from mlops.io import bar_feed
from mlops.learn import STRATEGIES
from mlops.settings import Settings, TrainSettings
from mlops.types import ModelRef, Verdict

STORED = Path(__file__).parent / "golden" / "former_set_up.tar.xz"
MODEL, UNITS, END = "volatility", ["AAPL", "GE", "XOM"], datetime(2007, 5, 1, tzinfo=UTC)
LATE = END + timedelta(days=30)
SILENT = "bot_silent:volatility:20070430T200000"
DEAD = f"job_dead:monitor:{MODEL}@{END.isoformat()}:2007-05-01T00:00:00"
UNBOOKED = f"position_unknown:{MODEL}/live/AAPL@{END.isoformat()}"


@pytest.fixture(scope="module")
def context(tmp_path_factory):
    folder = tmp_path_factory.mktemp("former")
    with tarfile.open(STORED) as archive:
        archive.extractall(folder, filter="data")
    state, small = folder / "live", TrainSettings(trials=1, folds=2, min_bars=50)
    with opened(Settings(state=state, tracking_uri=f"sqlite:///{state}/mlflow.db", train=small)) as context:
        yield context


def keys(context):
    return {alert.key for alert in context.ledger.alerts.newest()}


def test_what_the_ledger_holds_is_whole_and_read(context):
    ledger = context.ledger

    assert [] == ledger.audit.verify()
    assert [1, 2] == [row.version for row in ledger.registry.bundles(MODEL)]
    assert 1 == ledger.registry.champion(MODEL)
    assert (69, {"done", "dead"}) == (len(runs := ledger.job_runs.all()), {run.state for run in runs})
    span = {"start": datetime(2007, 1, 1, tzinfo=UTC), "end": END, "as_of": END}
    assert 243 == len(ledger.telemetry.predictions(MODEL, version=1, **span)[0])
    assert {1, 2} <= {key.version for key in ledger.books.ends(MODEL)}


def test_its_bundles_load_and_score_as_they_were_proven(context):
    for version in (1, 2):
        bundle = context.bundle(ModelRef(MODEL, version))
        bundle.prove(None, bundle.names)

        assert bundle.reference().probability.between(0, 1).all()


def test_its_comparison_goes_on_by_the_plan_that_it_has(context):
    [before] = context.ledger.registry.open_comparisons(MODEL)
    [decision] = compare.at(context, MODEL, END + timedelta(days=4))
    [after] = context.ledger.registry.open_comparisons(MODEL)

    assert (before.id, before.plan) == (after.id, after.plan)
    assert Verdict.HOLD is decision.verdict
    assert next(f for f in decision.because if f.name == "paired_log_loss").n >= 75


def test_its_open_alerts_are_not_told_again_and_close_when_it_is_over(context):
    ledger, why = context.ledger, "fill f1 cannot be booked: nobody trades that much"
    assert {SILENT, DEAD, UNBOOKED} <= keys(context)
    looked = freshness.Freshness(context)

    worker.report(ledger, LATE)
    unbooked_fills.settle(context, {f"{MODEL}/live/AAPL": why}, LATE)
    freshness.act(context, looked.models(LATE), None, LATE)
    assert {SILENT, DEAD, UNBOOKED} <= keys(context)
    assert 3 == len([key for key in keys(context) if key.startswith(("bot_silent:", "job_dead:", "position_unknown:"))])

    unbooked_fills.settle(context, {}, LATE)
    ledger.alerts.resolve(SILENT, LATE)
    freshness.act(context, looked.models(LATE), None, LATE)
    assert not keys(context) & {SILENT, UNBOOKED}, "what a person closed stays closed"


def test_its_scheduler_plans_what_fell_due_since(context):
    planned = schedule.plan(context.ledger, [MODEL], END + timedelta(days=7))

    assert planned
    jobs = {run.job.partition(":")[0] for run in context.ledger.job_runs.all(states=("due",))}
    assert {"books", "monitor", "compare"} <= jobs


def test_a_search_that_was_cut_short_is_taken_up_again(context):
    [cut] = [path for path in (context.settings.state / "studies").glob("*.jsonl") if path.stat().st_size < 1000]
    bars = bar_feed.load_bars("sp500", start=datetime(2004, 1, 1, tzinfo=UTC), end=END).frame

    ref = train.train(context, STRATEGIES[MODEL], bars[bars.symbol.isin(UNITS)], as_of=END, start=None)

    storage = optuna.storages.JournalStorage(optuna.storages.journal.JournalFileBackend(str(cut)))
    [study] = optuna.study.get_all_study_summaries(storage)
    assert (3, 2) == (ref.version, study.n_trials), "the trial that was cut short, and the one done anew"
