"""What may the books lose? Every trading night: the model of the VaR is fitted to what is held, and judged on it.

Load: positions, bars. Compute: what the holdings of now would have returned; what the model would have forecast of it,
beside others; how those forecasts fared; how far correlation moves by chance. Log: a step of the
year's run. Act: the forecast is kept before its bar comes, the live page gets model and table, and a VaR that fails its
own backtest is an alert until it passes again.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from typing import Any

import numpy as np
import pandas as pd
import structlog
from matplotlib.figure import Figure
from numpy.typing import NDArray

from jobs import schedule
from jobs.bars import bars_of
from jobs.cli.terminal import start_job
from jobs.context import Context
from jobs.live.history import past
from jobs.portfolio.options import greeks_of, in_var
from jobs.portfolio.positions import positions
from jobs.portfolio.returns import Market, market
from jobs.portfolio.valuation import Held
from jobs.portfolio.weights import OPTIONS
from jobs.reports import mlflow_runs
from jobs.reports.var_record import Realised, realised
from mlops.alerts import ALERTS
from mlops.compute import SERIAL, Compute
from mlops.io import record
from mlops.io.ledger import Forecast
from mlops.plots import risk as risk_plots
from mlops.risk.correlation.breakdown import breakdown, states
from mlops.risk.correlation.joint_losses import bleed_together
from mlops.risk.correlation.threshold import Calibration, calibrate
from mlops.risk.factors import Factors, beta, factor_exposure
from mlops.risk.measures import CONFIDENCES, Floats, Loss
from mlops.risk.var.backtest import Backtest, findings, judge
from mlops.risk.var.fitted import Fitted, fit
from mlops.risk.var.selection import JUDGED, SEED, SHOWN, TrackRecord, names_for, track_record
from mlops.risk.var.snapshot import snapshot
from mlops.settings import RiskSettings
from mlops.types import Decision, Finding, Level, Report, Verdict

log = structlog.get_logger()
ALL = "all"
YEAR = 250  # bars over which exposures are estimated: older ones are another book's
FAILED = "var_backtest"


@dataclass(frozen=True, slots=True)
class VarStudy:
    """What one series of returns, that of the holdings of now, says. `track` and `backtest`: None of too few bars."""

    past: Floats
    fitted: Fitted
    growth: Loss
    track: TrackRecord | None
    scores: Mapping[str, float]
    backtest: Backtest | None
    note: str

    @property
    def model(self) -> str:
        """The models whose average is shown."""
        return " + ".join(self.fitted.members)


def at(context: Context, bars: pd.DataFrame, as_of: datetime) -> list[Decision]:
    """One look at all books. It is about no model in particular; nothing is logged while nothing is held."""
    held, r = positions(context, as_of).counted(), context.settings.risk
    if held.frame.empty or not held.equity > 0:
        log.info("no risk", positions=len(held.frame), equity=held.equity)
        return []
    option = held.frame["kind"].isin(OPTIONS)  # it is in the table by its underlying
    units = sorted({*held.prices} - {*held.frame.loc[option, "unit"]})
    table = market(bars, units, as_of, r.history_bars + JUDGED)
    book = weights(held, table, r)
    if not book.any():
        log.warning("no risk", lacking=dict(table.lacking))
        return []
    study = judged(table.returns @ book, r.confidence, r.horizon_bars, context.compute)
    rng = np.random.default_rng(SEED)
    calibration = calibrate(table.returns, rng=rng, window=r.window_days, alarms_per_year=r.alarms_per_year)
    findings = (
        *_findings(table, study, calibration, r.confidence),
        *_together(context, held),
        *_drivers(context, bars, table, book, as_of),
    )
    stored = _stored(context, table, held)
    findings = (*findings, _judged_as_stored(stored, r.confidence))
    _keep(context, table, book, study, calibration, held, stored)
    report = Report(record.BOOKS, as_of, findings)
    decision = Decision(
        Verdict.HOLD, record.BOOKS, tuple(f for f in findings if f.level is Level.ALERT), reason=_headline(study)
    )
    numbers = _numbers(study, held)
    evidence = record.Evidence(
        "risk",
        report,
        decision,
        figures=_figures(table, book, study, r.confidence),
        numbers=numbers,
        plotted=mlflow_runs.risk_metrics(findings, numbers),
        headline=f"VaR {next(f.value for f in findings if f.name == 'var'):.2%}, backtest {findings[0].level.value}",
        series=mlflow_runs.year("risk", as_of),
    )
    run_id = context.emit(evidence)
    moved = next(f for f in findings if f.name == "correlation_breakdown")
    _tell(context, findings[0], moved, run_id, as_of)
    return [decision]


def weights(held: Held, table: Market, risk: RiskSettings) -> Floats:
    """Value over equity of each unit of the table; options count by their deltas."""
    value = held.moves["value"].groupby(held.moves["unit"]).sum()
    outright = np.asarray(value.reindex(list(table.units)).fillna(0.0), dtype=np.float64) / held.equity
    units = {unit: i for i, unit in enumerate(table.units)}
    optioned = in_var(greeks_of(held, risk), units, held.equity)
    return outright if optioned is None else outright + optioned.options.deltas


def judged(past: Floats, confidence: float, horizon: int, compute: Compute = SERIAL) -> VarStudy:
    """Fit the default to these returns, and judge it on the last of them, over the horizon.

    Parameters
    ----------
    past : ndarray of shape (T,)
        What the holdings of now would have returned, oldest first.
    """
    confidences = tuple(sorted({*CONFIDENCES, confidence}))
    track = track_record(past, JUDGED, confidences, horizon=horizon, compute=compute)
    fitted = fit(names_for(len(past)) if track is None else track.names, past)  # what was judged is what is shown
    growth = _growth(fitted, past, confidence, horizon)
    if track is None:
        note = f"{len(past)} bars are too few to judge a forecast of {horizon}"
        return VarStudy(past, fitted, growth, None, {}, None, note)
    against = track.others.get("historical")
    backtest = judge(past, track.forecasts, confidence, model=" + ".join(track.names), against=against)
    note = f"{len(track.forecasts.var)} windows of {horizon} bars, none overlapping" if horizon > 1 else ""
    return VarStudy(past, fitted, growth, track, track.scores(past), backtest, note)


def _growth(fitted: Fitted, past: Floats, confidence: float, horizon: int) -> Loss:
    """VaR and ES over the horizon, each over that of the next bar."""
    if horizon == 1:
        return Loss(1.0, 1.0)
    step = fitted.now(past, (confidence,))
    over = fitted.over(past, horizon, confidence, rng=np.random.default_rng(SEED))
    return Loss(over.var / float(step.var[0]), over.es / float(step.es[0])) if step.var[0] > 0 else Loss(1.0, 1.0)


def _findings(table: Market, study: VarStudy, calibration: Calibration, confidence: float) -> tuple[Finding, ...]:
    """The verdict on the VaR first, then its tests, VaR and ES themselves, and where correlation stands."""
    n = len(study.past)
    if study.backtest is None:
        verdict: tuple[Finding, ...] = (Finding(FAILED, np.nan, np.nan, Level.UNKNOWN, n, note=study.note),)
    else:
        subject = f"{100 * confidence:g}"  # MLflow takes no per cent sign in a metric's name
        verdict = tuple(replace(finding, subject=subject) for finding in findings(study.backtest))
    now = study.fitted.now(study.past, (confidence,))
    losses = (("var", now.var[0] * study.growth.var), ("es", now.es[0] * study.growth.es))
    level = Level.WARN if study.fitted.notes else Level.OK
    note = "; ".join(study.fitted.notes)
    stands = breakdown(table.returns, calibration).finding
    return (*verdict, *(Finding(k, float(v), np.nan, level, n, subject=ALL, note=note) for k, v in losses), stands)


def _together(context: Context, held: Held) -> tuple[Finding, ...]:
    """Which strategies bleed together, by the returns of their books; nothing of fewer than two."""
    curves = past(context, held).curves
    named = {key.model: curve.pct_change(fill_method=None).dropna() for key, curve in curves.items() if len(curve)}
    if len(named) < 2:
        return ()
    table = pd.concat(named, axis=1).sort_index()
    rng = np.random.default_rng(SEED)
    pairs = bleed_together(table.to_numpy(dtype=np.float64), list(table.columns), rng=rng)
    return tuple(replace(f, subject=f.subject.replace(" + ", ":")) for f in pairs)  # MLflow takes no plus


def _drivers(context: Context, bars: pd.DataFrame, table: Market, book: Floats, as_of: datetime) -> tuple[Finding, ...]:
    """Over the last year: beta to the mean of the units held, and exposure to factors where the settings name any."""
    r, recent = context.settings.risk, table.returns[-YEAR:]
    parts = [*_exposures(beta(recent @ book, recent.mean(axis=1)))]
    if r.factors:
        theirs = bars_of(context, r.factors, as_of)
        theirs = theirs.assign(symbol=r.factors + "/" + theirs["symbol"])  # a fund may be held, too
        factors = sorted(theirs["symbol"].unique())
        both = market(pd.concat([bars, theirs]), [*table.units, *factors], as_of, YEAR)  # at common closes
        names = [unit for unit in factors if unit in both.units]
        if not names or not set(table.units) <= set(both.units):
            note = f"{r.factors} has no bars of the year before {table.times[-1]:%Y-%m-%d}"
            return (*parts, Finding("factor_exposure", np.nan, np.nan, Level.UNKNOWN, 0, subject="factors", note=note))
        columns = {unit: both.returns[:, i] for i, unit in enumerate(both.units)}
        past = np.column_stack([columns[unit] for unit in table.units]) @ book
        explained = np.column_stack([columns[unit] for unit in names])
        parts += _exposures(factor_exposure(past, explained, [name.partition("/")[2] for name in names]))
    return tuple(parts)


def _exposures(factors: Factors) -> Iterator[Finding]:
    """A finding a factor; the intercept is none."""
    for name, value, low, high in zip(factors.names, factors.coefficient, factors.low, factors.high, strict=True):
        if name != "alpha":
            note = factors.note or f"{value:.2f}, between {low:.2f} and {high:.2f}; all explain {factors.r2:.0%}"
            params = {"low": float(low), "high": float(high), "r2": factors.r2}
            yield Finding("factor_exposure", float(value), np.nan, factors.level, factors.n, params, name, note)


def _stored(context: Context, table: Market, held: Held) -> Realised:
    """What earlier nights stored, and what the books then lost."""
    r = context.settings.risk
    forecasts = context.ledger.risk.forecasts(ALL, confidence=r.confidence, horizon=r.horizon_bars, as_of=held.as_of)
    return realised(forecasts, past(context, held).equity, table.times, r.horizon_bars)


def _judged_as_stored(stored: Realised, confidence: float) -> Finding:
    """The backtest of the forecasts that were stored, of whatever was held on their nights."""
    finding = findings(stored.judged(confidence))[0]
    return replace(finding, name="var_stored", subject=f"{100 * confidence:g}")


def _keep(
    context: Context, table: Market, book: Floats, study: VarStudy, calibration: Calibration, held: Held, past: Realised
) -> None:
    """The forecast, before its bar comes, and what the live page needs."""
    r, as_of = context.settings.risk, held.as_of
    last = table.times[-1].to_pydatetime()
    context.ledger.risk.add_forecasts([*_forecasts(study, r, last, held)])
    body: dict[str, Any] = {
        "units": list(table.units),
        "lacking": dict(table.lacking),
        "weights": book.tolist(),
        "fitted": study.fitted.as_dict(),
        "growth": asdict(study.growth),
        "aligned": dict(table.aligned),
        "backtest": _shown(study),
    }
    returns = table.returns.astype(np.float32)
    bars = _microseconds(table.times)
    arrays: dict[str, NDArray[Any]] = {
        "returns": returns,
        "bars": bars,
        **_track(table, study, r.confidence),
        **past.arrays(),
    }
    context.ledger.risk.put_state("var", ALL, as_of, body, arrays)
    last_state = [state.value for state, _ in states(table.returns, calibration)][-1:]
    stood = {"calibration": asdict(calibration), "last": (last_state or ["unknown"])[0]}
    context.ledger.risk.put_state("correlation", ALL, as_of, stood, {})


def _forecasts(study: VarStudy, r: RiskSettings, last: datetime, held: Held) -> Iterator[Forecast]:
    """Forecasts of the next bar and of the horizon, before they come."""
    confidences = tuple(sorted({*CONFIDENCES, r.confidence}))
    now = study.fitted.now(study.past, confidences)
    for horizon in sorted({1, r.horizon_bars}):
        for confidence, var, es in zip(confidences, now.var.tolist(), now.es.tolist(), strict=True):
            growth = _growth(study.fitted, study.past, confidence, horizon)
            var, es = var * growth.var, es * growth.es
            if np.isfinite([var, es]).all():
                yield Forecast(ALL, last, confidence, horizon, study.model, var, max(var, es), held.equity, held.as_of)


def _track(table: Market, study: VarStudy, confidence: float) -> dict[str, NDArray[Any]]:
    """VaR and loss by the last bar of each forecast that the model would have made."""
    if study.track is None:
        return {"times": np.empty(0, dtype=np.int64), "var": np.empty(0), "loss": np.empty(0)}
    forecasts = study.track.forecasts
    return {
        "times": _microseconds(_ends(table, study.track)),
        "var": forecasts.at(confidence).var,
        "loss": -forecasts.realised(study.past),
    }


def _ends(table: Market, track: TrackRecord) -> pd.DatetimeIndex:
    """The last bar of each forecast's bars."""
    forecasts = track.forecasts
    place = forecasts.first + forecasts.horizon * np.arange(1, len(forecasts.var) + 1) - 1
    return table.times[place]


def _microseconds(times: pd.DatetimeIndex) -> NDArray[np.int64]:
    """Since 1970."""
    return np.asarray(times.tz_localize(None).to_numpy(dtype="datetime64[us]").astype(np.int64))


def _bars(n: int) -> str:
    return "one bar" if n == 1 else f"{n} bars"


def _headline(study: VarStudy) -> str:
    """What the backtest says, and of what."""
    if study.backtest is None:
        return study.note
    over = f", {study.note}" if study.note else ""
    return f"{study.backtest.note}, on what is held now over the {study.backtest.n} forecasts before{over}"


def _shown(study: VarStudy) -> dict[str, Any]:
    """The backtest as the page shows it, beside the other models on the same bars."""
    backtest = study.backtest
    if backtest is None or study.track is None:
        return {"model": study.model, "note": study.note, "level": Level.UNKNOWN.value}
    others = {}
    for name, forecasts in study.track.others.items():
        other = judge(study.past, forecasts, backtest.confidence, model=name)
        numbers = {"ql": 100 * other.quantile_loss, "fz": other.fz, "exceedances": other.exceedances}
        others[name] = numbers | {"level": other.level.value}
    p = backtest.p_values
    return {
        "model": backtest.model,
        "n": backtest.n,
        "exceedances": backtest.exceedances,
        "expected": backtest.expected,
        "exceedances_250": backtest.recent,
        "zone": None if backtest.zone == "unknown" else backtest.zone,
        "level": backtest.level.value,
        "p": {
            "kupiec": p["kupiec"],
            "christoffersen": p["independence"],
            "dq": p["dynamic_quantile"],
            "z2": p["shortfall"],
        },
        "ql": 100 * backtest.quantile_loss,
        "fz": backtest.fz,
        "alternatives": others,
        "note": _headline(study),
    }


def _figures(table: Market, book: Floats, study: VarStudy, confidence: float) -> dict[str, Figure]:
    figures = {}
    if study.track is not None:
        forecasts = study.track.forecasts
        losses, ends = forecasts.at(confidence), _ends(table, study.track)
        title = f"{100 * confidence:g} % VaR of what is held now, forecast {_bars(forecasts.horizon)} ahead"
        realised = -forecasts.realised(study.past)
        figures["var"] = risk_plots.value_at_risk(ends, realised, losses.var, losses.es, title)
    if len(study.scores) > 1 and study.backtest is not None:
        frame = pd.DataFrame({"fz": study.scores})
        figures["models"] = risk_plots.scores(frame, [SHOWN], f"{study.backtest.n} bars out of sample")
    shot = snapshot(table.returns.astype(np.float32), book, study.fitted, confidence=confidence, growth=study.growth)
    parts = dict(zip(table.units, shot.component_var.tolist(), strict=True))
    figures["components"] = risk_plots.components(parts, f"Whose the {100 * confidence:g} % VaR is")
    return figures


def _numbers(study: VarStudy, held: Held) -> dict[str, float]:
    """Metrics of the run beside its findings."""
    now = study.fitted.now(study.past)
    numbers = {"equity": held.equity, "positions": float(len(held.frame))}
    for confidence, var, es in zip(CONFIDENCES, now.var, now.es, strict=True):
        numbers |= {f"var_{1000 * confidence:.0f}": float(var), f"es_{1000 * confidence:.0f}": float(es)}
    return numbers | {f"fz.{name}": score for name, score in study.scores.items()}


def _tell(context: Context, verdict: Finding, moved: Finding, run_id: str, as_of: datetime) -> None:
    """Wake somebody where the VaR fails its own backtest, or diversification goes; take it back when it is over."""
    words = {"date": f"{as_of:%Y-%m-%d}", "about": record.BOOKS.name}
    for kind, finding in (("var_backtest", verdict), ("correlation_breakdown", moved)):
        details = {"evidence_run": run_id, **finding.params}
        wanted = [ALERTS[kind].alert(as_of, words | {"note": finding.note}, details=details)]
        if finding.level is not Level.UNKNOWN:  # what is not known opens nothing and closes nothing
            context.ledger.alerts.settle(kind, wanted if finding.level is Level.ALERT else (), as_of)


def main(as_of: str = "now") -> None:
    schedule.main("risk", "", as_of)


if __name__ == "__main__":
    start_job(main)
