"""Is a version as good on live bars as the monitor is told? Skill on the search's folds, on bars held out, and live."""

import numpy as np
import optuna
import pandas as pd
import pytest
from scipy.signal import lfilter

from jobs.training.search import score
from jobs.training.study import Study
from mlops.learn import STRATEGIES, splits, tune
from mlops.learn.gbm import GBM
from mlops.learn.learner import Table
from mlops.monitor import accuracy_change
from mlops.types import Level

pytestmark = pytest.mark.calibration
HORIZON, EMBARGO, BURN = 5, 5, 100
LIVE = 252


def world(rng, bars, units, edge, features=8, memory=0.97):
    """Rows of units that share 30 % of their variance; labels over five bars; `edge`: what the first feature knows."""

    def panel(n, phi):
        common, own = rng.standard_normal((n + BURN, 1)), rng.standard_normal((n + BURN, units))
        drawn = np.sqrt(0.3) * common + np.sqrt(0.7) * own
        return lfilter([np.sqrt(1 - phi**2)], [1, -phi], drawn, axis=0)[BURN:]

    x = np.stack([panel(bars, memory) for _ in range(features)], axis=-1)
    coming = np.lib.stride_tricks.sliding_window_view(panel(bars + HORIZON - 1, 0.0), HORIZON, axis=0).sum(axis=-1)
    label = (coming / np.sqrt(HORIZON) + edge * x[..., 0] > 0).astype(np.float64)
    times = pd.date_range("2000-01-01", periods=bars + HORIZON, tz="UTC")
    keys = {"event_time": times[:bars].repeat(units), "unit": np.tile([f"U{i}" for i in range(units)], bars)}
    rows = pd.DataFrame(keys | {"label": label.ravel(), "known_at": times[HORIZON:].repeat(units)})
    return rows, Table(x.reshape(-1, features).astype(np.float32), label.ravel())


def made(rows, table, past, *, trials, folds, seed=7):
    """A version of the first `past` rows, as training makes it: its records and its booster."""
    known = rows.iloc[:past]
    scheme = splits.Scheme(folds, HORIZON, EMBARGO, 0.2, 100, 1000, 200)
    seen = Table(table.x[:past], table.y[:past])

    def searched(folds_of_it):
        """As `jobs.training.search`, without a journal and runs."""
        study = Study(STRATEGIES["volatility"], known, seen, folds_of_it, [], 0, "", known, GBM)
        journal = optuna.create_study(pruner=optuna.pruners.MedianPruner(n_startup_trials=4))
        for index in range(trials):
            journal.sampler = optuna.samplers.TPESampler(seed=seed + 1000 * index, n_startup_trials=4)
            trial = journal.ask()
            value = score(study, trial, GBM.space(trial), seed)
            state = optuna.trial.TrialState.PRUNED if value is None else optuna.trial.TrialState.COMPLETE
            journal.tell(trial, value, state=state)
        tests = np.concatenate([fold.test for fold in folds_of_it])
        margin = np.concatenate(tune.score_folds(GBM, seen, folds_of_it, journal.best_params, seed))
        return journal.best_params, tests, margin, GBM.calibrate(margin, seen.y[tests])

    def live(params, calibrator):
        margin = GBM.fit(seen, params, seed).margins(table.x[past:])
        return rows.iloc[past:].assign(probability=calibrator(margin))

    split = scheme.split(known)
    whole = splits.walk_forward(known, folds=folds, horizon=HORIZON, embargo=EMBARGO)
    params, tests, margin, calibrator = searched(whole)
    before = known.iloc[tests].assign(probability=calibrator(margin)), live(params, calibrator)
    params, _, _, calibrator = searched(split.search)
    block = np.concatenate([fold.test for fold in split.held_out])
    ahead = np.concatenate(tune.score_folds(GBM, seen, split.held_out, params, seed))
    return before, (known.iloc[block].assign(probability=calibrator(ahead)), live(params, calibrator))


def accuracy(rows):
    return float(((rows.probability > 0.5) == (rows.label > 0.5)).mean())


def alarms(reference, live, seed):
    """Of the chart in one year of an unchanged model, started anew after each."""
    count, rows = 0, live.iloc[: LIVE * live.unit.nunique()]
    while True:
        found = accuracy_change(reference, rows, rng=np.random.default_rng(seed))
        if found.level is not Level.ALERT:
            return count
        count, rows = count + 1, rows[rows.event_time > pd.Timestamp(found.params["alarm_at"])]


def measured(worlds, *, bars=1500, units=10, edge=0.0, trials=12, folds=5, ahead=1500, first=0):
    """One row a world: optimism (record less live accuracy) and false alarms a year, of the search's record and ours."""
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    out = []
    for seed in range(first, first + worlds):
        rows, table = world(np.random.default_rng([seed, 12]), bars + HORIZON + ahead, units, edge)
        pairs = made(rows, table, bars * units, trials=trials, folds=folds)
        row = {}
        for name, (reference, live) in zip(("searched", "held_out"), pairs, strict=True):
            live = live[live.event_time > rows.event_time.iloc[bars * units] + pd.Timedelta(days=HORIZON)]
            row |= {f"{name} optimism": accuracy(reference) - accuracy(live), f"{name} live": accuracy(live)}
            row |= {f"{name} alarms": alarms(reference, live, seed)}
        out.append(row)
    return pd.DataFrame(out)


@pytest.mark.parametrize("edge", [0.0, 0.3], ids=["noise", "skill .58"])
def test_a_version_is_as_good_live_as_on_the_bars_held_out(edge):
    found = measured(24, bars=700, units=5, edge=edge, trials=6, folds=3, ahead=700)
    mean, error = found.mean(), found.sem()
    for name in ("searched", "held_out"):
        print(
            f"{name}: {100 * mean[f'{name} optimism']:+.2f} points more than live (+- {100 * error[f'{name} optimism']:.2f}), "
            f"{mean[f'{name} alarms']:.2f} false alarms a year (+- {error[f'{name} alarms']:.2f}) of 1 asked for"
        )
    assert mean["held_out optimism"] <= 3 * error["held_out optimism"]
    assert mean["held_out alarms"] <= 1 + 3 * error["held_out alarms"]
