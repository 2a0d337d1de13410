"""Champion against challenger: who trades what, paired evidence, paper books."""

from mlops.assignment import assign
from mlops.books.book import Book, Fill, Position, Step, Terms
from mlops.experiment.ab import compare, pairs
from mlops.experiment.arm import Arm, arms_of
from mlops.experiment.gates import ArmUnits
from mlops.experiment.metrics import METRICS, Metric, MetricTable, measure, needs
from mlops.experiment.plan import Plan

Trial = Plan  # the name of earlier releases

__all__ = [
    "Arm",
    "ArmUnits",
    "Book",
    "Fill",
    "METRICS",
    "Metric",
    "MetricTable",
    "Plan",
    "Position",
    "Step",
    "Terms",
    "Trial",
    "arms_of",
    "assign",
    "compare",
    "measure",
    "needs",
    "pairs",
]
