"""Champion against challenger on the same matured bars."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from mlops.errors import DataError
from mlops.experiment.events import enough_at, happened
from mlops.experiment.gates import (
    ArmUnits,
    drawdown,
    gain_interval,
    paired_log_loss,
    pairing,
    samples,
    skill,
    srm,
    waiting,
)
from mlops.experiment.plan import Plan
from mlops.experiment.plan_power import plan_power
from mlops.stats import by_bar, constant_forecast, hits, log_losses
from mlops.types import Finding, Level

Floats = NDArray[np.float64]
COLUMNS = ("version", "unit", "event_time", "probability", "label")


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


def compare(
    matured: pd.DataFrame,
    *,
    champion: int,
    challenger: int,
    settings: Plan,
    joined: Sequence[datetime] = (),
    base_rate: float | None = None,
    books: Mapping[int, pd.Series] | None = None,
    assigned: ArmUnits | None = None,
    rng: np.random.Generator | None = None,
) -> tuple[Finding, ...]:
    """Every gate that a challenger must pass, as findings (OK: passed; UNKNOWN: not yet; ALERT: failed).

    Parameters
    ----------
    matured : DataFrame
        Matured rows of both versions since the experiment began, and only those; columns as `pairs`.
    joined : sequence of datetime, optional
        When other challengers of `settings.arms` joined: a look counts those who had by the close of its last bar.
        One that joined later than a look takes nothing from it. Without it all arms count at every look.
    base_rate : float, optional
        Share of ones in the challenger's training labels: the constant forecast it must beat. Without it, the share
        of ones in earlier bars.
    books : mapping of version to Series, optional
        Simple return a bar of both arms' books since the experiment began, index `event_time`.
    assigned : ArmUnits, optional
        Units that went to each arm, and what was planned.
    rng : numpy Generator, optional
        Of the drawdown's bootstrap; the same one gives the same finding.

    Returns
    -------
    tuple of Finding
        `paired_log_loss` (the verdict), `skill`, `samples`, `pairing`; `drawdown` and `waiting` where `books` are
        given, `srm` where `assigned` is. `gain_interval` is shown beside them, `plan_power` while nothing is proven.
        What each means is in `mlops.experiment.gates` and `mlops.experiment.plan_power`.

    Raises
    ------
    DataError
        `matured` breaks its contract or the settings are impossible.
    """
    both = _both(matured, champion, challenger)
    paired = pairs(matured, champion=champion, challenger=challenger)
    settings = replace(settings, joined=bars_before(paired.index, joined))
    rows = [int((matured["version"] == version).sum()) for version in (champion, challenger)]
    least = enough_at(_events(both), settings)
    proof = paired_log_loss(paired["difference"].to_numpy(), settings, least)
    findings = [
        proof,
        skill(_gains(both, base_rate), settings, least),
        samples(len(both), len(paired), settings),
        pairing(len(both), max(rows), settings),
        gain_interval(paired["difference"].to_numpy(), settings),
    ]
    if proof.level is Level.UNKNOWN:
        forecasts = both["probability"].to_numpy(dtype=np.float64)
        findings.append(plan_power(paired["difference"].to_numpy(), forecasts, settings, least))
    if books is not None:
        table = {"champion": books[champion], "challenger": books[challenger]}
        returns = pd.concat(table, axis=1, join="inner")
        findings.append(drawdown(returns, settings, rng or np.random.default_rng(0)))
        findings.append(waiting(returns, proof, settings))
    if assigned is not None:
        findings.append(srm(assigned, settings))
    return tuple(findings)


def _both(matured: pd.DataFrame, champion: int, challenger: int) -> pd.DataFrame:
    missing = [name for name in COLUMNS if name not in matured.columns]
    if missing:
        raise DataError(f"matured must have the columns {missing}, got {list(matured)}. Pass the ledger's join.")
    if not np.isfinite(matured[["probability", "label"]].to_numpy(dtype=np.float64)).all():
        raise DataError("matured must have finite probabilities and labels, got NaN. Pass matured rows only.")
    keys = ["event_time", "unit"]
    champions = matured.loc[matured["version"] == champion, [*keys, "probability", "label"]]
    challengers = matured.loc[matured["version"] == challenger, [*keys, "probability"]]
    return champions.merge(challengers, on=keys, suffixes=("", "_challenger"), validate="one_to_one")


def bars_before(times: pd.Index, joined: Sequence[datetime]) -> tuple[int, ...]:
    """Bars that closed before each joined, ascending; of those who were there by the first bar none is kept."""
    bars = (int((times < pd.Timestamp(at)).sum()) for at in joined)
    return tuple(sorted(n for n in bars if n))


def _events(both: pd.DataFrame) -> Floats:
    bar, _ = pd.factorize(both["event_time"], sort=True)
    return happened(both["label"].to_numpy(dtype=np.float64), bar)


def _gains(both: pd.DataFrame, base_rate: float | None) -> Floats:
    """Log-loss of the constant forecast minus the challenger's, nats a bar."""
    label, p = (both[c].to_numpy(dtype=np.float64) for c in ("label", "probability_challenger"))
    bar, _ = pd.factorize(both["event_time"], sort=True)
    return by_bar(bar, log_losses(constant_forecast(bar, label, base_rate), label) - log_losses(p, label))
