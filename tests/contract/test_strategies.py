"""Every strategy keeps these promises. A new one is picked up from the table."""

import importlib
import pkgutil

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import roc_auc_score

from mlops.learn import STRATEGIES, Strategy, features, labels, leaks, splits, strategies, tune
from mlops.learn.gbm import GBM
from mlops.learn.learner import Table

every = pytest.mark.parametrize("strategy", STRATEGIES.values(), ids=STRATEGIES)

PARAMS = {"num_iterations": 40, "num_leaves": 5, "learning_rate": 0.05, "min_data_in_leaf": 200, "lambda_l2": 10.0}
WORLDS = 6


def _walk(bars, units, seed=0):
    """A random walk with fat tails: nothing to know."""
    rng = np.random.default_rng(seed)
    closes = 100 * np.exp((0.01 * rng.standard_t(5, size=(bars, units))).cumsum(axis=0))
    times = pd.date_range("2000-01-01T21:00", periods=bars, tz="UTC", name="event_time")
    wide = pd.DataFrame(closes, index=times, columns=[f"U{i}" for i in range(units)]).reset_index()
    long = wide.melt(id_vars="event_time", var_name="symbol", value_name="close")
    return long.assign(known_at=long.event_time).sort_values(["event_time", "symbol"], ignore_index=True)


def _gappy(bars):
    """U1 misses single bars and a month, U2 is listed late, and on one day only U0 has a bar."""
    day = bars.event_time.rank(method="dense").astype(int) - 1
    missing = (bars.symbol == "U1") & (day.isin([20, 290]) | day.between(320, 340))
    missing |= (bars.symbol == "U2") & (day < 30)
    missing |= (bars.symbol != "U0") & (day == 300)
    return bars[~missing]


def _stuck(bars):
    """U0 does not move at all."""
    return bars.assign(close=bars.close.where(bars.symbol != "U0", 50.0))


@every
def test_a_label_is_made_of_no_more_returns_than_it_says(strategy):
    returns = 0.01 * np.random.default_rng(3).standard_t(4, size=700)
    before = strategy.label(returns)

    for t in (400, 500, 650):
        other = returns.copy()
        other[: t - (strategy.label_past or t) + 1] *= 7.0
        assert before[t] == strategy.label(other)[t]


@every
@pytest.mark.parametrize(
    "bars",
    [_walk(400, 4), _walk(400, 1), _gappy(_walk(400, 4)), _stuck(_walk(400, 3))],
    ids=["whole", "one symbol", "gaps", "a stuck price"],
)
def test_history_and_the_stream_agree_bit_for_bit(strategy, bars):
    stream, keys, rows = features.Stream(strategy), [], []
    for time, bar in bars.groupby("event_time", sort=True):
        units, values = stream.update(bar)
        keys += [(time, unit) for unit in units]
        rows.append(values)

    found = features.table(strategy, bars)

    assert len(found) > 100
    assert list(zip(found.event_time, found.unit, strict=True)) == keys
    assert found[list(strategy.feature_names)].to_numpy().tobytes() == np.concatenate(rows).tobytes()
    assert np.float32 == np.concatenate(rows).dtype
    assert np.isfinite(np.concatenate(rows)).all()


@every
def test_features_and_labels_pass_the_leak_audit(strategy):
    bars = _gappy(_walk(2 * strategy.lookback + 200, 3))
    leaks.audit(strategy, bars, np.random.default_rng(0), cuts=10)


@every
def test_the_label_is_known_at_its_horizon_and_is_nought_or_one(strategy):
    bars = _walk(600, 2)
    found = labels.table(strategy, bars)
    position = pd.Series(range(600), index=bars.event_time.unique())

    assert {0.0, 1.0} == set(found.label)
    late = position[found.known_at].to_numpy() - position[found.event_time].to_numpy()
    assert {strategy.horizon} == set(late)
    assert bars.event_time.max() == found.known_at.max()


def _auc(strategy, seed, *, ahead=0):
    """Of purged walk-forward fits; `ahead` plants a leak: features of so many bars later. Also the rows scored."""
    bars = _walk(1200, 6, seed)
    seen = features.table(strategy, bars)
    names = list(strategy.feature_names)
    seen[names] = seen.groupby("unit")[names].shift(-ahead)
    rows = seen.merge(labels.table(strategy, bars), on=["event_time", "unit"]).dropna().reset_index(drop=True)
    table = Table(rows[names].to_numpy(np.float32), rows["label"].to_numpy(np.float64))
    folds = splits.walk_forward(rows, folds=3, horizon=strategy.horizon, embargo=5)
    tests = np.concatenate([fold.test for fold in folds])
    margin = np.concatenate(tune.score_folds(GBM, table, folds, PARAMS, 7))
    return roc_auc_score(table.y[tests], margin), ((margin > 0) == (table.y[tests] > 0.5)).mean(), len(tests)


@every
def test_a_random_walk_scores_a_half_within_sampling_error(strategy):
    """Labels overlap by the horizon, so that one row in `horizon` counts. Three standard errors."""
    found = [_auc(strategy, seed) for seed in range(WORLDS)]
    n = sum(rows for _, _, rows in found) / strategy.horizon

    assert 0.5 == pytest.approx(np.mean([auc for auc, _, _ in found]), abs=3 / np.sqrt(3 * n))
    assert 0.5 == pytest.approx(np.mean([accuracy for _, accuracy, _ in found]), abs=3 * 0.5 / np.sqrt(n))


@every
def test_that_test_would_see_a_leak(strategy):
    auc, accuracy, _ = _auc(strategy, 0, ahead=strategy.horizon)
    assert auc > 0.8
    assert accuracy > 0.7


@every
def test_a_position_stays_within_one_and_is_finite(strategy):
    for p in (np.linspace(0, 1, 1001), np.full((3, 2), 0.5), np.array([])):
        found = np.asarray(strategy.position(p))
        assert p.shape == found.shape
        assert np.isfinite(found).all()
        assert (np.abs(found) <= 1).all()


@every
def test_it_is_called_in_the_table_what_it_calls_itself_and_its_features_have_names_of_their_own(strategy):
    assert strategy is STRATEGIES[strategy.name]
    assert len(strategy.feature_names) == len(set(strategy.feature_names))
    assert not {"event_time", "unit", "label", "probability", "value", "known_at"} & set(strategy.feature_names)
    assert strategy.horizon >= 1
    assert strategy.cost_bps > 0


@every
def test_each_group_of_features_gives_as_many_values_as_it_names(strategy):
    for group in strategy.features:
        windows = np.random.default_rng(0).normal(0, 0.01, size=(7, group.window))
        assert (7, len(group.names)) == group.compute(windows).shape
        assert (len(group.names),) == group.compute(windows[0]).shape


def test_no_strategy_is_left_out_of_the_table():
    modules = [
        importlib.import_module(f"{strategies.__name__}.{m.name}") for m in pkgutil.iter_modules(strategies.__path__)
    ]
    defined = {value.name for m in modules for value in vars(m).values() if isinstance(value, Strategy)}
    assert set(STRATEGIES) == defined
