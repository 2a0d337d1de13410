"""How likely a group sequential test proves a gain, after how many rows, and what horizon that takes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from math import ceil, pi, sqrt

import numpy as np
from numpy.typing import ArrayLike

from mlops.errors import DataError
from mlops.stats.dependent import LEAST_SLOW, Floats, ewc_dof, ewc_error
from mlops.stats.results import ALPHA, MOST_ROWS, POWER, check_share
from mlops.stats.sequential import (
    DESIGN_SHARE,
    MIN_ROWS,
    OBRIEN_FLEMING_LIKE,
    _advance,
    _first,
    _nodes,
    look_levels,
    look_times,
    nominal_levels,
)

PATHS = 1000  # each used with both signs
ROUNDS = 4  # to the horizon; the third changes it by less than a row in a thousand


@dataclass(frozen=True, slots=True)
class SequentialPower:
    """`power`: chance that the gain is proven by the horizon; `mean_rows`: rows until it is, or until the horizon."""

    power: float
    mean_rows: float


def sequential_power(
    effect: float,
    *,
    horizon: int,
    look_every: int,
    alpha: float = ALPHA,
    power: float = OBRIEN_FLEMING_LIKE,
    min_n: int = MIN_ROWS,
) -> SequentialPower:
    """Power and mean rows of `sequential_test`, whose plan the other arguments are.

    By the recursion of its boundaries on a Brownian motion with drift, the larger of two long-run variances put in at
    its mean: within a point of the simulated power from 1,000 rows on; for one year of daily bars it promises 3 points
    too much, with even spending (`power` 1) 2 to 5. `simulated_power` has no such error.

    Parameters
    ----------
    effect : float
        True mean, >= 0, in **long-run** standard deviations of a row: for rows that depend on each other divide the
        plain ratio by the root of `variance_inflation`. For hits of two models that differ on a share d of the rows and
        by a gain g: g / sqrt(d - g^2).

    Raises
    ------
    DataError
        `effect` is negative or the plan is impossible.

    Examples
    --------
    >>> found = sequential_power(0.02 / 0.3**0.5, horizon=6000, look_every=60)
    >>> round(found.power, 2), round(found.mean_rows, -2)
    (0.84, 4100.0)
    """
    if effect < 0:
        raise DataError(f"effect must be at least 0, got {effect}. Turn the question round.")
    looks = look_times(horizon=horizon, look_every=look_every, min_n=min_n)
    left = np.array(list(_unproven(effect * sqrt(horizon), looks, horizon, alpha, power)))
    proven = -np.diff(left, prepend=1.0)
    return SequentialPower(float(1 - left[-1]), float(proven @ np.array(looks) + left[-1] * horizon))


def proven_by(
    effect: float,
    *,
    rows: int,
    horizon: int,
    look_every: int,
    alpha: ArrayLike = ALPHA,
    power: float = OBRIEN_FLEMING_LIKE,
    min_n: int = MIN_ROWS,
    least_n: int = 0,
) -> float:
    """Chance that `sequential_test` has proven a gain by `rows`, the other arguments being its plan.

    What it means that nothing is proven yet. By the test itself on simulated series, drawn once a plan and process
    (a tenth of a second), so that its cautious variance counts for what it costs; the standard error is one point.

    Parameters
    ----------
    effect : float
        As `sequential_power`; may be negative.

    Examples
    --------
    >>> plan = {"horizon": 252, "look_every": 5}
    >>> [round(proven_by(0.15, rows=n, **plan), 1) for n in (39, 126, 252)]
    [0.0, 0.1, 0.7]
    """
    from scipy.stats import t as student

    looks = look_times(horizon=horizon, look_every=look_every, min_n=min_n)
    done = [i for i, n in enumerate(looks) if least_n <= n <= rows]
    if not done:
        return 0.0
    levels = look_levels(looks, horizon, alpha, power)[done]
    limits = student.isf(levels, [ewc_dof(looks[i]) for i in done])
    means, errors = (part[:, done] for part in _drawn(looks))
    crossed = [((sign * means + effect) >= limits * errors).any(axis=1).mean() for sign in (1, -1)]
    return float(np.mean(crossed))


@lru_cache(maxsize=8)
def _drawn(looks: tuple[int, ...]) -> tuple[Floats, Floats]:
    """Means of simulated series at each look and their cautious errors, of shape (paths, looks)."""
    series = np.random.default_rng(0).standard_normal((PATHS, looks[-1]))
    means = np.stack([series[:, :n].mean(axis=1) for n in looks], axis=1)
    return means, np.stack([ewc_error(series[:, :n], cautious=True) for n in looks], axis=1)


def sequential_sample_size(
    effect: float,
    *,
    looks: int = 50,
    alpha: float = ALPHA,
    power: float = POWER,
    spending: float = OBRIEN_FLEMING_LIKE,
    min_n: int = MIN_ROWS,
) -> int | None:
    """Horizon, in rows, at which `sequential_power` is `power`; at least `min_n`, None above a billion or for no gain.

    Parameters
    ----------
    effect : float
        As `sequential_power`.
    looks : int
        How often the evidence will be looked at, evenly. Hardly matters from ten on.

    Raises
    ------
    DataError
        `looks` is under 1, or `alpha` or `power` is no share.

    Examples
    --------
    >>> 4600 < sequential_sample_size(0.02 / 0.3**0.5, looks=5) < 5400
    True
    """
    from scipy.stats import norm

    if looks < 1:
        raise DataError(f"looks must be at least 1, got {looks}. Look once, at the horizon.")
    wanted = float(norm.ppf(check_share(power, "power")))
    shift = float(norm.isf(check_share(alpha, "alpha")))
    if effect <= 0 or (rows := ((shift + wanted) / effect) ** 2) > MOST_ROWS:
        return None
    for _ in range(ROUNDS):
        horizon = max(ceil(rows), min_n)
        every = -(-horizon // looks)
        plan = sequential_power(effect, horizon=horizon, look_every=every, alpha=alpha, power=spending, min_n=min_n)
        # The power is nearly that of a fixed test at some other level, which changes little with the rows.
        shift = effect * sqrt(horizon) - float(norm.ppf(np.clip(plan.power, 1e-12, 1 - 1e-12)))
        rows = ((shift + wanted) / effect) ** 2
    return max(ceil(rows), min_n)


def _unproven(drift: float, looks: tuple[int, ...], horizon: int, alpha: float, power: float) -> Iterator[float]:
    """Chance that nothing has crossed yet, after each look."""
    from scipy.stats import norm

    times = np.asarray(looks, dtype=np.float64) / horizon
    dof = np.array([ewc_dof(n) for n in looks], dtype=np.float64)
    levels = np.asarray(nominal_levels(looks, horizon, DESIGN_SHARE * alpha, power))
    bounds = norm.isf(levels) * np.sqrt(_caution(dof) * times)
    nodes, mass = _first(float(times[0]), float(bounds[0]), _nodes(times))
    for i, time in enumerate(times):
        if i:
            nodes, mass = _advance(nodes, mass, float(time - times[i - 1]), float(time), float(bounds[i]))
        # Girsanov: the motion with drift weighs each end by its likelihood ratio.
        yield float(mass @ np.exp(drift * nodes - drift**2 * time / 2))


def _caution(dof: Floats) -> Floats:
    """Mean of the larger of the two long-run variances, over the true one: of all cosines, and of the slower half."""
    slow = np.minimum(np.maximum(LEAST_SLOW, dof // 2), dof)
    fast = dof - slow
    apart = fast / dof * np.sqrt(2 / slow + 2 / np.maximum(fast, 1))
    return np.asarray(1 + apart * sqrt(2 / pi) / 2)
