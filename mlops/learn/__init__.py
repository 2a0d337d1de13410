"""How a model is made: strategies, features, labels, splits, the leak audit, tuning."""

from mlops.learn.strategies import STRATEGIES
from mlops.learn.strategy import Strategy

__all__ = ["STRATEGIES", "Strategy"]
