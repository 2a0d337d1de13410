"""What every VaR shown carries: how its own forecasts fared."""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil, isnan, nan

import numpy as np
from numpy.typing import ArrayLike
from scipy.stats import binom

from mlops.errors import DataError
from mlops.risk.measures import Floats, Losses, check_confidence, finite
from mlops.risk.var.coverage import conditional_coverage, dynamic_quantile, independence, kupiec, shortfall
from mlops.risk.var.forecasts import Forecasts
from mlops.risk.var.scores import fz_losses, quantile_losses
from mlops.stats import dependent_t, holm
from mlops.types import Finding, Level

ALPHA = 0.05  # chance that a right model is shown red, over all tests of one backtest together
BASEL_BARS = 250  # Basel MAR99: the last year
YELLOW, RED = 0.95, 0.9999  # chances below which the zones end (MAR99.9): 4 and 9 exceedances of 250 at 99 %
LEAST_EXPECTED = 2.5  # exceedances to expect before a word is said: a year at 99 %
SEED = 20221228  # the same forecasts get the same simulated p-values, whoever asks
FAMILY = ("kupiec", "independence", "dynamic_quantile", "shortfall")


@dataclass(frozen=True, slots=True)
class Backtest:
    """Exceedances, p-values and scores of `n` forecasts, and one `level` with a `note` in words.

    `zone` is Basel's for the last 250 bars (`recent` exceedances), "unknown" before. `p_values` are plain, `adjusted`
    Holm's over the family of four. `gain`: mean FZ score of the alternative less that of this model (positive: this one
    is better), `gain_p` two-sided. NaN is what could not be said.
    """

    model: str
    confidence: float
    n: int
    n_needed: int
    exceedances: int
    expected: float
    recent: int
    zone: str
    p_values: dict[str, float]
    adjusted: dict[str, float]
    conditional_coverage: float
    z2: float
    quantile_loss: float
    fz: float
    gain: float
    gain_p: float
    level: Level
    note: str


def judge(
    returns: ArrayLike,
    forecasts: Forecasts,
    confidence: float = 0.99,
    *,
    model: str = "",
    against: Forecasts | None = None,
    alpha: float = ALPHA,
) -> Backtest:
    """Backtest of walked forecasts: `returns` are those that were walked. See `judge_losses`."""
    other = None if against is None else against.at(confidence)
    return judge_losses(
        forecasts.realised(returns), forecasts.at(confidence), confidence, model=model, against=other, alpha=alpha
    )


def judge_losses(
    realised: ArrayLike,
    losses: Losses,
    confidence: float = 0.99,
    *,
    model: str = "",
    against: Losses | None = None,
    alpha: float = ALPHA,
) -> Backtest:
    """Backtest of one-bar VaR and ES forecasts against what then happened.

    Null of the family: each bar exceeds its VaR with chance 1 - confidence, whatever was before, and the mean loss then
    is its ES. Four tests (Kupiec, Christoffersen's independence, DQ, Z2), each with an exact or simulated p-value, held
    together by Holm: a right model is red in at most `alpha` of all backtests, whatever the tests' dependence, and far
    more rarely at 250 bars (tests/calibration). That is per look: a page that judges anew each day shows red once in a
    while. Z2 assumes a Pareto tail of shape 0.25 beyond the VaR.

    Parameters
    ----------
    realised : array_like of shape (n,)
        Return of each bar, of the holdings that the forecast was made for. NaN is refused.
    losses : Losses
        VaR and ES of each bar, shape (n,), known before it.
    against : Losses, optional
        An alternative's, of the same bars, for `gain` (Diebold and Mariano's test with an EWC variance).

    Returns
    -------
    Backtest
        `level` is ALERT where a test fails or the zone is red, WARN where it is yellow, UNKNOWN with fewer bars than
        `n_needed` (2.5 exceedances expected: 250 at 99 %).

    Raises
    ------
    DataError
        Forecasts that are not finite, of another length, or with an ES below its VaR.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> normal = Losses(np.full(1000, 2.3263), np.full(1000, 2.6652))
    >>> judge_losses(rng.normal(size=1000), normal).level.value
    'ok'
    >>> judge_losses(rng.normal(0, 1.5, size=1000), normal).level.value
    'alert'
    """
    r, share = finite(realised, "realised", least=0), 1.0 - check_confidence(confidence)
    _check(losses, r.size)
    r, losses, against = _at_risk(r, losses, against)
    hits = r < -losses.var
    needed = ceil(LEAST_EXPECTED / share - 1e-9)
    recent = int(hits[-BASEL_BARS:].sum())
    p_values, z2 = dict.fromkeys(FAMILY, nan), nan
    if r.size >= needed:
        rng = np.random.default_rng(SEED)
        p_values["kupiec"] = kupiec(hits, share).p_value
        p_values["independence"] = independence(hits).p_value
        p_values["dynamic_quantile"] = dynamic_quantile(hits, losses.var, share, rng=rng).p_value
        deep = shortfall(r, losses, share, rng=rng)
        p_values["shortfall"], z2 = deep.p_value, deep.statistic
    adjusted = dict(zip(FAMILY, holm(list(p_values.values())).tolist(), strict=True))
    zone = basel_zone(hits[-BASEL_BARS:].sum(), min(r.size, BASEL_BARS), share)
    level, note = _verdict(r.size, needed, zone, adjusted, alpha)
    gain, gain_p = _gain(r, losses, against, confidence)
    return Backtest(
        model=model,
        confidence=confidence,
        n=r.size,
        n_needed=needed,
        exceedances=int(hits.sum()),
        expected=share * r.size,
        recent=recent,
        zone=zone,
        p_values=p_values,
        adjusted=adjusted,
        conditional_coverage=conditional_coverage(hits, share).p_value if r.size >= needed else nan,
        z2=z2,
        quantile_loss=float(quantile_losses(r, losses.var, confidence).mean()) if r.size else nan,
        fz=float(fz_losses(r, losses, confidence).mean()) if r.size else nan,
        gain=gain,
        gain_p=gain_p,
        level=level,
        note=note,
    )


def basel_zone(exceedances: int, n: int, share: float = 0.01) -> str:
    """Basel's traffic light: green below the 95 % point of the binomial law, red from the 99.99 % point on.

    Under 250 bars: unknown.

    Examples
    --------
    >>> [basel_zone(x, 250) for x in (4, 5, 9, 10)], basel_zone(0, 249)
    (['green', 'yellow', 'yellow', 'red'], 'unknown')
    """
    if n < BASEL_BARS:
        return "unknown"
    below = float(binom.cdf(exceedances, n, share))
    return "green" if below < YELLOW else "yellow" if below < RED else "red"


def findings(backtest: Backtest, *, alpha: float = ALPHA) -> tuple[Finding, ...]:
    """The verdict, the zone and each test as findings; those of one confidence share a subject such as "99 %"."""
    subject = f"{backtest.model} {100 * backtest.confidence:g} %".strip()
    zones = {"green": Level.OK, "yellow": Level.WARN, "red": Level.ALERT}
    known = [p for p in backtest.adjusted.values() if not isnan(p)]
    limit = float(binom.ppf(YELLOW, BASEL_BARS, 1.0 - backtest.confidence)) - 1.0
    recent = f"{backtest.recent} of the last {min(backtest.n, BASEL_BARS)} bars beyond the VaR"
    whole = Finding(
        "var_backtest",
        min(known, default=nan),
        alpha,
        backtest.level,
        backtest.n,
        {"exceedances": backtest.exceedances, "expected": backtest.expected, "fz": backtest.fz, "z2": backtest.z2},
        subject,
        backtest.note,
    )
    zone = Finding(
        "var_zone",
        float(backtest.recent),
        limit,
        zones.get(backtest.zone, Level.UNKNOWN),
        min(backtest.n, BASEL_BARS),
        {"zone": backtest.zone},
        subject,
        recent,
    )
    return whole, zone, *(_finding(name, p, backtest, alpha, subject) for name, p in backtest.adjusted.items())


def _finding(name: str, p: float, backtest: Backtest, alpha: float, subject: str) -> Finding:
    level = Level.UNKNOWN if isnan(p) else Level.ALERT if p <= alpha else Level.OK
    params = {"p": backtest.p_values[name], "p_adjusted": p}
    return Finding(f"var_{name}", p, alpha, level, backtest.n, params, subject)


def _check(losses: Losses, n: int) -> None:
    for name, values in (("var", losses.var), ("es", losses.es)):
        if values.shape != (n,) or not np.isfinite(values).all():
            raise DataError(
                f"{name} must be {n} finite forecasts, got shape {values.shape}. Leave out unforecast bars."
            )
    if (losses.es < losses.var - 1e-12 * np.abs(losses.var)).any():
        raise DataError("es must be at least the var, got forecasts below it. Was one given for the other?")


def _verdict(n: int, needed: int, zone: str, adjusted: dict[str, float], alpha: float) -> tuple[Level, str]:
    if n < needed:
        return Level.UNKNOWN, f"{n} forecasts, {needed} needed"
    failed = [name.replace("_", " ") for name, p in adjusted.items() if p <= alpha]
    if failed:
        return Level.ALERT, "fails: " + ", ".join(failed)
    if zone == "red":
        return Level.ALERT, "red zone: too many exceedances in the last year"
    if zone == "yellow":
        return Level.WARN, "yellow zone: many exceedances in the last year, no test fails"
    return Level.OK, "passes all tests"


def _at_risk(r: Floats, losses: Losses, against: Losses | None) -> tuple[Floats, Losses, Losses | None]:
    rows = losses.es > 0
    other = None if against is None else Losses(against.var[rows], against.es[rows])
    return r[rows], Losses(losses.var[rows], losses.es[rows]), other


def _gain(r: Floats, losses: Losses, against: Losses | None, confidence: float) -> tuple[float, float]:
    if against is None or not r.size or not (against.es > 0).all():
        return nan, nan
    test = dependent_t(fz_losses(r, against, confidence), fz_losses(r, losses, confidence))
    return test.effect.value, test.p_value
