"""The accuracy charts: how often they cry wolf, how late they are, what overlap and a short baseline cost."""

import sys
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import binom, norm

from mlops.stats import calibrate_cusum, cusum_path, label_alarms, label_chart, label_path, run_length, sr_mixture

sys.path.insert(0, str(Path(__file__).parent))
from worlds import overlap

pytestmark = pytest.mark.calibration
RATE = 1e-4  # one false alarm in 10,000 labels
QUIET, AFTER = 5000, 5000
DROPS = {(0.60, 0.50): (209, 248), (0.58, 0.53): (574, 629), (0.55, 0.50): (573, 619)}  # known, learned
LABELS = 10_000


def _streams(before, after, runs, rng):
    chance = np.repeat([before, after], [QUIET, AFTER])
    return rng.random((runs, QUIET + AFTER)) < chance


def _delays(over):
    """Labels from the change to the alarm, of the runs that were silent before it."""
    first = np.where(over.any(axis=1), over.argmax(axis=1), over.shape[1])
    return first[first >= QUIET] - QUIET + 1


@pytest.mark.parametrize(("before", "after"), DROPS)
def test_with_a_known_baseline_falls_are_found_within_a_tenth_of_the_optimum(before, after):
    chart = label_chart(before, false_alarms=RATE)
    delays = _delays(label_path(chart, _streams(before, after, 1500, np.random.default_rng(1))) >= chart.limit)
    error = delays.std() / np.sqrt(delays.size)
    print(f"known   {before}->{after}: {delays.mean():.0f} +- {error:.0f} labels (goal {DROPS[before, after][0]})")
    assert delays.mean() <= DROPS[before, after][0]


@pytest.mark.parametrize(("before", "after"), DROPS)
def test_with_a_learned_baseline_falls_are_found_before_the_best_peer(before, after):
    rng, delays, charts = np.random.default_rng(2), [], {}
    for right in _streams(before, after, 800, rng):
        learned = round(rng.binomial(LABELS, before) / LABELS, 3)
        chart = charts.setdefault(learned, None) or label_chart(learned, labels=LABELS, false_alarms=RATE)
        charts[learned] = chart
        delays.append(_delays(label_path(chart, right)[None] >= chart.limit))
    found = np.concatenate(delays)
    error = found.std() / np.sqrt(found.size)
    print(f"learned {before}->{after}: {found.mean():.0f} +- {error:.0f} labels (peer {DROPS[before, after][1]})")
    assert found.mean() < DROPS[before, after][1]


@pytest.mark.parametrize("labels", [500, 2000, 10_000])
def test_the_rate_holds_on_average_over_baselines_and_nine_intervals_of_ten_hold_it(labels):
    """No drawing: every baseline that may come, with its chance and the exact rate of its chart."""
    true, step = 0.55, int(np.sqrt(labels) / 5)
    right = np.arange(0, labels + 1, step)
    weight = binom.pmf(right, labels, true)
    kept = weight > 1e-7
    right, weight = right[kept], weight[kept] / weight[kept].sum()
    rates, held = [], []
    for count in right:
        chart = label_chart(count / labels, labels=labels, false_alarms=RATE)
        rates.append(1 / run_length(true, up=chart.up, down=chart.down, limit=chart.limit))
        held.append(chart.rate_low <= rates[-1] <= chart.rate_high)
    mean, coverage = float(weight @ rates), float(weight @ held)
    print(f"baseline of {labels}: one false alarm in {1 / mean:.0f} labels, intervals hold {coverage:.1%}")
    assert mean <= 1.1 * RATE
    assert 0.86 <= coverage <= 0.94


def test_the_mixture_needs_no_calibration_and_finds_falls_as_fast():
    rng = np.random.default_rng(3)
    quiet = [sr_mixture(rng.random(LABELS) < 0.55, accuracy=0.55).max() >= np.log(1 / RATE) for _ in range(100)]
    print(f"mixture: {np.mean(quiet):.0%} of {LABELS} quiet labels alarm (an exponential law says at most 63 %)")
    assert np.mean(quiet) <= 0.63 + 3 * np.sqrt(0.63 * 0.37 / 100)
    for (before, after), (goal, _) in DROPS.items():
        right = _streams(before, after, 120, rng)
        over = np.array([sr_mixture(row, accuracy=before) for row in right]) >= np.log(1 / RATE)
        delays = _delays(over)
        print(f"mixture {before}->{after}: {delays.mean():.0f} +- {delays.std() / np.sqrt(delays.size):.0f}")
        assert delays.mean() <= goal + 3 * delays.std() / np.sqrt(delays.size)


def _overlapping(accuracy, bars, n, rng):
    return overlap(bars)(rng, 1, n)[0] / np.sqrt(bars) < norm.ppf(accuracy)


@pytest.mark.parametrize("bars", [2, 5, 10])
def test_labels_that_overlap_are_thinned_and_keep_their_rate(bars):
    chart, n = label_chart(0.6, false_alarms=RATE), 1_000_000
    right = _overlapping(0.6, bars, n, np.random.default_rng(4))
    naive, thinned = (len(label_alarms(chart, right, horizon=h)) for h in (1, bars))
    print(
        f"labels of {bars} bars: one alarm in {n / naive:.0f} as if independent, in {n / max(thinned, 1):.0f} thinned"
    )
    assert naive * RATE**-1 > 3 * n
    assert thinned <= n * RATE + 3 * np.sqrt(bars * n * RATE)  # phases alarm together: up to `bars` at a time


@pytest.mark.parametrize("bars", [5, 10])
def test_a_block_bootstrap_of_the_baseline_counts_overlap_too(bars):
    """The other way: the limit from the baseline's own stretches, with all labels in one chart."""
    rng, rates = np.random.default_rng(5), []
    for _ in range(10):
        right = _overlapping(0.6, bars, 30_000, rng).astype(float)
        baseline, live = right[:10_000], right[10_000:]
        limit, _ = calibrate_cusum(
            baseline, allowance=0.025, false_alarms_per_year=1.0, bars_per_year=10_000, rng=rng, paths=50
        )
        alarms, start = 0, 0
        while (over := cusum_path(live[start:], target=baseline.mean(), allowance=0.025) > limit).any():
            alarms, start = alarms + 1, start + int(over.argmax()) + 1
            if start >= live.size:
                break
        rates.append(alarms / live.size)
    error = np.std(rates) / np.sqrt(len(rates))
    print(f"labels of {bars} bars, block bootstrap: one alarm in {1 / np.mean(rates):.0f} (asked 10,000)")
    assert np.mean(rates) <= RATE + 3 * error
