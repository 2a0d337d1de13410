"""The strategies. One file here and one line in the table adds one."""

from collections.abc import Mapping

from mlops.errors import DataError
from mlops.learn.strategies.direction import DIRECTION
from mlops.learn.strategies.volatility import VOLATILITY
from mlops.learn.strategy import Strategy

STRATEGIES: Mapping[str, Strategy] = {s.name: s for s in (DIRECTION, VOLATILITY)}

__all__ = ["STRATEGIES", "strategy_of"]


def strategy_of(name: str) -> Strategy:
    """The strategy behind the model of that name.

    Raises
    ------
    DataError
        The table has none: its features and labels cannot be computed here.
    """
    if name not in STRATEGIES:
        raise DataError(f"model must be a strategy ({', '.join(STRATEGIES)}), got {name!r}. Check the name.")
    return STRATEGIES[name]
