"""Planted leaks are refused, honest strategies pass."""

from dataclasses import replace
from datetime import timedelta

import numpy as np
import pandas as pd
import pytest
from scipy.ndimage import uniform_filter1d

from mlops.errors import LeakError
from mlops.learn import STRATEGIES, leaks
from mlops.learn.features import Features
from mlops.learn.leaks import audit

HONEST = replace(
    STRATEGIES["direction"],
    features=(Features(("mean_5", "last"), 5, lambda r: np.stack([r.mean(axis=-1), r[..., -1]], axis=-1)),),
)
WORLDS = 40


def _z_scored_over_history(r):
    """The mean and the deviation are those of all windows, later ones too."""
    last = r[..., -1:]
    return (last - last.mean(axis=0)) / (last.std(axis=0) + 1e-9)


def _ranked_over_history(r):
    return r[..., -1:].argsort(axis=0).argsort(axis=0).astype(float)


def _scaled_by_least_and_most(r):
    last = r[..., -1:]
    return (last - last.min(axis=0)) / (np.ptp(last, axis=0) + 1e-9)


def _principal_component(r):
    """Of all windows."""
    axes = np.linalg.svd(r - r.mean(axis=0), full_matrices=False)[2]
    return r @ axes[:1].T


def _centred(r):
    """A rolling mean around the bar."""
    return uniform_filter1d(r[..., -1:], 5, axis=0)


def _filled_backward(r):
    """Where the last bar did not move much, what comes next that did."""
    return pd.DataFrame(np.where(np.abs(r[..., -1:]) < 0.005, np.nan, r[..., -1:])).bfill().fillna(0).to_numpy()


def _next_value(r):
    """Each row takes what the next window ends with."""
    return np.roll(r[..., -1:], -1, axis=0)


def _later_share_up(r):
    """A share of all windows from this one on: it moves little and slowly."""
    up = (r[::-1, -1:] > 0).cumsum(axis=0) / np.arange(1, len(r) + 1)[:, None]
    return up[::-1].round(2)


FEATURES = (
    _z_scored_over_history,
    _ranked_over_history,
    _scaled_by_least_and_most,
    _principal_component,
    _centred,
    _filled_backward,
    _next_value,
    _later_share_up,
)


def _after(r, bars=1):
    return np.append(r[bars:], np.full(bars, np.nan))


def _above(after, level):
    return np.where(np.isnan(after), np.nan, (after > level).astype(float))


def _two_ahead(r):
    """A label of the bar after the next, though it says that it is known one bar on."""
    return _above(_after(r, 2), 0)


def _two_ahead_filled(r):
    """The same, nought where the future is missing: no row gives it away by being absent."""
    return np.nan_to_num(_two_ahead(r))


def _above_its_median(r):
    return _above(_after(r), np.nanmedian(r))


def _above_its_mean(r):
    return _above(_after(r), np.nanmean(r))


def _a_standard_deviation_up(r):
    return _above(_after(r), np.nanstd(r))


def _in_the_top_tenth(r):
    return _above(_after(r), np.nanquantile(r, 0.9))


def _ranked_high(r):
    return _above(pd.Series(_after(r)).rank(pct=True).to_numpy(), 0.7)


def _smoothed_over_neighbours(r):
    around = pd.Series(_above(_after(r), 0)).rolling(3, center=True).mean().to_numpy()
    return _above(around, 0.5)


LABELS = (
    _two_ahead,
    _two_ahead_filled,
    _above_its_median,
    _above_its_mean,
    _a_standard_deviation_up,
    _in_the_top_tenth,
    _ranked_high,
    _smoothed_over_neighbours,
)


def _refused(strategy, bars, seed):
    try:
        audit(strategy, bars, np.random.default_rng(seed))
    except LeakError as error:
        return str(error)
    return ""


def test_an_honest_strategy_passes(walk):
    audit(HONEST, walk(300), np.random.default_rng(0))


@pytest.mark.long
@pytest.mark.parametrize("leak", FEATURES)
def test_a_feature_that_sees_the_future_is_refused_by_its_name_in_every_world(walk, leak, often):
    leaky = replace(HONEST, features=(*HONEST.features, Features(("leaky",), 5, leak)))
    found = [_refused(leaky, walk(400, seed=seed), seed) for seed in range(often(WORLDS))]
    assert often(WORLDS) == sum(
        "feature leaky at" in text and "must not depend on later bars" in text for text in found
    )
    assert "Compute it from its own window" in found[0]


@pytest.mark.long
@pytest.mark.parametrize("leak", LABELS)
def test_a_label_that_sees_farther_than_its_horizon_is_refused_in_every_world(walk, leak, often):
    leaky = replace(HONEST, label=leak)
    found = [_refused(leaky, walk(400, seed=seed), seed) for seed in range(often(WORLDS))]
    assert often(WORLDS) == sum(
        text.startswith("label at") and "no bar after its horizon of 1" in text for text in found
    )


def test_sums_that_are_rounded_otherwise_beside_other_rows_are_no_leak(walk):
    """What a matrix product gives depends in its last bits on how many rows it has."""
    weights = np.random.default_rng(3).normal(size=(50, 1))
    honest = replace(HONEST, features=(Features(("product",), 50, lambda r: (1 + r) @ weights - weights.sum()),))
    for seed in range(3):
        audit(honest, walk(300, seed=seed), np.random.default_rng(seed))


@pytest.mark.long
def test_a_leak_in_a_feature_of_tiny_values_is_found(walk, often):
    tiny = Features(("leaky",), 5, lambda r: 1e-12 * (r[..., -1:] - r[..., -1:].mean(axis=0)))
    found = [_refused(replace(HONEST, features=(tiny,)), walk(400, seed=seed), seed) for seed in range(often(WORLDS))]
    assert often(WORLDS) == sum("feature leaky at" in text for text in found)


def test_a_market_feature_that_sees_the_future_is_refused(walk):
    leaky = replace(HONEST, features=(*HONEST.features, Features(("m",), 5, _z_scored_over_history, "market")))
    with pytest.raises(LeakError, match="feature m at"):
        audit(leaky, walk(300), np.random.default_rng(0))


@pytest.mark.parametrize(("leak", "horizon"), [(_two_ahead, 2), (_smoothed_over_neighbours, 2)])
def test_an_understated_horizon_is_refused_with_the_true_one(walk, leak, horizon):
    with pytest.raises(LeakError, match=f"its full horizon: .* {horizon} bars, so set horizon={horizon}"):
        audit(replace(HONEST, label=leak), walk(300), np.random.default_rng(0))
    audit(replace(HONEST, label=leak, horizon=horizon), walk(300), np.random.default_rng(0))


def test_a_label_that_compares_with_all_of_history_is_told_so(walk):
    with pytest.raises(LeakError, match="a mean, a rank or a quantile of all history"):
        audit(replace(HONEST, label=_above_its_median), walk(600), np.random.default_rng(0))


def test_a_label_that_compares_with_its_past_passes(walk):
    def past(r):
        return _above(_after(r), pd.Series(r).expanding().median().to_numpy())

    audit(replace(HONEST, label=past), walk(600), np.random.default_rng(0))


def test_a_bar_that_arrives_late_or_is_revised_is_no_leak_and_none_is_made_of_it(walk):
    bars = walk(300)
    late = np.random.default_rng(1).random(len(bars)) < 0.05
    bars.loc[late, "known_at"] += pd.Timedelta("3D12h")
    for strategy in (HONEST, replace(HONEST, horizon=3)):
        audit(strategy, bars, np.random.default_rng(0), delay=timedelta(minutes=1))


def test_features_made_of_bars_that_arrive_late_are_refused(walk, monkeypatch):
    """What a merge by event_time does: it takes the bar for one that was there."""
    bars = walk(300)
    late = np.random.default_rng(1).random(len(bars)) < 0.05
    bars.loc[late, "known_at"] += pd.Timedelta("3D12h")
    monkeypatch.setattr("mlops.learn.features.in_time", lambda bars, delay: bars)
    with pytest.raises(LeakError, match="feature .* must not depend on later bars"):
        audit(HONEST, bars, np.random.default_rng(0))


def test_labels_that_are_dated_by_the_close_of_a_late_bar_are_refused(walk, monkeypatch):
    bars = walk(300)
    late = np.random.default_rng(1).random(len(bars)) < 0.05
    known = bars.assign(known_at=bars.known_at.where(~late, bars.known_at + pd.Timedelta("3D12h")))
    made = leaks.labels.table
    monkeypatch.setattr(
        leaks.labels, "table", lambda strategy, rows: made(strategy, rows.assign(known_at=rows.event_time))
    )
    with pytest.raises(LeakError, match="must depend on no bar after its horizon"):
        audit(HONEST, known, np.random.default_rng(0))


def test_the_audit_leaves_the_bars_alone(walk):
    bars = walk(300)
    audit(HONEST, bars, np.random.default_rng(0))
    assert walk(300).equals(bars)


@pytest.mark.parametrize("missing", [{150}, {40, 80, 120, 160, 200}, set(range(100, 104)), set(range(100, 250))])
def test_a_pause_of_one_symbol_is_no_leak(walk, missing):
    bars = walk(300)
    day = bars.event_time.rank(method="dense")
    paused = bars[~((bars.symbol == "BBB") & day.isin(missing))]
    audit(HONEST, paused, np.random.default_rng(0))
