"""The strategies. One file here and one line in the table adds one."""

from collections.abc import Mapping

from mlops.learn.strategies.direction import DIRECTION
from mlops.learn.strategies.volatility import VOLATILITY
from mlops.learn.strategy import Strategy

STRATEGIES: Mapping[str, Strategy] = {s.name: s for s in (DIRECTION, VOLATILITY)}

__all__ = ["STRATEGIES"]
