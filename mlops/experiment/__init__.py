"""Champion against challenger: who trades what, paired evidence, paper books."""

from mlops.experiment.ab import METRICS, Trial, arm_metrics, compare, pairs
from mlops.experiment.assignment import assign, srm_p_value
from mlops.experiment.shadow import Book, CurveMetrics, Fill, curve_metrics

__all__ = [
    "Book",
    "CurveMetrics",
    "Fill",
    "METRICS",
    "Trial",
    "arm_metrics",
    "assign",
    "compare",
    "curve_metrics",
    "pairs",
    "srm_p_value",
]
