"""How a model is made: strategies, features, labels, splits, the leak audit, learners, tuning."""

from mlops.learn.strategies import STRATEGIES, strategy_of
from mlops.learn.strategy import Strategy

__all__ = ["STRATEGIES", "Strategy", "strategy_of"]
