"""The pictures of a look at a champion: few, and only of what moved, for they cost more than all the rest of a look."""

from __future__ import annotations

from dataclasses import dataclass

import pandas as pd
from matplotlib.figure import Figure

from mlops import monitor as monitoring
from mlops.plots import evidence
from mlops.stats import log_losses
from mlops.types import Finding, Level, Report

CALIBRATION = ("calibration_", "confidence_", "estimate")  # findings that the reliability curve explains
DECAY = ("ageing", "decay_", "accuracy_", "log_loss_change", "label_")


@dataclass(frozen=True)
class Windows:
    """What the pictures are drawn from: out-of-fold rows, and all matured ones with their last window."""

    reference: pd.DataFrame
    matured: pd.DataFrame
    window: int
    threshold: float

    @property
    def ready(self) -> bool:
        return len(self.matured) > 0 and len(self.reference) > 0


def figures(report: Report, windows: Windows, *, everything: bool = False) -> dict[str, Figure]:
    """Figures by name. `everything`: also of what is quiet, where there is anything to draw."""
    findings, title = report.findings, f"{report.model}, {report.as_of:%Y-%m-%d}"
    drift = [f for f in findings if f.name in monitoring.DETECTORS and f.level is not Level.UNKNOWN]
    segments = [f for f in findings if f.name == "error_segment"]
    made: dict[str, Figure] = {}
    if drift and (everything or _loud(drift)):
        made["feature_drift"] = evidence.drift(drift, f"Feature drift: {title}")
    if segments:
        made["error_segments"] = evidence.error_segments(segments, f"Where errors concentrate: {title}")
    if windows.ready and (everything or _loud(_about(findings, CALIBRATION))):
        made["calibration"] = _calibration(windows, title)
    if windows.ready and (everything or _loud(_about(findings, DECAY))):
        ageing = next((f for f in findings if f.name == "ageing" and f.level is not Level.UNKNOWN), None)
        made |= {} if ageing is None else {"age": _age(windows, ageing, title)}
    return made


def _about(findings: tuple[Finding, ...], names: tuple[str, ...]) -> list[Finding]:
    return [f for f in findings if f.name.startswith(names)]


def _loud(findings: list[Finding]) -> bool:
    return any(f.level is Level.ALERT for f in findings)


def _calibration(windows: Windows, title: str) -> Figure:
    now = windows.matured.tail(windows.window)
    rows = {"validation": windows.reference, f"last {len(now):,} matured": now}
    curves = {name: monitoring.reliability(of) for name, of in rows.items()}
    probabilities = {name: of["probability"].to_numpy() for name, of in rows.items()}
    return evidence.calibration(curves, probabilities, windows.threshold, f"As right as it is sure? {title}")


def _age(windows: Windows, ageing: Finding, title: str) -> Figure:
    before, loss = (_loss(rows) for rows in (windows.reference, windows.matured))
    return evidence.age(loss, float(before.mean()), ageing.params["curve"], f"Age: {title}")


def _loss(rows: pd.DataFrame) -> pd.Series:
    """Log-loss of each bar."""
    losses = log_losses(rows["probability"].to_numpy(), rows["label"].to_numpy())
    return pd.Series(losses, index=pd.Index(rows["event_time"])).groupby(level=0).mean()
