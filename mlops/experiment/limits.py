"""Hard limits on a champion that trades: lines that a person drew, held against what happened, at once.

No statistics: a limit is not a test and has no error rate. It is there for what a test would be too slow to see.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from mlops.stats import max_drawdown
from mlops.types import Finding, Level

HELPS = 0.5  # of the champion's fall: a champion before that fell further on the same bars is no way out


@dataclass(frozen=True, slots=True)
class Limits:
    """The lines. Shares of equity, shares of scorings, seconds; each is crossed when the value lies over it.

    `drawdown`: deepest fall since it became champion. `loss`: fall from its start, now. `error_rate`: share of bars
    that it failed to score, judged from `least_scorings` bars on. `latency_s`: 99th percentile of the time it took.
    `failures`: bars in a row, up to now, that it failed to score.
    """

    drawdown: float = 0.15
    loss: float = 0.10
    error_rate: float = 0.02
    latency_s: float = 1.0
    failures: int = 3
    least_scorings: int = 50


def book_limits(returns: pd.Series, limits: Limits) -> tuple[Finding, ...]:
    """Drawdown and loss of a book since its model became champion.

    Parameters
    ----------
    returns : Series
        Simple returns, one a bar, index `event_time`, none before it became champion.
    """
    path, n = returns.to_numpy(dtype=np.float64), len(returns)
    fell, lost = float(max_drawdown(path)), 1 - float(np.prod(1 + path))
    since = f"in {n} bars as champion"
    return (
        _judged("limit_drawdown", fell, limits.drawdown, n, f"its book fell {fell:.1%} from its peak {since}"),
        _judged("limit_loss", lost, limits.loss, n, f"its book stands {-lost:+.1%} {since}"),
    )


def previous_limits(champion: pd.Series, previous: pd.Series, *, subject: str) -> tuple[Finding, ...]:
    """Would the champion before have done better? Its falls against those of the champion, on the bars that both have.

    ALERT where it fell more than `HELPS` of what the champion did: the market did it, and going back helps nobody.
    Nothing is said of a fall that the champion did not have on these bars.

    Parameters
    ----------
    champion, previous : Series
        Simple returns of both books, index `event_time`.
    """
    both = pd.concat([champion, previous], axis=1, join="inner").to_numpy(dtype=np.float64)
    fell = {
        "limit_drawdown": [float(max_drawdown(path)) for path in both.T],
        "limit_loss": [1 - float(np.prod(1 + path)) for path in both.T],
    }
    return tuple(
        _judged(name, its, HELPS * fall, len(both), f"it fell {its:.1%} in the same {len(both)} bars", subject)
        for name, (fall, its) in fell.items()
        if fall > 0
    )


def scoring_limits(scorings: pd.DataFrame, limits: Limits) -> tuple[Finding, ...]:
    """Failures and latency of a model, from how its last scorings went.

    Parameters
    ----------
    scorings : DataFrame
        Columns `event_time`, `seconds` and `failed` (truth values), one row a bar scored; the latest window of them.
    """
    ordered = scorings.sort_values("event_time")
    failed, n = ordered["failed"].to_numpy(dtype=bool), len(ordered)
    row = int(n if failed.all() else np.argmin(failed[::-1]))
    rate = float(failed.mean()) if n else 0.0
    took = ordered.loc[~failed, "seconds"].to_numpy(dtype=np.float64)
    slow = float(np.quantile(took, 0.99)) if took.size else 0.0
    enough = n >= limits.least_scorings
    findings = [
        _judged("limit_failures", row, limits.failures - 1, n, f"it failed to score the last {row} bars"),
        _judged("limit_error_rate", rate, limits.error_rate, n, f"it failed to score {rate:.1%} of {n} bars"),
        _judged("limit_latency", slow, limits.latency_s, n, f"it took {slow:.3f} s to score (99th percentile)"),
    ]
    return tuple(f if f.name == "limit_failures" or enough else _unknown(f, limits.least_scorings) for f in findings)


def _judged(name: str, value: float, limit: float, n: int, note: str, subject: str = "") -> Finding:
    level = Level.UNKNOWN if n == 0 else Level.ALERT if value > limit else Level.OK
    allowed = f"{limit:.1%}" if name in ("limit_drawdown", "limit_loss", "limit_error_rate") else f"{limit:g}"
    return Finding(name, float(value), float(limit), level, n, subject=subject, note=f"{note}, {allowed} allowed")


def _unknown(finding: Finding, needed: int) -> Finding:
    note = f"{finding.n} bars scored, {needed} needed"
    return Finding(
        finding.name, finding.value, finding.limit, Level.UNKNOWN, finding.n, {"n_needed": needed}, note=note
    )
