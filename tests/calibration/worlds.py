"""Series with mean zero whose terms depend on each other, as markets make them."""

import numpy as np
from scipy.signal import lfilter
from skfolio.datasets import load_sp500_dataset

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


WORLDS = {
    "iid t5": iid_t5,
    "AR .2": ar(0.2),
    "AR .5": ar(0.5),
    "GARCH": garch,
    "5-bar overlap": overlap(5),
    "10-bar overlap": overlap(10),
    "real pairs": real,
}
