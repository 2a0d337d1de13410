"""Is the champion still the model that was tested? Once a week.

Load: its last predictions and every matured one since it was promoted. Compute: drift of the features, change of the
accuracy, performance. Log: a run with the findings. Act: ask for a retrain, or hold.
"""

from __future__ import annotations

from datetime import UTC, datetime

import numpy as np
import pandas as pd
import typer
from matplotlib.figure import Figure

from jobs.house import House, moment, run
from mlops import monitor as room
from mlops import policy
from mlops.io import plots
from mlops.types import Decision, Finding, Level, Report
from registry_hooks import aliases

LONG_AGO = datetime(1970, 1, 1, tzinfo=UTC)


def at(house: House, model: str, bars: pd.DataFrame, as_of: datetime) -> list[Decision]:
    """One look at the champion of `model`; nothing where it has none."""
    champion = aliases.champion(house.registry, model)
    if champion is None:
        return []
    s = house.settings.monitor
    bundle = house.bundle(champion)
    reference, trained = bundle.reference(), _last_training(house, model)
    since = max(trained, house.ledger.promotions(model)[-1].created_at)  # the chart starts anew at either
    current, before = _windows(house, model, champion.version, as_of)
    past = reference[[*bundle.names, "event_time", "unit"]]
    matured = house.ledger.matured(model, start=since, end=as_of, as_of=as_of, version=champion.version)
    findings = (
        *room.feature_drift(past, current, threshold=s.drift_threshold),
        room.accuracy_change(
            reference,
            matured,
            false_alarms_per_year=s.false_alarms_per_year,
            rng=np.random.default_rng(house.settings.train.seed),
        ),
        *room.performance(
            matured.tail(s.window),
            confidence_threshold=s.confidence_threshold,
            base_rate=bundle.meta["base_rate"],
        ),
        _pending(house, model, champion.version, as_of),
    )
    report = Report(champion, as_of, findings)
    earlier = None
    if any(f.subject and f.level is Level.ALERT for f in findings):  # is it sustained? Look at the window before
        earlier = Report(champion, as_of, room.feature_drift(past, before, threshold=s.drift_threshold))
    decision = policy.on_monitor(
        report,
        since_last_train_bars=_bars_since(house, model, trained, as_of),
        cool_down_bars=s.cool_down_bars,
        previous=earlier,
        comparing=bool(house.ledger.open_experiments(model, "compare")),
    )
    house.conclude("monitor", report, decision, figures=_figures(report))
    return [decision]


def _windows(house: House, model: str, version: int, as_of: datetime) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The last predictions of the champion with their features, and as many before them.

    Columns: event_time, unit and one a feature.
    """
    frame, values, names = house.ledger.predictions(model, start=LONG_AGO, end=as_of, as_of=as_of, version=version)
    rows = pd.concat(
        [frame[["event_time", "unit"]].reset_index(drop=True), pd.DataFrame(values, columns=names)], axis=1
    )
    size = house.settings.monitor.window
    return rows.iloc[-size:], rows.iloc[-2 * size : -size]


def _pending(house: House, model: str, version: int, as_of: datetime) -> Finding:
    waiting = house.ledger.pending(model, as_of=as_of, version=version)
    note = f"{waiting} predictions wait for their label"
    return Finding("pending", float(waiting), 0.0, Level.OK, waiting, note=note)


def _last_training(house: House, model: str) -> datetime:
    return max((row.registered_at for row in house.ledger.bundles(model)), default=LONG_AGO)


def _bars_since(house: House, model: str, since: datetime, as_of: datetime) -> int:
    return int(house.ledger.matured(model, start=since, end=as_of, as_of=as_of).event_time.nunique())


def _figures(report: Report) -> dict[str, Figure]:
    """Plots only when something moved: they cost more than all the rest of a quiet look."""
    drift = [f for f in report.findings if f.name == "ks" and f.level is not Level.UNKNOWN]
    if not any(f.level is Level.ALERT for f in drift):
        return {}
    names, values, limits = zip(*((f.subject, f.value, f.limit) for f in drift), strict=True)
    title = f"{report.model}: feature drift, {report.as_of:%Y-%m-%d}"
    return {"feature_drift": plots.feature_drift(names, values, limits, title)}


def main(model: str = "volatility", as_of: str = "now") -> None:
    run("monitor", lambda house: at(house, model, pd.DataFrame(), moment(as_of)))


if __name__ == "__main__":
    typer.run(main)
