"""How often a breakdown is called where correlation is constant and volatility is not. Rates are printed with -s.

And how often two books are said to bleed together that do not. Thresholds know the first three years, the next five are
watched.
"""

import sys
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import spearmanr

from mlops.risk.correlation.breakdown import State, states
from mlops.risk.correlation.joint_losses import bleed_together, joint_losses
from mlops.risk.correlation.matrices import correlation
from mlops.risk.correlation.threshold import calibrate

sys.path.insert(0, str(Path(__file__).parent))
from worlds import garch

pytestmark = pytest.mark.calibration
KNOWN, WATCHED, YEAR = 750, 1250, 252
WORLDS = 10


def _constant(rng, units, share, volatility):
    """Student-t days, one correlation for all, and a volatility that is each unit's own, or the same for all."""
    days = KNOWN + WATCHED
    z = np.sqrt(share) * rng.standard_normal((days, 1)) + np.sqrt(1 - share) * rng.standard_normal((days, units))
    z *= np.sqrt(5 / rng.chisquare(5, (days, 1)))  # a wild day is wild for all
    path = np.abs(garch(rng, units if volatility == "own" else 1, days)).T
    smooth = np.array([np.convolve(column, np.ones(20) / 20, mode="full")[:days] for column in path.T]).T
    return 0.01 * z * (0.3 + smooth)


@pytest.mark.parametrize(("units", "volatility"), [(3, "own"), (20, "own"), (20, "common"), (60, "common")])
def test_volatility_alone_is_called_a_breakdown_at_most_as_stated(units, volatility):
    rng, onsets, pairs, days = np.random.default_rng(12), 0, 0, 0
    for _ in range(WORLDS):
        r = _constant(rng, units, rng.uniform(0.1, 0.6), volatility)
        found = calibrate(r[:KNOWN], rng=rng, years=100)
        path = [state for state, _ in states(r, found)][KNOWN - 119 :]
        on = np.array([state is State.BROKEN for state in path])
        onsets += int((on & ~np.append(False, on[:-1])).sum())
        days += len(on)
        if units == 20:
            some = range(KNOWN, KNOWN + WATCHED - 60, 20)
            pairs += sum(
                bool((np.abs(correlation(r[t : t + 60]).matrix - correlation(r[t - 60 : t]).matrix) > 0.5).any())
                for t in some
            ) / (WORLDS * len(some))
    years = days / YEAR
    rate = onsets / years
    print(f"breakdown  {units:3d} units, {volatility:6s} volatility: {rate:.2f} a year in {years:.0f} years")
    assert rate <= 0.1 + 3 * np.sqrt(0.1 / years) + 0.1  # the threshold itself is estimated from three years
    if units == 20:
        print(f"per pair   {units:3d} units, {volatility:6s} volatility: some pair moved by 0.5 on {pairs:.0%} of days")
        assert pairs > 0.3


def _books(rng, runs, days, wandering):
    """Two books, shape (runs, days, 2): constant correlation and volatility of their own, or a common part whose
    volatility comes and goes, so that what they share does too."""
    if wandering:
        common, own = garch(rng, runs, days), garch(rng, 2 * runs, days).reshape(2, runs, days)
        return np.stack([common + own[0], common + own[1]], axis=-1)
    z = rng.standard_normal((3, runs, days)) * np.sqrt(5 / rng.chisquare(5, (1, runs, days)))
    path = np.abs(garch(rng, 2 * runs, days)).reshape(2, runs, days)
    smooth = 0.3 + np.apply_along_axis(lambda v: np.convolve(v, np.ones(20) / 20)[:days], 2, path)
    return np.stack([(z[0] + z[1]) * smooth[0], (z[0] + z[2]) * smooth[1]], axis=-1)


@pytest.mark.parametrize(("days", "wandering", "misses"), [(250, False, 0.05), (1000, False, 0.05), (1000, True, 0.30)])
def test_the_intervals_of_two_strategies_cover_as_stated(days, wandering, misses):
    """The null of an alarm is that the true value is the limit: the low end lies over it half as often as it misses."""
    rng, runs = np.random.default_rng(13), 150
    far = _books(rng, 200, 2000, wandering).reshape(-1, 2)
    truth = {"strategy_correlation": float(spearmanr(far).statistic), "joint_losses": float(joint_losses(*far.T))}
    found = [bleed_together(pair, ("a", "b"), rng=rng, paths=300) for pair in _books(rng, runs, days, wandering)]
    for k, (name, value) in enumerate(truth.items()):
        low = np.mean([f[k].params["low"] > value for f in found])
        high = np.mean([f[k].params["high"] < value for f in found])
        said = f"{1 - low - high:.0%} cover; {low:.1%} too high, {high:.1%} too low"
        print(f"{name:20s} {days} days, {wandering=}: {said}")
        assert max(low, high) <= misses / 2 + 3 * np.sqrt(misses / 2 * (1 - misses / 2) / runs)
