"""Series with mean zero whose terms depend on each other, as markets make them."""

import numpy as np
from scipy.signal import lfilter
from scipy.special import expit, logit
from skfolio.datasets import load_sp500_dataset

from benchmarks.simulated.world import Law, World
from mlops.stats import log_losses

BURN = 300


def iid_t5(rng, runs, n):
    return rng.standard_t(5, (runs, n))


def ar(phi):
    def draw(rng, runs, n):
        return lfilter([1], [1, -phi], rng.standard_normal((runs, n + BURN)), axis=1)[:, BURN:]

    return draw


def garch(rng, runs, n):
    z = rng.standard_t(6, (runs, n + BURN)) / np.sqrt(1.5)
    h, r, out = np.ones(runs), np.zeros(runs), np.empty((runs, n + BURN))
    for i in range(n + BURN):
        h = 0.02 + 0.08 * r**2 + 0.90 * h
        r = np.sqrt(h) * z[:, i]
        out[:, i] = r
    return out[:, BURN:]


def overlap(bars):
    """Sums over `bars`, one bar apart: what labels with a horizon are."""

    def draw(rng, runs, n):
        total = np.pad(rng.standard_normal((runs, n + bars - 1)).cumsum(axis=1), ((0, 0), (1, 0)))
        return total[:, bars:] - total[:, :-bars]

    return draw


def real(rng, runs, n):
    """Daily return differences of two real stocks, side by side in time, with a random sign: the mean is zero."""
    returns = load_sp500_dataset().loc["1995":].pct_change().dropna().to_numpy()
    out = np.empty((runs, n))
    for row in out:
        one, other = rng.choice(returns.shape[1], 2, replace=False)
        start = rng.integers(len(returns) - n)
        row[:] = rng.choice([-1, 1]) * (returns[start : start + n, one] - returns[start : start + n, other])
    return out


def overconfident(units, bars, push):
    """Champion less challenger in log-loss: the challenger knows more and says it `push` times too loudly, in log-odds.

    Both lose the same on average; the challenger a little less on most bars, and much more on few.
    """

    def draw(rng, runs, n):
        law = Law(units=units, horizon=bars, skill=0.61, gain=0.062 if push == 2 else 0.173)
        out = np.empty((runs, n))
        for row in out:
            world = World(law, n, int(rng.integers(1 << 40)))
            p, q = world.forecasts(1), world.forecasts(2)
            q = expit(np.clip(push * logit(q), -np.log(1e6), np.log(1e6)))
            row[:] = (log_losses(p, world.labels) - log_losses(q, world.labels)).mean(axis=1)
        return out - out.mean()

    return draw


LEANING = {
    f"over-confident x{push}, {units} x {bars}-bar": overconfident(units, bars, push)
    for push in (2, 3)
    for units, bars in ((1, 1), (1, 5), (4, 5), (20, 5))
}
WORLDS = {
    "iid t5": iid_t5,
    "AR .2": ar(0.2),
    "AR .5": ar(0.5),
    "GARCH": garch,
    "5-bar overlap": overlap(5),
    "10-bar overlap": overlap(10),
    "real pairs": real,
}
