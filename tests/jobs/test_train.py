"""Training: the same rows give the same booster, whatever comes later and whatever kills it."""

import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import optuna
import pandas as pd
import pytest
from mlflow import MlflowClient
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend

from jobs import context as context_module
from jobs import train
from jobs.training.study import prepare
from mlops.errors import DataError, LeakError
from mlops.io import bar_feed
from mlops.learn import STRATEGIES, labels, tune
from mlops.learn.calibration import Calibrator
from mlops.learn.features import Features
from mlops.monitor import DETECTORS, ReferenceSummary, summarise
from mlops.settings import Settings, TrainSettings
from mlops.types import ModelRef
from registry_hooks import bundle

ROOT = Path(__file__).parents[2]
STRATEGY = STRATEGIES["volatility"]
AS_OF = datetime(2005, 1, 10, tzinfo=UTC)
SYMBOLS = ("AAPL", "BAC", "CVX", "GE", "HD", "JNJ", "JPM", "KO", "WMT", "XOM")
SMALL = TrainSettings(trials=4, folds=3)
FINISHED = (optuna.trial.TrialState.COMPLETE, optuna.trial.TrialState.PRUNED)


@contextmanager
def _opened(folder, settings=SMALL):
    """A set-up of its own; runs and artifacts stay in `folder`."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        for name in ("MLFLOW_TRACKING_URI", "MLFLOW_RUN_ID"):
            patch.delenv(name, raising=False)
        uri = f"sqlite:///{folder}/mlflow.db"
        with context_module.opened(Settings(state=folder, tracking_uri=uri, train=settings)) as context:
            yield context


def _train(context, bars, as_of=AS_OF, **given):
    return train.train(context, STRATEGY, bars, as_of=as_of, **{"start": None, **given})


def _booster(folder, version=1):
    return (folder / "bundles" / "volatility" / str(version) / "artifacts" / "booster.txt").read_text()


@pytest.fixture(scope="module")
def bars():
    """Ten symbols, three years; one of them warms the features up."""
    frame = bar_feed.load_bars(
        "sp500", start=datetime(2003, 1, 1, tzinfo=UTC), end=datetime(2006, 1, 1, tzinfo=UTC)
    ).frame
    return frame[frame.symbol.isin(SYMBOLS)].reset_index(drop=True)


@pytest.fixture(scope="module")
def trained(tmp_path_factory, bars):
    """(context, ref, folder) after one training."""
    folder = tmp_path_factory.mktemp("trained")
    with _opened(folder) as context:
        yield context, _train(context, bars, note="the first"), folder


def _children(context, run_id):
    experiment = context.client.get_run(run_id).info.experiment_id
    return context.client.search_runs([experiment], f"tags.mlflow.parentRunId = '{run_id}'")


def test_the_same_rows_and_seed_give_the_same_booster_and_later_rows_change_nothing(trained, bars, tmp_path):
    """In a set-up that never saw the first study, with a future that is another one."""
    rng = np.random.default_rng(0)
    later = bars.known_at > AS_OF
    other = bars.assign(close=bars.close.where(~later, bars.close * rng.uniform(0.5, 2.0, len(bars))))
    with _opened(tmp_path) as context:
        _train(context, other)

    assert later.any()
    assert "split_gain" in _booster(tmp_path)
    assert _booster(tmp_path).count("num_leaves=1\n") < _booster(tmp_path).count("Tree=")  # it did learn
    assert _booster(trained[2]) == _booster(tmp_path)
    meta = [json.loads((f / "bundles/volatility/1/artifacts/meta.json").read_text()) for f in (trained[2], tmp_path)]
    assert meta[0] == meta[1]


def test_nothing_is_learned_from_what_was_not_known(trained, bars):
    context, ref, _ = trained
    row = context.ledger.registry.bundle(ref.name, ref.version)
    known = labels.table(STRATEGY, bars).query("known_at <= @AS_OF")

    assert known.event_time.max() == row.train_end
    # A bar that was published late was not known either.
    late = bars.assign(
        known_at=bars.known_at.where(bars.event_time < "2004-12-20", bars.known_at + pd.Timedelta("90D"))
    )
    study = prepare(context.settings.train, STRATEGY, late[late.known_at <= AS_OF], None)
    assert study.rows.known_at.max() < pd.Timestamp("2004-12-20", tz="UTC")


def test_a_bar_that_came_late_makes_no_feature_and_its_labels_later(trained, bars):
    day = bars.event_time.unique()[450]
    late = (bars.symbol == "GE") & (bars.event_time == day)
    arrived = day + pd.Timedelta("3D12h")
    known = bars.assign(known_at=bars.known_at.where(~late, arrived))[bars.known_at <= AS_OF]
    rows = [
        prepare(trained[0].settings.train, STRATEGY, known.assign(close=known.close.where(~late, close)), None).rows
        for close in (known.close, 30.0)
    ]
    of_ge = rows[0][rows[0].unit == "GE"].set_index("event_time").known_at

    names = ["event_time", "unit", *STRATEGY.feature_names]
    pd.testing.assert_frame_equal(rows[0][names], rows[1][names], check_exact=True)
    assert day not in of_ge.index
    waits = of_ge[bars.event_time.unique()[445:450]]
    assert waits.iloc[0] == arrived == waits.min()


def test_another_seed_or_another_row_is_another_study(trained, bars):
    context, _, _ = trained
    known = bars[bars.known_at <= AS_OF]
    touched = known.assign(close=known.close.where(known.index != known.index[-100], known.close * 1.001))
    reseeded = replace(context, settings=context.settings.model_copy(update={"train": TrainSettings(seed=8)}))

    def name(context, rows):
        return prepare(context.settings.train, STRATEGY, rows, None).digest

    assert 3 == len({name(context, known), name(context, touched), name(reseeded, known)})


def test_a_study_that_a_release_before_began_is_the_same_study_now(trained, bars):
    """Its name on disk: rows, strategy and settings as they were hashed then; neither workers nor learner were in it."""
    study = prepare(SMALL, STRATEGY, bars[bars.known_at <= AS_OF], None)
    then = {"trials": 4, "folds": 3, "embargo_bars": 5, "seed": 7, "min_bars": 200, "bar_delay_s": 60.0}
    then |= {"held_out_share": 0.2, "held_out_bars": 250}
    key = hashlib.sha256(pd.util.hash_pandas_object(study.rows, index=False).to_numpy().tobytes())
    key.update(json.dumps(["volatility", STRATEGY.feature_names, then]).encode())

    assert key.hexdigest() == study.digest
    assert [f"volatility-{study.digest[:24]}.jsonl"] == [path.name for path in (trained[2] / "studies").iterdir()]


def test_start_is_learned_from_first_and_what_is_before_it_warms_up(trained, bars):
    context, ref, _ = trained
    start = datetime(2004, 2, 2, tzinfo=UTC)
    known = bars[bars.known_at <= AS_OF]
    whole, part = (prepare(context.settings.train, STRATEGY, known, first) for first in (None, start))

    assert start <= part.window[0] < datetime(2004, 2, 3, tzinfo=UTC)
    pd.testing.assert_frame_equal(whole.rows[whole.rows.event_time >= start].reset_index(drop=True), part.rows)


def test_the_metrics_are_tied_to_the_model_and_its_dataset(trained):
    context, ref, _ = trained
    row = context.ledger.registry.bundle(ref.name, ref.version)
    model = context.client.get_logged_model(row.model_id)
    run = context.client.get_run(row.run_id)

    found = {metric.key: metric for metric in model.metrics}
    assert {"cv.log_loss", "cv.base_log_loss", "cv.accuracy", "cv.auc", "cv.brier", "cv.n"} == set(found)
    dataset = run.inputs.dataset_inputs[0].dataset
    assert {(row.model_id, dataset.name, dataset.digest)} == {
        (m.model_id, m.dataset_name, m.dataset_digest) for m in found.values()
    }
    assert {key: metric.value for key, metric in found.items()} == run.data.metrics


def test_the_version_says_what_it_learned_from_and_the_ledger_holds_its_digest(trained):
    context, ref, folder = trained
    version = context.client.get_model_version(ref.name, str(ref.version))
    row = context.ledger.registry.bundle(ref.name, ref.version)
    meta = json.loads((folder / "bundles/volatility/1/artifacts/meta.json").read_text())

    assert ModelRef("volatility", 1) == ref
    assert "the first" == version.description == version.tags["note"]
    assert row.digest == version.tags["bundle_sha256"] == bundle.digest(folder / "bundles/volatility/1")
    assert meta["data_digest"] == version.tags["data_digest"]
    units = pd.read_parquet(folder / "bundles/volatility/1/artifacts/reference.parquet")["unit"]
    assert (86400.0, sorted(units.unique())) == (meta["every_s"], meta["universe"])
    assert meta["train_start"] == row.train_start.isoformat()
    assert [str(row.train_start), str(row.train_end)] == [version.tags["train_start"], version.tags["train_end"]]
    assert str(STRATEGY.horizon) == version.tags["horizon_bars"] == str(row.horizon_bars)
    assert AS_OF == row.registered_at


def test_each_trial_is_a_child_run_with_its_parameters(trained):
    context, ref, _ = trained
    run_id = context.ledger.registry.bundle(ref.name, ref.version).run_id
    children = _children(context, run_id)

    assert {f"trial {i}" for i in range(SMALL.trials)} == {run.info.run_name for run in children}
    assert {"FINISHED"} == {run.info.status for run in children} | {context.client.get_run(run_id).info.status}
    best = min(
        (run for run in children if run.data.metrics), key=lambda run: run.data.metrics["cv.log_loss_uncalibrated"]
    )
    assert best.data.params.items() <= context.client.get_run(run_id).data.params.items()


def test_the_reference_is_what_was_predicted_out_of_fold(trained, bars):
    context, ref, folder = trained
    reference = pd.read_parquet(folder / "bundles/volatility/1/artifacts/reference.parquet")
    study = prepare(context.settings.train, STRATEGY, bars[bars.known_at <= AS_OF], None)
    tests = np.concatenate([fold.test for fold in study.folds])

    expected = study.rows.iloc[tests].reset_index(drop=True)
    for name in ("event_time", "unit", "label", *STRATEGY.feature_names):
        assert expected[name].equals(reference[name])
    metrics = context.client.get_run(context.ledger.registry.bundle(ref.name, ref.version).run_id).data.metrics
    hit = ((reference.probability > 0.5) == (reference.label > 0.5)).mean()
    assert hit == pytest.approx(metrics["cv.accuracy"])
    assert len(reference) == metrics["cv.n"]


HELD = SMALL.model_copy(update={"min_bars": 100, "held_out_bars": 100})


@pytest.fixture(scope="module")
def held(tmp_path_factory, bars):
    """Two trainings with bars held out; the second where these bars were others."""
    first, second = tmp_path_factory.mktemp("held"), tmp_path_factory.mktemp("other")
    rng, times = np.random.default_rng(1), np.unique(bars.event_time[bars.known_at <= AS_OF])
    block = bars.event_time >= times[-101 - STRATEGY.horizon]
    other = bars.assign(close=bars.close.where(~block, bars.close * rng.uniform(0.9, 1.1, len(bars))))
    for folder, known in ((first, bars), (second, other)):
        with _opened(folder, HELD) as context:
            _train(context, known)
    with _opened(first, HELD) as context:
        yield context, context.bundle(ModelRef("volatility", 1)), first, second


def test_nothing_of_a_version_was_chosen_by_the_bars_that_it_is_judged_by(held):
    _, made, first, second = held
    meta = json.loads((second / "bundles/volatility/1/artifacts/meta.json").read_text())
    judged = made.held_out()

    assert made.meta["params"] == meta["params"]
    assert made.meta["calibrator"] == meta["calibrator"]
    assert made.meta["held_out"] == meta["held_out"]
    assert _booster(first) != _booster(second)  # what ships is fitted on all
    assert 102 == judged.event_time.nunique()  # three whole steps
    assert judged.event_time.max() == made.reference().event_time.max()
    assert len(judged) < len(made.reference())


def test_what_is_measured_is_how_the_version_was_made(held, bars):
    """The same parameters and calibrator, each step fitted on all that was known before it."""
    context, made, _, _ = held
    study = prepare(context.settings.train, STRATEGY, bars[bars.known_at <= AS_OF], None)
    calibrator = Calibrator(**made.meta["calibrator"])
    judged, last = made.held_out(), study.held_out[-1]
    margin = tune.score_fold(last, study.learner, study.table, made.meta["params"], HELD.seed)

    assert calibrator(margin).tolist() == judged.probability.iloc[-len(margin) :].tolist()
    row = context.ledger.registry.bundle("volatility", 1)
    found = context.client.get_run(row.run_id).data.metrics
    hit = ((judged.probability > 0.5) == (judged.label > 0.5)).mean()
    assert hit == pytest.approx(found["held_out.accuracy"])
    assert len(judged) == found["held_out.n"]
    assert found["cv.n"] + found["held_out.n"] == len(made.reference())


def test_too_short_a_history_has_no_record_rather_than_the_one_that_was_searched_on(trained):
    made = trained[0].bundle(trained[1])
    assert made.held_out().empty
    assert not made.reference().empty
    assert {"from": None, "bars_needed": 460 + 2} == made.meta["held_out"]  # 200, 10 and 250 in whole steps


def test_the_summary_of_the_reference_travels_with_it_under_the_same_digest(trained):
    context, ref, folder = trained
    place = folder / "bundles" / "volatility" / "1"
    loaded = context.bundle(ref)
    kept = ReferenceSummary.from_bytes(loaded.summary())
    anew = summarise(loaded.reference(), loaded.names).calibrated(100, [make() for make in DETECTORS.values()])

    assert (100,) == kept.lengths  # 1,000 predictions of ten symbols
    assert anew.to_bytes() == kept.to_bytes()
    digest = bundle.digest(place)
    (place / "artifacts" / "summary.npz").write_bytes(summarise(loaded.reference(), loaded.names).to_bytes())
    assert digest != bundle.digest(place)
    (place / "artifacts" / "summary.npz").write_bytes(kept.to_bytes())
    assert digest == bundle.digest(place)


@pytest.mark.parametrize("as_of", [datetime(2004, 6, 1, tzinfo=UTC), datetime(2003, 3, 1, tzinfo=UTC)])
def test_too_few_labelled_bars_are_refused(trained, bars, as_of):
    with pytest.raises(DataError, match="training must have 200 labelled bars, got .* Give more history"):
        _train(trained[0], bars, as_of)


def test_a_strategy_that_leaks_is_refused_before_anything_is_learned(trained, bars):
    leaky = replace(STRATEGY, horizon=1)
    runs = len(trained[0].client.search_runs(["1"]))
    with pytest.raises(LeakError, match="Give a label its full horizon: this one depends on 5 bars"):
        train.train(trained[0], leaky, bars, as_of=datetime(2005, 12, 1, tzinfo=UTC), start=None)
    assert runs == len(trained[0].client.search_runs(["1"]))


def _joined(bars, after, *, plain=True):
    """A strategy with a feature that a person joined by the wrong day: what comes `after` the bar, from elsewhere."""
    wide = bars.pivot(index="event_time", columns="symbol", values="close").pct_change(fill_method=None)
    known = {}
    for unit in wide:
        r = wide[unit].to_numpy()
        known |= {r[i - 1 : i + 1].tobytes(): after(r[i + 1 : i + 6]) for i in range(2, len(r) - 5)}

    def compute(windows):
        coming = np.array([known.get(window[-2:].tobytes(), 0.0) for window in windows.reshape(-1, 252)])
        return (coming if plain else coming / np.median(np.abs(windows), axis=-1))[..., None]

    return replace(STRATEGY, features=(*STRATEGY.features, Features(("joined",), 252, compute)))


def _failed(context):
    (run,) = context.client.search_runs(["1"], "tags.too_good LIKE '%'")
    return run


def test_a_feature_that_knows_the_next_return_is_refused_by_name_and_the_run_has_the_evidence(bars, tmp_path):
    leaky = _joined(bars, lambda r: r[0])
    with _opened(tmp_path) as context:
        with pytest.raises(LeakError, match=r"the return of the next bar must be at most 0.5, got .*: joined \("):
            train.train(context, leaky, bars, as_of=AS_OF, start=None)

        run = _failed(context)
        assert "FAILED" == run.info.status
        assert (
            run.data.metrics["too_good.foresight.joined"] > 0.9 > 0.2 > run.data.metrics["too_good.foresight.return_21"]
        )
        assert "joined (" in run.data.tags["too_good"]
        assert [] == context.ledger.registry.bundles("volatility")
        assert [] == context.client.search_model_versions("name = 'volatility'")


def test_a_model_that_is_nearly_always_right_is_refused_unless_a_person_trusts_it(bars, tmp_path):
    """The label itself in other words: its size says nothing of the next bar's sign, and not all of its size."""
    leaky = _joined(bars, lambda r: np.abs(r).mean(), plain=False)
    with _opened(tmp_path) as context:
        with pytest.raises(
            LeakError, match=r"AUC .* must be at most 0.9, got 0.9\d+: joined .*'volatility' into train.trusted"
        ):
            train.train(context, leaky, bars, as_of=AS_OF, start=None)
        run, children = _failed(context), len(_children(context, _failed(context).info.run_id))
        assert ("FAILED", SMALL.trials) == (run.info.status, children)
        assert run.data.metrics["too_good.drop.joined"] > 0.2
        assert [] == context.ledger.registry.bundles("volatility")

        trust = context.settings.model_copy(update={"train": SMALL.model_copy(update={"trusted": ("volatility",)})})
        ref = train.train(replace(context, settings=trust), leaky, bars, as_of=AS_OF, start=None)
        again = context.client.get_run(context.ledger.registry.bundle(ref.name, ref.version).run_id)
        assert (run.info.run_id, "FINISHED") == (again.info.run_id, again.info.status)
        assert "joined" in again.data.tags["too_good"]  # for ever
        assert children == len(_children(context, again.info.run_id))


def test_a_symbol_that_misses_bars_is_trained_on_too(trained, bars):
    day = bars.event_time.rank(method="dense")
    gappy = bars[~((bars.symbol == "GE") & (day.between(380, 400) | (day % 50 == 7)))]
    study = prepare(trained[0].settings.train, STRATEGY, gappy[gappy.known_at <= AS_OF], None)
    assert set(SYMBOLS) == set(study.rows.unit)
    assert SMALL.folds == len(study.folds)


# The process that is killed. It kills itself between the trial `at` and the run that says so.
SCRIPT = """
import os, signal, sys
from datetime import datetime
from pathlib import Path
import pandas as pd
from jobs import context, train
from jobs.training import search
from mlops.learn import STRATEGIES
from mlops.settings import Settings, TrainSettings

folder, as_of, settings, at = Path(sys.argv[1]), sys.argv[2], sys.argv[3], sys.argv[4]
write = search._child_run

def killed(context, parent, index, *rest):
    if index == int(at):
        os.kill(os.getpid(), signal.SIGKILL)
    write(context, parent, index, *rest)

search._child_run = killed
settings = TrainSettings.model_validate_json(settings)
with context.opened(Settings(state=folder, tracking_uri=f"sqlite:///{folder}/mlflow.db", train=settings)) as opened:
    bars = pd.read_parquet(folder / "bars.parquet")
    train.train(opened, STRATEGIES["volatility"], bars, as_of=datetime.fromisoformat(as_of), start=None)
"""
LONG = TrainSettings(trials=14, folds=3)


def _start(folder, at):
    # MLflow leaves the address of the last store in the environment; a new process must not find it.
    mine = {name: value for name, value in os.environ.items() if not name.startswith(("MLFLOW_TRACKING", "MLFLOW_RUN"))}
    environment = {**mine, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", SCRIPT, str(folder), AS_OF.isoformat(), LONG.model_dump_json(), str(at)]
    return subprocess.Popen(command, cwd=folder, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def _finished(folder):
    """(number, when done) of the finished trials in the journal."""
    for path in (folder / "studies").glob("*.jsonl"):
        studies = JournalStorage(JournalFileBackend(str(path)))
        for study in studies.get_all_studies():
            trials = studies.get_all_trials(study._study_id, states=FINISHED)
            return [(trial.number, trial.datetime_complete) for trial in trials]
    return []


def _kill_when(process, reached):
    """kill -9 as soon as `reached()`."""
    deadline = time.monotonic() + 240
    while not reached() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.02)
    process.kill()
    assert -signal.SIGKILL == process.wait()


@pytest.fixture(scope="module")
def killed(tmp_path_factory, bars):
    """A training that was killed from outside, killed again at the worst place, and torn; then let through."""
    folder = tmp_path_factory.mktemp("killed")
    bars.to_parquet(folder / "bars.parquet", index=False)
    _kill_when(_start(folder, -1), lambda: len(_finished(folder)) >= 3)
    first = _finished(folder)
    assert -signal.SIGKILL == _start(folder, len(first) + 1).wait(timeout=240)
    before = _finished(folder)
    journal = next((folder / "studies").glob("*.jsonl"))
    with journal.open("ab") as file:
        file.write(b'{"op_code":6,"wor')  # as if the power had failed in the middle of a write
    Path(f"{journal}.lock").symlink_to(journal)
    parents = _parents(folder)
    with _opened(folder, LONG) as context:
        yield context, _train(context, bars), folder, (first, before, parents)


def _parents(folder):
    client = MlflowClient(f"sqlite:///{folder}/mlflow.db")
    return [run.info.run_id for run in client.search_runs(["1"], "tags.job = 'train'")]


def test_a_killed_study_gives_the_booster_of_one_that_was_let_through(killed, bars, tmp_path):
    with _opened(tmp_path, LONG) as context:
        _train(context, bars)

    assert _booster(tmp_path) == _booster(killed[2])


def test_finished_trials_are_not_done_again(killed):
    context, ref, folder, (first, before, _) = killed
    after = _finished(folder)

    assert 3 <= len(first) < len(before) < LONG.trials == len(after)
    assert first == before[: len(first)]
    assert before == after[: len(before)]
    children = _children(context, context.ledger.registry.bundle(ref.name, ref.version).run_id)
    assert sorted(f"trial {i}" for i in range(LONG.trials)) == sorted(run.info.run_name for run in children)
    assert {"FINISHED"} == {run.info.status for run in children}
    assert all(run.data.params for run in children)


def test_the_parent_run_of_a_killed_study_is_continued(killed):
    context, ref, folder, (_, _, parents) = killed
    assert [context.ledger.registry.bundle(ref.name, ref.version).run_id] == parents == _parents(folder)
    assert "FINISHED" == context.client.get_run(parents[0]).info.status


def test_the_same_training_once_more_searches_nothing_and_makes_the_same_version_again(killed, bars):
    _, ref, folder, _ = killed
    before = _finished(folder)
    with _opened(folder, LONG) as context:
        again = _train(context, bars)

    assert (ref.version + 1, before) == (again.version, _finished(folder))
    assert hashlib.sha256(_booster(folder, ref.version).encode()).digest() == (
        hashlib.sha256(_booster(folder, again.version).encode()).digest()
    )
