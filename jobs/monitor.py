"""Is the champion still the model that was tested? Once a week.

Load: its last predictions and every matured one since it was promoted. Compute, in three layers: drift of the features;
confidence and the accuracy it promises, without labels; charts, decay, calibration, error patterns and skill on matured
rows. Log: a step of the run of its reign. Act: tell a person of an alarm, and ask for a retrain, or hold.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Annotated

import numpy as np
import pandas as pd
import structlog
import typer
from matplotlib.figure import Figure

from jobs import schedule
from jobs.cli.terminal import start_job
from jobs.context import Context
from jobs.live import freshness, model_status
from jobs.monitoring import alarms, bar_frequency, charts, overdue_labels
from jobs.reports import evidently, live_evidence, mlflow_runs, monitor_figures
from mlops import monitor as monitoring
from mlops import policy
from mlops.errors import DataError
from mlops.settings import MonitorSettings
from mlops.types import Decision, Finding, Level, ModelRef, Report, Verdict
from registry_hooks import aliases
from registry_hooks.bundle import Bundle

log = structlog.get_logger()
DESCRIBES = ("event_time", "unit", "probability", "label")  # of a row; all else is a feature
LOOK_BACK = 3  # windows: the current one, the one before it, and what has matured lies between
PLOT_EVERY = 4  # weeks of a replay between two sets of pictures


def at(context: Context, model: str, as_of: datetime, page: evidently.When = evidently.When.DRIFTED) -> list[Decision]:
    """One look at the champion of `model`; nothing where it has none. `page`: when to have Evidently draw."""
    champion = aliases.champion(context.registry, model)
    if champion is None:
        return []
    s = context.settings.monitor
    bundle = context.bundle(champion)
    inputs, reference = bundle.reference(), bundle.held_out()  # features may be those of the search; scores may not
    rows = _predictions(context, model, champion.version, as_of)
    bar_frequency.daily(model, rows)
    since, began = alarms.promoted(context, model, as_of), alarms.start(context, model, champion.version, as_of)
    matured = context.ledger.telemetry.matured(model, start=since, end=as_of, as_of=as_of, version=champion.version)
    keys = ["event_time", "unit"]
    now, past = _window(s, rows), _summary(context, bundle, inputs)
    drift = _drift(champion, past, now, s.drift_threshold)
    pending = overdue_labels.look(context, champion, bundle.meta["horizon_bars"], as_of)
    findings = (
        *drift,
        monitoring.threshold_cost(past, now.event_time.nunique(), rows=len(now), threshold=s.drift_threshold),
        *_label_free(context, reference, now[[*keys, "probability"]]),
        *charts.charts(
            context, bundle, reference, matured[matured.event_time >= began], _looked(context, model, as_of), pending
        ),
        *_matured(context, bundle, reference, matured, rows),
        pending,
        freshness.Freshness(context).model(model, as_of).silence,
        charts.false_words(s),
    )
    report = Report(champion, as_of, (*findings, *monitoring.layers(findings)))
    earlier = None
    if any(f.level is Level.ALERT for f in drift):  # is it sustained? Look at the window before
        before = _window(s, rows.iloc[: len(rows) - len(now)])
        earlier = Report(champion, as_of, _drift(champion, past, before, s.drift_threshold))
    overdue_labels.settle(context, model, pending, as_of)
    decision = _decide(context, report, earlier, since, began)
    drawn = _drawn(context, page, report, decision, reference, matured)
    model_status.keep(context, report, decision)
    headline, draw = mlflow_runs.monitor_headline(report, decision), _page(context, page, report, inputs, now)

    def tell(run: str) -> None:
        live = live_evidence.row(matured, since, as_of, headline) | {"run": run}
        live_evidence.keep(context, "monitor", model, {champion.version: live}, as_of)
        draw(run)

    context.conclude(
        "monitor",
        report,
        decision,
        figures=drawn,
        plotted=mlflow_runs.monitor_metrics(report),
        headline=headline,
        series=mlflow_runs.reign(champion, since),
        then=tell,
    )
    return [decision]


def _decide(context: Context, report: Report, earlier: Report | None, since: datetime, began: datetime) -> Decision:
    """Verdict of a look; a person is told of an alarm before anything is tried.

    `earlier` is the drift of the window before, `since` the promotion, `began` the start of the charts.
    """
    model, version, as_of = report.model.name, report.model.version, report.as_of
    fell = any(f.name == "accuracy_change" and f.level is Level.ALERT for f in report.findings)
    stands = alarms.unanswered(context, model, version, as_of)
    alarm = alarms.alarm("accuracy" if fell else "inputs", model, version, began if fell else since, as_of)
    alarm = alarm if fell or stands is None else stands
    answering = alarms.answering(context, alarm, version, as_of)
    in_vain = "" if answering else alarms.in_vain(context, alarm, version, as_of)
    decision = policy.on_monitor(
        report,
        since_last_train_bars=_bars_since(context, model, alarms.last_training(context, model, as_of), as_of),
        cool_down_bars=context.settings.monitor.cool_down_bars,
        previous=earlier,
        answering=answering,
        in_vain=in_vain,
        unanswered="" if stands is None else f"the alarm on the accuracy of {stands.as_of:%Y-%m-%d} is not answered",
    )
    alarms.close(context, model, version, as_of)
    if decision.because and decision.verdict in (Verdict.RETRAIN, Verdict.HOLD):  # before anything is tried
        context.ledger.alerts.add(replace(alarm, title=f"{model}: {decision.reason}"))
    alarms.settle(context, model, version, decision.reason if decision.because and in_vain else "", as_of)
    return decision


def _drawn(
    context: Context,
    page: evidently.When,
    report: Report,
    decision: Decision,
    reference: pd.DataFrame,
    matured: pd.DataFrame,
) -> dict[str, Figure]:
    """Pictures of what moved; in a replay, where weeks pass in seconds, of every fourth week and of each verdict."""
    skipped = page is evidently.When.NEVER and decision.verdict is Verdict.HOLD
    if skipped and report.as_of.isocalendar().week % PLOT_EVERY:
        return {}
    s = context.settings.monitor
    windows = monitor_figures.Windows(reference, matured, len(_window(s, matured)), s.confidence_threshold)
    return monitor_figures.figures(report, windows, everything=page is evidently.When.ALWAYS)


def _page(
    context: Context, page: evidently.When, report: Report, reference: pd.DataFrame, now: pd.DataFrame
) -> Callable[[str], None]:
    """What draws Evidently's page into the run, or what does nothing."""
    drift = [f for f in report.findings if f.name in monitoring.DETECTORS]
    if now.empty or not page.asks(drift):
        return lambda run: None
    names, seed = [c for c in now.columns if c in reference.columns and c not in DESCRIBES], context.settings.train.seed
    return lambda run: evidently.attach(context.client, run, report, reference[names], now[names], seed)


def _summary(context: Context, bundle: Bundle, reference: pd.DataFrame) -> monitoring.ReferenceSummary:
    """What training computed of the reference; computed now for a bundle that has none, or one of another release."""
    if (stored := bundle.summary()) is not None:
        try:
            return monitoring.ReferenceSummary.from_bytes(stored)
        except DataError as error:
            log.warning("summary of the reference cannot be read; it is computed anew", error=str(error))
    s = context.settings.monitor
    return monitoring.kept_summary(reference, bundle.names, window=s.window, window_bars=s.window_bars)


def _drift(
    champion: ModelRef, past: monitoring.ReferenceSummary, rows: pd.DataFrame, threshold: float
) -> tuple[Finding, ...]:
    """Drift of one window; the null of a length that training did not foresee is computed now, and told."""
    if (bars := rows.event_time.nunique()) not in past.lengths:
        log.info("drift null computed", model=str(champion), bars=bars, kept=list(past.lengths))
    return monitoring.feature_drift(past, rows.drop(columns="probability"), threshold=threshold)


def _label_free(context: Context, reference: pd.DataFrame, now: pd.DataFrame) -> tuple[Finding, ...]:
    """What can be said before labels come."""
    weak, alpha = context.settings.monitor.confidence_threshold, charts.alpha(context.settings.monitor)
    return (
        *monitoring.confidence(reference, now, threshold=weak, alpha=alpha),
        monitoring.estimated_accuracy(reference, now, alpha=alpha),
    )


def _matured(
    context: Context, bundle: Bundle, reference: pd.DataFrame, matured: pd.DataFrame, rows: pd.DataFrame
) -> tuple[Finding, ...]:
    """What else labels say, of the last window; `ageing` of all of the champion's time."""
    s, seed = context.settings.monitor, context.settings.train.seed
    alpha, measure = charts.alpha(s), {"confidence_threshold": s.confidence_threshold}
    recent = _window(s, matured)
    known = rows.drop(columns="probability")
    joined = recent.merge(known, on=["event_time", "unit"], validate="one_to_one") if len(rows) else recent
    features = tuple(name for name in bundle.names if name in joined.columns)
    return (
        *monitoring.performance(recent, base_rate=bundle.meta["base_rate"], alpha=alpha, **measure),
        *monitoring.decay(reference, recent, alpha=alpha),
        monitoring.ageing(matured, alpha=alpha),
        *monitoring.calibration(reference, recent, alpha=alpha, rng=np.random.default_rng(seed)),
        *monitoring.error_patterns(
            reference, joined, features=features, horizon=bundle.meta["horizon_bars"], alpha=alpha
        ),
        monitoring.estimate_error(reference, recent, alpha=alpha),
    )


def _predictions(context: Context, model: str, version: int, as_of: datetime) -> pd.DataFrame:
    """The last predictions of the champion with their features, newest last, enough for every look back.

    Columns: event_time, unit, probability and one a feature.
    """
    span = {"start": alarms.LONG_AGO, "end": as_of, "as_of": as_of}
    frame, values, names = context.ledger.telemetry.predictions(model, version=version, **span)
    keys = frame[["event_time", "unit", "probability"]].reset_index(drop=True)
    rows = pd.concat([keys, pd.DataFrame(values, columns=names)], axis=1)
    return _window(context.settings.monitor, rows, LOOK_BACK)


def _window(s: MonitorSettings, rows: pd.DataFrame, times: int = 1) -> pd.DataFrame:
    """The current window of rows in order of time, or one so many times as long."""
    return monitoring.last_window(rows, rows=times * s.window, bars=times * s.window_bars)


def _looked(context: Context, model: str, as_of: datetime) -> datetime:
    """When the look before this one was."""
    state = context.ledger.risk.state(model_status.EVIDENCE, model, as_of=as_of - timedelta(microseconds=1))
    return alarms.LONG_AGO if state is None else state.as_of


def _bars_since(context: Context, model: str, since: datetime, as_of: datetime) -> int:
    """Bars that were predicted since: they go on where labels stop."""
    champions = {entry.to_version for entry in context.ledger.registry.promotions(model)}
    return len(context.ledger.latest.predicted_bars(model, champions, start=since, as_of=as_of))


def main(
    model: str = "volatility",
    as_of: str = "now",
    page: Annotated[evidently.When, typer.Option(help="When to add Evidently's page.")] = evidently.When.DRIFTED,
) -> None:
    schedule.main("monitor", model, as_of, page=page)


if __name__ == "__main__":
    start_job(main)
