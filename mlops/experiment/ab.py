"""Champion against challenger on the same matured bars."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from mlops.errors import DataError
from mlops.experiment.assignment import srm_p_value
from mlops.experiment.shadow import curve_metrics
from mlops.stats import (
    SequentialResult,
    accuracy,
    auc,
    brier,
    by_bar,
    constant_forecast,
    hits,
    log_loss,
    log_losses,
    sequential_test,
)
from mlops.types import Finding, Level

Floats = NDArray[np.float64]
METRICS: Mapping[str, Callable[[Floats, Floats], float]] = {
    "accuracy": accuracy,
    "auc": auc,
    "brier": brier,
    "log_loss": log_loss,
}
COLUMNS = ("version", "unit", "event_time", "probability", "label")


@dataclass(frozen=True, slots=True)
class Trial:
    """The plan of a comparison, fixed before its first bar.

    `confidence`: 1 - the chance that an equal challenger is ever called better. `power` of the spending function: 3
    keeps the evidence for late looks (promotion), 1 spreads it evenly (watches). `margin`: nats a bar by which the
    challenger must be better. `drawdown_margin`: by how much of equity its shadow book may fall deeper.
    """

    confidence: float = 0.95
    min_samples: int = 1000
    horizon_bars: int = 252
    look_every: int = 5
    min_bars: int = 40
    margin: float = 0.0
    power: float = 3.0
    split: float = 0.9
    drawdown_margin: float = 0.05
    least_paired: float = 0.95  # under it, one arm lost rows and the comparison may be biased by which
    srm_alpha: float = 0.001  # customary: mismatch means a broken experiment, so be sure (Fabijan et al. 2019)


def pairs(matured: pd.DataFrame, *, champion: int, challenger: int) -> pd.DataFrame:
    """One row a bar on which both versions predicted.

    Parameters
    ----------
    matured : DataFrame
        Columns `version`, `unit`, `event_time`, `probability`, `label`; rows in any order, NaN refused.

    Returns
    -------
    DataFrame
        Index `event_time`, ascending; `difference` (mean over units of champion's minus challenger's log-loss, nats,
        positive where the challenger is better), `n_units`, `accuracy_champion`, `accuracy_challenger`.

    Raises
    ------
    DataError
        A column is missing or a value is not finite.
    """
    both = _both(matured, champion, challenger)
    label = both["label"].to_numpy(dtype=np.float64)
    p, q = (both[c].to_numpy(dtype=np.float64) for c in ("probability", "probability_challenger"))
    bar, times = pd.factorize(both["event_time"], sort=True)
    rows = {
        "difference": by_bar(bar, log_losses(p, label) - log_losses(q, label)),
        "n_units": np.bincount(bar),
        "accuracy_champion": by_bar(bar, hits(p, label)),
        "accuracy_challenger": by_bar(bar, hits(q, label)),
    }
    return pd.DataFrame(rows, index=pd.Index(times, name="event_time"))


def arm_metrics(matured: pd.DataFrame, version: int) -> dict[str, float]:
    """Every metric of `METRICS` for one version's matured rows; NaN where it has none."""
    mine = matured[matured["version"] == version]
    p, label = (mine[c].to_numpy(dtype=np.float64) for c in ("probability", "label"))
    return {name: metric(p, label) if len(mine) else float("nan") for name, metric in METRICS.items()}


def compare(
    matured: pd.DataFrame,
    *,
    champion: int,
    challenger: int,
    settings: Trial,
    base_rate: float | None = None,
    equity_champion: ArrayLike | None = None,
    equity_challenger: ArrayLike | None = None,
    units_traded: tuple[int, int] | None = None,
) -> tuple[Finding, ...]:
    """Every gate that a challenger must pass, as findings (OK: passed; UNKNOWN: not yet; ALERT: failed).

    Parameters
    ----------
    matured : DataFrame
        Matured rows of both versions since the experiment began, and only those; columns as `pairs`.
    base_rate : float, optional
        Share of ones in the challenger's training labels: the constant forecast it must beat. Without it, the share
        of ones in earlier bars.
    equity_champion, equity_challenger : array_like of shape (bars,), optional
        Equity of both shadow books since the experiment began, one value a bar, > 0.
    units_traded : (int, int), optional
        Units that the champion and the challenger trade.

    Returns
    -------
    tuple of Finding
        `paired_log_loss`: the verdict. Null: mean gain <= margin, error rate 1 - confidence over all looks together
        (`mlops.stats.sequential_test`); OK: proven better, ALERT: proven worse by the mirrored test.
        `skill`: the challenger's log-loss beats the constant forecast's, tested by the same plan.
        `samples`: paired rows against `min_samples`. `pairing`: share of rows that both arms have.
        `drawdown` (when both curves are given): a guard, not a test. `srm` (when `units_traded` is given).

    Raises
    ------
    DataError
        `matured` breaks its contract or the settings are impossible.
    """
    both = _both(matured, champion, challenger)
    paired = pairs(matured, champion=champion, challenger=challenger)
    findings = [
        _paired(paired["difference"].to_numpy(), settings),
        _skill(both, settings, base_rate),
        _samples(len(both), len(paired), settings),
        _pairing(matured, both, champion, challenger, settings),
    ]
    if equity_champion is not None and equity_challenger is not None:
        findings.append(_drawdown(equity_champion, equity_challenger, settings))
    if units_traded is not None:
        findings.append(_srm(units_traded, settings))
    return tuple(findings)


def _both(matured: pd.DataFrame, champion: int, challenger: int) -> pd.DataFrame:
    missing = [name for name in COLUMNS if name not in matured.columns]
    if missing:
        raise DataError(f"matured must have the columns {missing}, got {list(matured)}. Pass the ledger's join.")
    if not np.isfinite(matured[["probability", "label"]].to_numpy(dtype=np.float64)).all():
        raise DataError("matured must have finite probabilities and labels, got NaN. Pass matured rows only.")
    keys = ["event_time", "unit"]
    one = matured.loc[matured["version"] == champion, [*keys, "probability", "label"]]
    other = matured.loc[matured["version"] == challenger, [*keys, "probability"]]
    return one.merge(other, on=keys, suffixes=("", "_challenger"), validate="one_to_one")


def _test(x: Floats, settings: Trial) -> SequentialResult:
    return sequential_test(
        x,
        horizon=settings.horizon_bars,
        look_every=settings.look_every,
        alpha=1 - settings.confidence,
        power=settings.power,
        min_n=settings.min_bars,
    )


def _paired(difference: Floats, settings: Trial) -> Finding:
    better, worse = _test(difference - settings.margin, settings), _test(-difference, settings)
    # Both can have crossed only when the truth changed in between; then neither is proven.
    undecided = better.crossed == worse.crossed
    level = Level.UNKNOWN if undecided else Level.OK if better.crossed else Level.ALERT
    told = worse if level is Level.ALERT else better
    parameters = {**asdict(settings), **_told(told)}
    gain = float(difference.mean()) if difference.size else 0.0
    note = f"{_verdict(level)}: log-loss gain {gain:+.4f} a bar over {told.n} bars, {_plan(told, settings)}"
    return Finding("paired_log_loss", gain, settings.margin, level, told.n, parameters, note=note)


def _skill(both: pd.DataFrame, settings: Trial, base_rate: float | None) -> Finding:
    label, p = (both[c].to_numpy(dtype=np.float64) for c in ("label", "probability_challenger"))
    bar, _ = pd.factorize(both["event_time"], sort=True)
    gains = by_bar(bar, log_losses(constant_forecast(bar, label, base_rate), label) - log_losses(p, label))
    test = _test(gains, settings)
    level = Level.OK if test.crossed else Level.UNKNOWN
    words = "beats" if test.crossed else "is not proven to beat"
    note = f"the challenger {words} the constant forecast, {_plan(test, settings)}"
    return Finding("skill", float(gains.mean()) if gains.size else 0.0, 0.0, level, test.n, _told(test), note=note)


def _told(test: SequentialResult) -> dict[str, float | int | bool | None]:
    return {
        "p": test.p_greater,
        "nominal": test.nominal,
        "looks": test.looks,
        "crossed_at": test.crossed_at,
        "n_needed": test.n_needed,
        "finished": test.finished,
    }


def _verdict(level: Level) -> str:
    return {Level.OK: "proven better", Level.ALERT: "proven worse"}.get(level, "not enough evidence")


def _plan(test: SequentialResult, settings: Trial) -> str:
    if test.crossed:
        return f"decided at bar {test.crossed_at} (p {test.p_greater:.2g}, limit {test.nominal:.2g})"
    if test.finished:
        return f"finished at {settings.horizon_bars} bars without proof"
    if test.n_needed is None:
        return f"more than {settings.horizon_bars} bars needed at this rate"
    return f"about {test.n_needed} bars needed at this rate"


def _samples(rows: int, bars: int, settings: Trial) -> Finding:
    level = Level.OK if rows >= settings.min_samples else Level.UNKNOWN
    note = f"{rows} paired predictions on {bars} bars, {settings.min_samples} needed"
    return Finding("samples", float(rows), float(settings.min_samples), level, bars, note=note)


def _pairing(matured: pd.DataFrame, both: pd.DataFrame, champion: int, challenger: int, settings: Trial) -> Finding:
    rows = [int((matured["version"] == version).sum()) for version in (champion, challenger)]
    share = len(both) / max(rows) if max(rows) else 0.0
    level = Level.UNKNOWN if not max(rows) else Level.OK if share >= settings.least_paired else Level.ALERT
    note = f"{len(both)} of {max(rows)} rows have a partner"
    return Finding("pairing", share, settings.least_paired, level, len(both), note=note)


def _drawdown(champion: ArrayLike, challenger: ArrayLike, settings: Trial) -> Finding:
    one, other = (curve_metrics(curve).max_drawdown for curve in (champion, challenger))
    limit = one + settings.drawdown_margin
    level = Level.OK if other <= limit else Level.ALERT
    note = f"the challenger's book fell {other:.1%} from its peak, the champion's {one:.1%}"
    return Finding("drawdown", other, limit, level, int(np.size(challenger)), note=note)


def _srm(units: tuple[int, int], settings: Trial) -> Finding:
    p = srm_p_value(*units, settings.split)
    level = Level.OK if p > settings.srm_alpha else Level.ALERT
    note = f"{units[0]} units trade with the champion, {units[1]} with the challenger, {settings.split:.0%} planned"
    return Finding("srm", p, settings.srm_alpha, level, sum(units), note=note)
