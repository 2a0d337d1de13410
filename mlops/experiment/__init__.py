"""Champion against challenger: who trades what, paired evidence, paper books."""

from mlops.experiment.ab import METRICS, Trial, arm_metrics, compare, pairs
from mlops.experiment.arm import Arm, arms_of
from mlops.experiment.assignment import assign, srm_p_value
from mlops.experiment.metrics import Metric, MetricTable, measure, needs
from mlops.experiment.shadow import Book, CurveMetrics, Fill, curve_metrics

__all__ = [
    "Arm",
    "Book",
    "CurveMetrics",
    "Fill",
    "METRICS",
    "Metric",
    "MetricTable",
    "Trial",
    "arm_metrics",
    "arms_of",
    "assign",
    "compare",
    "curve_metrics",
    "measure",
    "needs",
    "pairs",
    "srm_p_value",
]
