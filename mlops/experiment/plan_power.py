"""What it is worth that nothing is proven: the chance that a better challenger would have been proven by now."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit, logit, xlogy

from mlops.experiment.plan import Plan
from mlops.stats import ewc_error, per_cent, proven_by
from mlops.types import Finding, Level

Floats = NDArray[np.float64]
POINTS = (0.02, 0.04)  # of accuracy: what a retrained model may hope for, and twice that
MOST_ROWS = 2_000  # of forecasts, evenly chosen: their spread is known by then
SHARPEST = 20.0  # times the log-odds: beyond it nobody's forecasts go
LEAST_BARS = 20  # of both arms before the variance of their difference is said anything of


def plan_power(difference: Floats, forecasts: Floats, plan: Plan, least_bars: int = 0) -> Finding:
    """Chance that a challenger so many points of accuracy better than the champion would have been proven by now.

    Its gain in log-loss is what the champion's own forecasts would gain if they were sharper by as much
    (`nats_of_points`); the long-run variance of the difference is that of the two that are compared. It tests nothing.

    Parameters
    ----------
    difference : ndarray of shape (bars,)
        Champion's less challenger's log-loss, nats, the mean over units.
    forecasts : ndarray of shape (rows,)
        Probabilities of the champion, in order of time.
    least_bars : int
        As `mlops.experiment.gates.paired_log_loss`.

    Returns
    -------
    Finding
        `value` is the chance for two points, `params` has `points_2` and `points_4`. UNKNOWN with fewer than 20 bars,
        where forecasts do not vary or the arms do not differ, and for evidence that follows no plan.
    """
    n = min(difference.size, plan.horizon_bars)
    spread = float(ewc_error(difference[:n], cautious=True)) * math.sqrt(n) if n >= LEAST_BARS else 0.0
    gains = [nats_of_points(forecasts, points) for points in POINTS]
    if plan.evidence != "planned":
        return _unknown(n, "whether a better challenger would have been proven by now is known of planned looks only")
    if not spread or any(math.isnan(gain) for gain in gains):
        need = f"{n} bars of both, {LEAST_BARS} with forecasts that vary and differ needed"
        return _unknown(n, f"{need} to say whether a better challenger would have been proven by now")
    chances = [_proven(gain - plan.margin, spread, n, plan, least_bars) for gain in gains]
    parameters = {f"points_{100 * points:.0f}": chance for points, chance in zip(POINTS, chances, strict=True)}
    who = "the champion before" if plan.power == 1.0 else "a challenger"
    note = (
        f"{who} two points of accuracy better would have been proven so by now with {per_cent(chances[0])}, "
        f"four points better with {per_cent(chances[1])}"
    )
    return Finding("plan_power", chances[0], 0.0, Level.OK, n, parameters, note=note)


def nats_of_points(forecasts: Floats, points: float) -> float:
    """Log-loss a row that calibrated forecasts gain where they become sharper by so much accuracy; NaN if they cannot.

    The log-odds are stretched about those of the mean forecast until the forecasts promise as much more accuracy.

    Examples
    --------
    >>> import numpy as np
    >>> p = np.linspace(0.3, 0.7, 500)
    >>> round(nats_of_points(p, 0.02), 4)
    0.012
    >>> nats_of_points(np.full(500, 0.5), 0.02)
    nan
    """
    from scipy.optimize import brentq

    rows = forecasts[:: -(-forecasts.size // MOST_ROWS)] if forecasts.size else forecasts
    if not rows.size or np.ptp(rows) == 0:
        return math.nan
    odds = logit(np.clip(rows, 1e-6, 1 - 1e-6))
    middle = float(logit(np.clip(rows.mean(), 1e-6, 1 - 1e-6)))

    def right(stretch: float) -> float:
        p = expit(middle + stretch * (odds - middle))
        return float(np.maximum(p, 1 - p).mean())

    wanted = right(1.0) + points
    if right(SHARPEST) < wanted:
        return math.nan
    return _entropy(odds) - _entropy(middle + brentq(lambda s: right(s) - wanted, 1.0, SHARPEST) * (odds - middle))


def _entropy(odds: Floats) -> float:
    p = expit(odds)
    return float(-(xlogy(p, p) + xlogy(1 - p, 1 - p)).mean())


def _proven(gain: float, spread: float, bars: int, plan: Plan, least_bars: int) -> float:
    return proven_by(
        gain / spread,
        rows=bars,
        horizon=plan.horizon_bars,
        look_every=plan.look_every,
        alpha=plan.alphas(plan.looks),
        power=plan.power,
        min_n=plan.min_bars,
        least_n=least_bars,
    )


def _unknown(bars: int, note: str) -> Finding:
    return Finding("plan_power", math.nan, 0.0, Level.UNKNOWN, bars, note=note)
