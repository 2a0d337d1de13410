"""Is the live model still the model we tested? One line in `DETECTORS` adds a detector."""

from mlops.monitor.accuracy import accuracy_change, accuracy_groups, log_loss_change
from mlops.monitor.chart_power import chart_power
from mlops.monitor.confidence import ageing, calibration, confidence, decay, reliability
from mlops.monitor.cost import threshold_cost
from mlops.monitor.detectors import DETECTORS, KS, PSI, ChiSquare, JensenShannon, Wasserstein
from mlops.monitor.drift import feature_drift, kept_summary
from mlops.monitor.errors import confusion, error_cost, error_patterns, error_runs, error_segments
from mlops.monitor.estimate import estimate_error, estimated_accuracy
from mlops.monitor.labels import label_change, label_mixture
from mlops.monitor.overdue import pending
from mlops.monitor.panel import last_window, newest_bars
from mlops.monitor.performance import METRICS, performance
from mlops.monitor.reference import ReferenceSummary, summarise
from mlops.monitor.silence import Patience, instants, silence
from mlops.monitor.verdict import layers

__all__ = [
    "ChiSquare",
    "DETECTORS",
    "JensenShannon",
    "KS",
    "METRICS",
    "PSI",
    "Patience",
    "ReferenceSummary",
    "Wasserstein",
    "accuracy_change",
    "accuracy_groups",
    "ageing",
    "calibration",
    "chart_power",
    "confidence",
    "confusion",
    "decay",
    "error_cost",
    "error_patterns",
    "error_runs",
    "error_segments",
    "estimate_error",
    "estimated_accuracy",
    "feature_drift",
    "instants",
    "kept_summary",
    "label_change",
    "label_mixture",
    "last_window",
    "layers",
    "log_loss_change",
    "newest_bars",
    "pending",
    "performance",
    "reliability",
    "silence",
    "summarise",
    "threshold_cost",
]
