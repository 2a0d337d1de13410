"""Planted leaks are refused, honest strategies pass."""

from dataclasses import replace

import numpy as np
import pytest

from mlops.errors import LeakError
from mlops.learn import STRATEGIES
from mlops.learn.features import Features
from mlops.learn.leaks import audit

HONEST = replace(
    STRATEGIES["direction"],
    features=(Features(("mean_5", "last"), 5, lambda r: np.stack([r.mean(axis=-1), r[..., -1]], axis=-1)),),
)


def _z_scored_over_history(r):
    """The mean and the deviation are those of all windows, later ones too."""
    last = r[..., -1:]
    return (last - last.mean(axis=0)) / (last.std(axis=0) + 1e-9)


def _next_value(r):
    """Each row takes what the next window ends with."""
    return np.roll(r[..., -1:], -1, axis=0)


def _two_ahead(r):
    """A label of the bar after the next, though it says that it is known one bar on."""
    after = np.append(r[2:], [np.nan, np.nan])
    return np.where(np.isnan(after), np.nan, (after > 0).astype(float))


def _above_its_median(r):
    """A label that compares with all of history."""
    after = np.append(r[1:], np.nan)
    return np.where(np.isnan(after), np.nan, (after > np.nanmedian(r)).astype(float))


def test_an_honest_strategy_passes(walk):
    audit(HONEST, walk(300), np.random.default_rng(0))


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("leak", [_z_scored_over_history, _next_value])
def test_a_feature_that_sees_the_future_is_refused_by_its_name(walk, leak, seed):
    leaky = replace(HONEST, features=(*HONEST.features, Features(("leaky",), 5, leak)))
    with pytest.raises(LeakError, match="feature leaky at .* must not depend on later bars.* Compute it from its own"):
        audit(leaky, walk(300, seed=seed), np.random.default_rng(seed))


def test_a_market_feature_that_sees_the_future_is_refused(walk):
    leaky = replace(HONEST, features=(*HONEST.features, Features(("m",), 5, _z_scored_over_history, "market")))
    with pytest.raises(LeakError, match="feature m at"):
        audit(leaky, walk(300), np.random.default_rng(0))


@pytest.mark.parametrize("seed", range(5))
def test_a_label_with_too_short_a_horizon_is_refused(walk, seed):
    with pytest.raises(LeakError, match="give a label its full horizon"):
        audit(replace(HONEST, label=_two_ahead), walk(300, seed=seed), np.random.default_rng(seed))
    audit(replace(HONEST, label=_two_ahead, horizon=2), walk(300, seed=seed), np.random.default_rng(seed))


def test_a_label_that_compares_with_all_of_history_is_refused(walk):
    """It changes rarely, near the median only: many cuts are needed to see it."""
    with pytest.raises(LeakError, match="label label at"):
        audit(replace(HONEST, label=_above_its_median), walk(600), np.random.default_rng(0), cuts=100)


def test_the_audit_leaves_the_bars_alone(walk):
    bars = walk(300)
    audit(HONEST, bars, np.random.default_rng(0))
    assert walk(300).equals(bars)


@pytest.mark.parametrize("missing", [{150}, {40, 80, 120, 160, 200}, set(range(100, 104)), set(range(100, 250))])
def test_a_pause_of_one_symbol_is_no_leak(walk, missing):
    bars = walk(300)
    day = bars.event_time.rank(method="dense")
    paused = bars[~((bars.symbol == "BBB") & day.isin(missing))]
    audit(HONEST, paused, np.random.default_rng(0), cuts=50)
