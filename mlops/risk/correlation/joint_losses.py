"""Do the strategies bleed together? Their books' returns, pair by pair, over all days and over the worst ones."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations

import numpy as np

from mlops.errors import DataError
from mlops.risk.correlation.matrices import Floats, doubled_ranks
from mlops.stats import block_length
from mlops.stats.resample import stationary_indices
from mlops.types import Finding, Level

TAIL = 0.10  # the worst tenth of days
LEAST_DAYS = 250  # 25 days in the tail: with fewer, what they share cannot be told from nothing
ALPHA = 0.05  # 1 - the intervals' coverage
LIMIT = 0.5  # the user's default for a correlation that matters
PATHS = 1000


def bleed_together(
    returns: Floats,
    names: Sequence[str],
    *,
    rng: np.random.Generator,
    limit: float = LIMIT,
    tail: float = TAIL,
    least_days: int = LEAST_DAYS,
    alpha: float = ALPHA,
    paths: int = PATHS,
) -> tuple[Finding, ...]:
    """Two findings for each pair of strategies, `subject` "a + b".

    `strategy_correlation`: Spearman's, for the interval of Pearson's misses one time in five where tails are heavy.
    `joint_losses`: of the worst tenth of a's days, the share that is among b's worst
    tenth too; 10 % is what two books have that know nothing of each other, so it is held against the middle between
    that and all of them, 55 %. (A correlation taken on bad days alone is no measure: choosing the days changes it.)
    Level: ALERT where all of the interval lies over the limit, WARN where the value does, UNKNOWN under `least_days`
    days on which both have a return, or where one does not move.

    The intervals are of 1 - alpha, by stationary bootstrap of days, in blocks as long as the squares of the returns ask
    for; coverage is measured in tests/calibration.

    Parameters
    ----------
    returns : ndarray of shape (T, S)
        Simple returns of the books, oldest first; NaN where a book was not there yet or had no bar.

    References
    ----------
    Forbes and Rigobon (2002), Journal of Finance 57; Politis and Romano (1994), JASA 89; Joe (1997), Multivariate
    Models and Dependence Concepts (tail dependence; here at 10 %, not in the limit).
    """
    table = np.asarray(returns, dtype=np.float64)
    if table.ndim != 2 or table.shape[1] != len(names) or np.isinf(table).any():
        got = f"{table.shape} for {len(names)} names"
        raise DataError(f"returns must be finite, a column for each name, got {got}. Name each column.")
    findings: list[Finding] = []
    for a, b in combinations(range(len(names)), 2):
        pair = table[:, [a, b]]
        pair = pair[~np.isnan(pair).any(axis=1)]
        findings += _pair(pair, f"{names[a]} + {names[b]}", rng, (limit, tail, least_days, alpha, paths))
    return tuple(findings)


def joint_losses(x: Floats, y: Floats, tail: float = TAIL) -> Floats:
    """Share of the worst `tail` of days that two series of shape (..., T) have in common, 0 to 1.

    Examples
    --------
    >>> import numpy as np
    >>> x = np.arange(20.0)
    >>> float(joint_losses(x, x)), float(joint_losses(x, -x))
    (1.0, 0.0)
    """
    worst = max(1, int(tail * x.shape[-1]))
    bad = [v <= np.partition(v, worst - 1, axis=-1)[..., worst - 1 : worst] for v in (x, y)]
    # Ties at the edge (drawn days come twice) make a tail longer than asked for: the smaller one counts.
    size = np.minimum(bad[0].sum(axis=-1), bad[1].sum(axis=-1))
    return np.asarray(np.minimum((bad[0] & bad[1]).sum(axis=-1) / size, 1.0))


def _pearson(x: Floats, y: Floats) -> Floats:
    x, y = x - x.mean(axis=-1, keepdims=True), y - y.mean(axis=-1, keepdims=True)
    scale = np.sqrt((x * x).sum(axis=-1) * (y * y).sum(axis=-1))
    return np.asarray(np.divide((x * y).sum(axis=-1), scale, out=np.zeros_like(scale), where=scale > 0))


def _measured(days: Floats, ranks: Floats, tail: float) -> dict[str, Floats]:
    """Measures of returns and of their ranks, each of shape (2, ..., T)."""
    return {"strategy_correlation": _pearson(ranks[0], ranks[1]), "joint_losses": joint_losses(days[0], days[1], tail)}


def _pair(
    pair: Floats, subject: str, rng: np.random.Generator, given: tuple[float, float, int, float, int]
) -> list[Finding]:
    limit, tail, least_days, alpha, paths = given
    limits = {"strategy_correlation": limit, "joint_losses": (1 + tail) / 2}
    n = len(pair)
    if n < least_days or not (np.ptp(pair, axis=0) > 0).all():
        why = f"{n} days that both have, {least_days} needed" if n < least_days else "one of the two does not move"
        params = {"n_needed": least_days}
        return [Finding(k, np.nan, v, Level.UNKNOWN, n, params, subject, why) for k, v in limits.items()]
    x, y = pair.T
    block = block_length(x, y, x**2, y**2, x * y)
    drawn = stationary_indices(n, length=n, paths=paths, block=block, rng=rng)
    days, ranks = pair.T, doubled_ranks(pair).T
    values, paths_of = _measured(days, ranks, tail), _measured(days[:, drawn], ranks[:, drawn], tail)
    return [
        _judged(name, float(values[name]), paths_of[name], (line, alpha), n, subject) for name, line in limits.items()
    ]


def _judged(name: str, value: float, drawn: Floats, given: tuple[float, float], n: int, subject: str) -> Finding:
    limit, alpha = given
    low, high = (float(end) for end in np.quantile(drawn, [alpha / 2, 1 - alpha / 2]))
    level = Level.ALERT if low > limit else Level.WARN if value > limit else Level.OK
    note = f"{value:.2f}, between {low:.2f} and {high:.2f}, over {n} days; {limit:.2f} is the limit"
    return Finding(name, value, limit, level, n, {"low": low, "high": high}, subject, note)
