"""Champion against challenger: who trades what, paired evidence, paper books."""

from mlops.assignment import deal
from mlops.books.book import Book, Fill, Position, Step, Terms
from mlops.experiment.ab import compare, pairs
from mlops.experiment.arm import Arm, arms_of
from mlops.experiment.gates import Dealing
from mlops.experiment.metrics import METRICS, Metric, MetricTable, measure, needs
from mlops.experiment.plan import Trial

__all__ = [
    "Arm",
    "Book",
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
    "compare",
    "deal",
    "measure",
    "needs",
    "pairs",
]
