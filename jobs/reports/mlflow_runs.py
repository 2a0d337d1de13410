"""Names of the runs in MLflow, the few metrics of each that somebody plots, and the headline in its name.

Everything else that was found is in the files of the run.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any

from mlops import monitor as monitoring
from mlops.experiment.metrics import METRICS
from mlops.io import record
from mlops.io.ledger import ComparisonRow
from mlops.io.record import Series
from mlops.types import Decision, Finding, Level, ModelRef, Report

MONITOR = (
    "accuracy", "log_loss", "skill", "accuracy_change", "estimated_accuracy", "confidence_mean", "calibration_ece",
    "ageing", "pending", "silence",
)  # fmt: skip
ARM = ("accuracy", "log_loss", "sharpe", "drawdown")
RISK = (
    "equity", "positions", "var.all", "es.all", "var_950", "es_950", "correlation_breakdown", "factor_exposure.beta",
    "fz.default",
)  # fmt: skip
STAGES = {"shadow": "in shadow", "ab": "in A/B"}
STRESS = (
    "stress", "worst_window.1", "worst_window.5", "worst_window.20", "worst_window.60", "var.all", "es.all",
    "es_gaussian", "expected_drawdown", "conditional_t", "conditional_vine", "reverse_sigmas",
)  # fmt: skip


def reign(champion: ModelRef, since: datetime) -> Series:
    """The run of one champion's time; a version that comes back has another one."""
    tags = {"job": "monitor", "model": champion.name, "series": f"v{champion.version}:{since:%Y-%m-%dT%H:%M:%S}"}
    return Series(f"monitor v{champion.version}", since, tags)


def comparison(row: ComparisonRow) -> Series:
    """The run of one comparison; a version that waited and is nominated goes on in the same run."""
    pair = f"v{row.champion}:v{row.challenger}:{row.started_at:%Y-%m-%dT%H:%M:%S}"
    job = "watch" if row.kind == "watch" else "compare"
    name = f"{job} v{row.champion} → v{row.challenger}"
    return Series(name, row.started_at, {"job": "compare", "model": row.model, "series": pair})


def year(job: str, as_of: datetime) -> Series:
    """The run of a job that looks at all books, one a calendar year."""
    tags = {"job": job, "model": record.BOOKS.name, "series": f"{job}:{as_of:%Y}"}
    return Series(f"{job} {as_of:%Y}", datetime(as_of.year, 1, 1, tzinfo=UTC), tags)


def chosen(names: Iterable[str], *numbers: Mapping[str, float]) -> dict[str, float]:
    """Numbers that have a name among `names`, in this order."""
    known = {name: value for some in numbers for name, value in some.items()}
    return {name: known[name] for name in names if name in known}


def monitor_metrics(report: Report) -> dict[str, float]:
    """How right the champion was lately, what its charts and inputs say, and how many rows wait for a label."""
    drift = [f for f in report.findings if f.name in monitoring.DETECTORS and f.level is not Level.UNKNOWN]
    drifted = {"features_drifted": float(len(_drifted(drift)))} if drift else {}
    matured = {f.name: f.value for f in report.findings if f.name == "n"}
    return chosen(MONITOR, record.measured(report.findings)) | drifted | {"matured_rows": matured.get("n", math.nan)}


def monitor_headline(report: Report, decision: Decision) -> str:
    """The verdict, how right it was lately, and how many features moved."""
    accuracy = next((f for f in report.findings if f.name == "accuracy" and f.level is not Level.UNKNOWN), None)
    known = "too few labels yet" if accuracy is None else f"{accuracy.value:.0%} right over {accuracy.n} bars"
    drifted = _drifted(f for f in report.findings if f.name in monitoring.DETECTORS)
    moved = f", {len(drifted)} features drifted" if drifted else ""
    return f"{decision.verdict.value}, {known}{moved}"


def comparison_metrics(report: Report, arms: Mapping[str, Mapping[str, float]]) -> dict[str, float]:
    """The challenger's gain a bar with its band, and the same numbers of both arms on the same bars."""
    findings = {f.name: f for f in report.findings}
    proof, band = findings["paired_log_loss"], findings["gain_interval"].params
    gain = {"gain": proof.value, "gain.low": band["lower"], "gain.high": band["upper"]} if proof.n else {}
    sides = {f"{role}.{name}": values[name] for name in ARM for role, values in arms.items() if name in values}
    return gain | sides


def comparison_headline(report: Report, decision: Decision, stage: str = "") -> str:
    """The verdict, how many of the plan's bars it rests on, and the stage of the challenger."""
    proof = next(f for f in report.findings if f.name == "paired_log_loss")
    where = f", {STAGES[stage]}" if stage else ""
    return f"{decision.verdict.value}, {proof.n} of {proof.params['horizon_bars']} bars{where}"


def report_metrics(numbers: Mapping[str, float], challenger: int) -> dict[str, float]:
    """The challenger's gain in each metric, and what the number of tries leaves of it."""
    return chosen([*(f"gain.{name}.v{challenger}" for name in METRICS), "tries.deflated", "tries.pbo", "bars"], numbers)


def risk_metrics(findings: Iterable[Finding], numbers: Mapping[str, float]) -> dict[str, float]:
    """VaR and ES, the p-value of its backtest, and where correlation stands."""
    known = record.measured(findings)
    backtest = [value for name, value in known.items() if name.startswith("var_backtest")]
    return chosen(RISK, known, numbers) | {"var_backtest": next(iter(backtest), math.nan)}


def _drifted(drift: Iterable[Finding]) -> set[Any]:
    return {f.subject for f in drift if f.level is Level.ALERT}
