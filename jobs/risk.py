"""What may the books lose? Every trading night: the model of the VaR is chosen, fitted and judged on what is held.

Load: positions, bars. Compute: what the holdings of now would have returned; which models forecast that best; how those
forecasts fared; how far correlation moves by chance. Log: a run. Act: the forecast is kept before its bar comes, the
live page gets model and table, and a VaR that fails its own backtest is an alert until it passes again.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from typing import Any

import numpy as np
import pandas as pd
import structlog
import typer
from matplotlib.figure import Figure
from numpy.typing import NDArray

from jobs.house import House, moment, run
from jobs.market import Market, market
from jobs.optioned import greeks_of, in_var
from jobs.past import past
from jobs.positions import Held, positions
from jobs.weighing import OPTIONS
from mlops.io import feed, record, risk_plots
from mlops.io.ledger import Forecast
from mlops.risk.backtest import Backtest, findings, judge
from mlops.risk.breakdown import breakdown, states
from mlops.risk.choice import CANDIDATES, Choice, choose, chosen, score_series
from mlops.risk.factors import Factors, beta, factor_exposure
from mlops.risk.fitted import Fitted, fit
from mlops.risk.forecasts import Forecasts, walk
from mlops.risk.measures import CONFIDENCES, Floats, Loss
from mlops.risk.models import MODELS
from mlops.risk.snapshot import snapshot
from mlops.risk.threshold import Calibration, calibrate
from mlops.risk.together import bleed_together
from mlops.settings import RiskSettings
from mlops.types import Alert, Decision, Finding, Level, ModelRef, Priority, Report, Verdict

log = structlog.get_logger()
ALL = "all"
BOOKS = ModelRef("risk", 0)  # the MLflow experiment of what is about all books
JUDGED = 750  # bars that models are compared and judged on: three years of days, 7.5 exceedances at 99 %
YEAR = 250  # bars over which exposures are estimated: older ones are another book's
SEED = 20260302  # of what is simulated: the same books give the same run
FAILED = "var_backtest"
LEAST = min(MODELS[name].least for name in CANDIDATES)


@dataclass(frozen=True, slots=True)
class Told:
    """What was found of one series of returns: that of the holdings of now. Empty `forecasts`: too few bars to walk."""

    past: Floats
    choice: Choice
    fitted: Fitted
    growth: Loss
    forecasts: Mapping[str, Forecasts]
    shown: Forecasts | None
    backtest: Backtest | None


def at(house: House, model: str, bars: pd.DataFrame, as_of: datetime) -> list[Decision]:
    """One look at all books. It is about no model in particular; nothing is logged while nothing is held."""
    held, r = positions(house, as_of), house.settings.risk
    if held.frame.empty or not held.equity > 0:
        log.info("no risk", positions=len(held.frame), equity=held.equity)
        return []
    if bars.empty:
        bars = feed.load_bars(house.settings.jobs.source).frame
    option = held.frame["kind"].isin(OPTIONS)  # it is in the table by its underlying
    units = sorted({*held.prices} - {*held.frame.loc[option, "unit"]})
    table = market(bars, units, as_of, r.history_bars + JUDGED)
    mine = weights(held, table, r)
    if not mine.any():
        log.warning("no risk", lacking=dict(table.lacking))
        return []
    told = judged(table.returns @ mine, r.confidence, r.horizon_bars)
    rng = np.random.default_rng(SEED)
    calibration = calibrate(table.returns, rng=rng, window=r.window_days, alarms_per_year=r.alarms_per_year)
    found = (
        *_findings(table, told, calibration, r.confidence),
        *_together(house, held),
        *_drivers(r, table, told.past),
    )
    _keep(house, table, mine, told, calibration, held)
    report = Report(BOOKS, as_of, found)
    decision = Decision(Verdict.HOLD, BOOKS, tuple(f for f in found if f.level is Level.ALERT), reason=told.choice.note)
    evidence = record.Evidence(
        "risk", report, decision, figures=_figures(table, mine, told, r.confidence), numbers=_numbers(told, held)
    )
    run_id = record.emit(house.client, evidence, house.run_id)
    moved = next(f for f in found if f.name == "correlation_breakdown")
    _tell(house, found[0], moved, run_id, as_of)
    return [decision]


def weights(held: Held, table: Market, risk: RiskSettings) -> Floats:
    """Value over equity of each unit of the table; options count by their deltas."""
    linear = ~held.frame["kind"].isin(OPTIONS)
    value = held.value[linear].groupby(held.frame.loc[linear, "unit"]).sum()
    outright = np.asarray(value.reindex(list(table.units)).fillna(0.0), dtype=np.float64) / held.equity
    units = {unit: i for i, unit in enumerate(table.units)}
    optioned = in_var(greeks_of(held, risk), units, held.equity)
    return outright if optioned is None else outright + optioned.options.deltas


def judged(past: Floats, confidence: float, horizon: int) -> Told:
    """Walk every model that these returns suffice for, choose, judge the choice as it would have been made, and fit.

    Parameters
    ----------
    past : ndarray of shape (T,)
        What the holdings of now would have returned, oldest first.
    """
    confidences = tuple(sorted({*CONFIDENCES, confidence}))
    first = len(past) - min(JUDGED, len(past) // 2)
    fits = [name for name in CANDIDATES if MODELS[name].least <= first]
    forecasts = walk(fits, past, first, confidences) if fits else {}
    if forecasts:
        choice, shown = choose(score_series(past, forecasts)), chosen(past, forecasts)[0]
        backtest = judge(past, shown, confidence, model=_name(choice), against=forecasts.get("historical"))
    else:
        least = min(CANDIDATES, key=lambda name: MODELS[name].least)  # of all, what asks for least
        choice = Choice((least,), {}, {}, 0, f"{len(past)} bars: only {least} can be fitted")
        shown, backtest = None, None
    fitted = fit(choice.leaders, past)
    return Told(past, choice, fitted, _growth(fitted, past, confidence, horizon), forecasts, shown, backtest)


def _name(choice: Choice) -> str:
    """`average of 5 models`, or the one."""
    return choice.leaders[0] if len(choice.leaders) == 1 else f"average of {len(choice.leaders)} models"


def _growth(fitted: Fitted, past: Floats, confidence: float, horizon: int) -> Loss:
    """VaR and ES over the horizon, each over that of the next bar."""
    if horizon == 1:
        return Loss(1.0, 1.0)
    one, many = fitted.now(past, (confidence,)), fitted.over(past, horizon, confidence, rng=np.random.default_rng(SEED))
    return Loss(many.var / float(one.var[0]), many.es / float(one.es[0])) if one.var[0] > 0 else Loss(1.0, 1.0)


def _findings(table: Market, told: Told, calibration: Calibration, confidence: float) -> tuple[Finding, ...]:
    """The verdict on the VaR first, then its tests, VaR and ES themselves, and where correlation stands."""
    n = len(told.past)
    if told.backtest is None:
        note = f"{n} bars are too few to judge a forecast: {2 * LEAST} are needed"
        verdict: tuple[Finding, ...] = (Finding(FAILED, np.nan, np.nan, Level.UNKNOWN, n, note=note),)
    else:
        subject = f"{100 * confidence:g}"  # MLflow takes no per cent sign in a metric's name
        verdict = tuple(replace(one, subject=subject) for one in findings(told.backtest))
    now = told.fitted.now(told.past, (confidence,))
    losses = (("var", now.var[0] * told.growth.var), ("es", now.es[0] * told.growth.es))
    level = Level.WARN if told.fitted.notes else Level.OK
    note = "; ".join(told.fitted.notes)
    stands = breakdown(table.returns, calibration).finding
    return (*verdict, *(Finding(k, float(v), np.nan, level, n, subject=ALL, note=note) for k, v in losses), stands)


def _together(house: House, held: Held) -> tuple[Finding, ...]:
    """Which strategies bleed together, by the returns of their books; nothing of fewer than two."""
    curves = past(house, held).curves
    named = {key.model: curve.pct_change(fill_method=None).dropna() for key, curve in curves.items() if len(curve)}
    if len(named) < 2:
        return ()
    table = pd.concat(named, axis=1).sort_index()
    rng = np.random.default_rng(SEED)
    found = bleed_together(table.to_numpy(dtype=np.float64), list(table.columns), rng=rng)
    return tuple(replace(one, subject=one.subject.replace(" + ", ":")) for one in found)  # MLflow takes no plus


def _drivers(r: RiskSettings, table: Market, past: Floats) -> tuple[Finding, ...]:
    """Over the last year: beta to the mean of the units held, and exposure to factors where the settings name any."""
    recent, times = past[-YEAR:], table.times[-YEAR:]
    found = [*_exposures(beta(recent, table.returns[-YEAR:].mean(axis=1)))]
    if r.factors:
        bars = feed.load_bars(r.factors).frame
        theirs = market(bars, tuple(sorted(bars["symbol"].unique())), times[-1].to_pydatetime(), 2 * YEAR)
        if not theirs.units:
            note = f"{r.factors} has no bars of the year before {times[-1]:%Y-%m-%d}"
            return (*found, Finding("factor_exposure", np.nan, np.nan, Level.UNKNOWN, 0, subject="factors", note=note))
        mine, other = times.isin(theirs.times), theirs.times.isin(times)
        found += _exposures(factor_exposure(recent[mine], theirs.returns[other], theirs.units))
    return tuple(found)


def _exposures(found: Factors) -> Iterator[Finding]:
    """A finding a factor; the intercept is none."""
    for name, value, low, high in zip(found.names, found.coefficient, found.low, found.high, strict=True):
        if name != "alpha":
            note = found.note or f"{value:.2f}, between {low:.2f} and {high:.2f}; all explain {found.r2:.0%}"
            params = {"low": float(low), "high": float(high), "r2": found.r2}
            yield Finding("factor_exposure", float(value), np.nan, found.level, found.n, params, name, note)


def _keep(house: House, table: Market, mine: Floats, told: Told, calibration: Calibration, held: Held) -> None:
    """The forecast, before its bar comes, and what the live page needs."""
    r, as_of = house.settings.risk, held.as_of
    now, last = told.fitted.now(told.past), table.times[-1].to_pydatetime()
    name = ", ".join(told.choice.leaders)
    house.ledger.add_forecasts(
        [
            Forecast(ALL, last, confidence, 1, name, float(var), max(float(var), float(es)), held.equity, as_of)
            for confidence, var, es in zip(CONFIDENCES, now.var, now.es, strict=True)
        ]
    )
    body: dict[str, Any] = {
        "units": list(table.units),
        "lacking": dict(table.lacking),
        "weights": mine.tolist(),
        "fitted": told.fitted.as_dict(),
        "growth": asdict(told.growth),
        "backtest": _shown(told),
    }
    returns = table.returns.astype(np.float32)
    judged = 0 if told.shown is None else len(told.shown.var)
    arrays: dict[str, NDArray[Any]] = {
        "returns": returns,
        "times": _stamps(table, judged),
        "var": np.empty(0),
        "loss": np.empty(0),
    }
    if told.shown is not None:
        arrays |= {"var": told.shown.at(r.confidence).var, "loss": -told.past[-judged:]}
    house.ledger.put_risk_state("var", ALL, as_of, body, arrays)
    last_state = [state.value for state, _ in states(table.returns, calibration)][-1:]
    stood = {"calibration": asdict(calibration), "last": (last_state or ["unknown"])[0]}
    house.ledger.put_risk_state("correlation", ALL, as_of, stood, {})


def _shown(told: Told) -> dict[str, Any]:
    """The backtest as the page shows it, beside the other models on the same bars."""
    found = told.backtest
    if found is None or told.shown is None:
        return {"model": _name(told.choice), "note": told.choice.note, "level": Level.UNKNOWN.value}
    others = {}
    for name, forecasts in told.forecasts.items():
        one = judge(told.past, forecasts, found.confidence, model=name)
        numbers = {"ql": 100 * one.quantile_loss, "fz": one.fz, "exceedances": one.exceedances}
        others[name] = numbers | {"level": one.level.value}
    p = found.p_values
    return {
        "model": found.model,
        "n": found.n,
        "exceedances": found.exceedances,
        "expected": found.expected,
        "exceedances_250": found.recent,
        "zone": None if found.zone == "unknown" else found.zone,
        "level": found.level.value,
        "p": {
            "kupiec": p["kupiec"],
            "christoffersen": p["independence"],
            "dq": p["dynamic_quantile"],
            "z2": p["shortfall"],
        },
        "ql": 100 * found.quantile_loss,
        "fz": found.fz,
        "alternatives": others,
        "note": f"{found.note}, on what is held now over the {found.n} bars before; {told.choice.note}",
    }


def _figures(table: Market, mine: Floats, told: Told, confidence: float) -> dict[str, Figure]:
    figures = {}
    if told.shown is not None:
        losses, bars = told.shown.at(confidence), len(told.shown.var)
        title = f"{100 * confidence:g} % VaR of what is held now, forecast one bar ahead"
        figures["var"] = risk_plots.value_at_risk(table.times[-bars:], -told.past[-bars:], losses.var, losses.es, title)
    if told.choice.scores:
        frame = pd.DataFrame({"fz": told.choice.scores})
        figures["models"] = risk_plots.scores(frame, told.choice.leaders, f"{told.choice.n} bars out of sample")
    shot = snapshot(table.returns.astype(np.float32), mine, told.fitted, confidence=confidence, growth=told.growth)
    parts = dict(zip(table.units, shot.component_var.tolist(), strict=True))
    figures["components"] = risk_plots.components(parts, f"Whose the {100 * confidence:g} % VaR is")
    return figures


def _numbers(told: Told, held: Held) -> dict[str, float]:
    """Metrics of the run beside its findings."""
    now = told.fitted.now(told.past)
    found = {"equity": held.equity, "positions": float(len(held.frame))}
    for confidence, var, es in zip(CONFIDENCES, now.var, now.es, strict=True):
        found |= {f"var_{1000 * confidence:.0f}": float(var), f"es_{1000 * confidence:.0f}": float(es)}
    return found | {f"fz.{name}": score for name, score in told.choice.scores.items()}


def _tell(house: House, verdict: Finding, moved: Finding, run_id: str, as_of: datetime) -> None:
    """Wake somebody where the VaR fails its own backtest, or diversification goes; take it back when it is over."""
    day = f"{as_of:%Y-%m-%d}"
    fails = f"var_backtest: the VaR that is shown fails its own backtest: {verdict.note}"
    gone = f"correlation_breakdown: {moved.note}"
    of = {"evidence_run": run_id}
    _keep_open(
        house, verdict, Alert(f"var_backtest:{day}", Priority.HIGH, BOOKS.name, fails, as_of, of | {**verdict.params})
    )
    _keep_open(
        house,
        moved,
        Alert(f"correlation_breakdown:{day}", Priority.MEDIUM, BOOKS.name, gone, as_of, of | {**moved.params}),
    )


def _keep_open(house: House, found: Finding, alert: Alert) -> None:
    """One alert while a finding is an ALERT; what is not known opens nothing and closes nothing."""
    about = alert.key.partition(":")[0] + ":"
    still = [one.key for one in house.ledger.alerts() if one.key.startswith(about)]
    if found.level is Level.ALERT and not still:
        house.ledger.add_alert(alert)
    elif found.level in (Level.OK, Level.WARN):
        for key in still:
            house.ledger.resolve_alert(key, alert.as_of)


def _stamps(table: Market, bars: int) -> NDArray[np.int64]:
    """Microseconds since 1970 of the last bars."""
    times = table.times[len(table.times) - bars :]
    return np.asarray(times.tz_localize(None).to_numpy(dtype="datetime64[us]").astype(np.int64))


def main(as_of: str = "now") -> None:
    run("risk", lambda house: at(house, "", pd.DataFrame(), moment(as_of)))


if __name__ == "__main__":
    typer.run(main)
