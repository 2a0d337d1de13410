"""Champion against challenger: who trades what, paired evidence, paper books."""

from mlops.experiment.ab import compare, pairs
from mlops.experiment.arm import Arm, arms_of
from mlops.experiment.assignment import assign, srm_p_value
from mlops.experiment.book import Book, Fill, Position, Step, Terms
from mlops.experiment.gates import Dealing
from mlops.experiment.metrics import METRICS, Metric, MetricTable, measure, needs
from mlops.experiment.shadow import CurveMetrics, curve_metrics
from mlops.experiment.trial import Trial

__all__ = [
    "Arm",
    "Book",
    "CurveMetrics",
    "Dealing",
    "Fill",
    "METRICS",
    "Metric",
    "MetricTable",
    "Position",
    "Step",
    "Terms",
    "Trial",
    "arms_of",
    "assign",
    "compare",
    "curve_metrics",
    "measure",
    "needs",
    "pairs",
    "srm_p_value",
]
