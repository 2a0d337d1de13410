"""Watch, compare and replace the models of a trading bot, on top of MLflow."""

from mlops import moved
from mlops.types import Alert, Decision, Finding, Level, ModelRef, Priority, Report, Role, Verdict, Window

__all__ = ["Alert", "Decision", "Finding", "Level", "ModelRef", "Priority", "Report", "Role", "Verdict", "Window"]

moved.install()
