"""What is held as weights over the table of returns that the nightly job left; what has no place there is named."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Self

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from jobs.positions import Held
from mlops.io.ledger import RiskState as Stored
from mlops.risk.fitted import Fitted
from mlops.risk.measures import Floats, Loss
from mlops.types import Kind

OPTIONS = (Kind.CALL.value, Kind.PUT.value)


@dataclass(frozen=True, slots=True)
class Night:
    """What the nightly risk job left: returns (T, N) of `units`, the model, and its VaR of the bars before."""

    as_of: datetime
    units: Mapping[str, int]
    returns: NDArray[np.float32]
    fitted: Fitted
    growth: Loss
    body: Mapping[str, Any]
    times: Sequence[str]
    var: Floats
    loss: Floats

    @classmethod
    def of(cls, state: Stored) -> Self:
        body, arrays = state.body, state.arrays
        times = [at.isoformat() for at in pd.to_datetime(arrays["times"], unit="us", utc=True)]
        units = {unit: i for i, unit in enumerate(body["units"])}
        fitted, growth = Fitted.from_dict(body["fitted"]), Loss(**body["growth"])
        return cls(state.as_of, units, arrays["returns"], fitted, growth, body, times, arrays["var"], arrays["loss"])


@dataclass(frozen=True, slots=True)
class Weighed:
    """Positions of one scope. `value` (P,) in the books' currency, NaN where it is not known; `equity` is the scope's.

    `column` (P,) is each position's place in the night's table, -1 where it has none. `missing`: what -> why.
    """

    frame: pd.DataFrame
    value: Floats
    equity: float
    column: NDArray[np.intp]
    width: int
    missing: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, held: Held, night: Night | None) -> Self:
        """All positions of all books."""
        frame, missing = held.frame, dict[str, str]()
        value = np.asarray(held.value, dtype=np.float64)
        units = night.units if night is not None else {}
        column = np.array([units.get(unit, -1) for unit in frame["unit"]], dtype=np.intp)
        if night is None:
            missing["var"] = "No VaR yet: the nightly risk job has not run on these books. `mlflow run . -e risk`."
        else:
            missing |= {
                f"history:{unit}": why for unit, why in night.body["lacking"].items() if unit in set(frame.unit)
            }
            for unit in sorted(
                {u for u, c in zip(frame["unit"], column, strict=True) if c < 0} - {*night.body["lacking"]}
            ):
                missing[f"history:{unit}"] = f"{unit} has no past returns of {night.as_of:%Y-%m-%d}: VaR is without it."
        return cls(frame, value, held.equity, column, len(units), missing)

    @property
    def linear(self) -> NDArray[np.bool_]:
        """The positions that are in the VaR by their weights."""
        option = self.frame["kind"].isin(OPTIONS).to_numpy()
        return np.asarray((self.column >= 0) & np.isfinite(self.value) & ~option)

    @property
    def shares(self) -> Floats:
        """Of each position, value over equity; NaN where either is not known or equity is not positive."""
        return self.value / self.equity if self.equity > 0 else np.full(len(self.value), math.nan)

    @property
    def weights(self) -> Floats:
        """Of each unit of the table, of what is held outright."""
        rows = self.linear
        return np.bincount(self.column[rows], self.shares[rows], minlength=self.width).astype(np.float64)

    def spread(self, parts: Floats) -> Floats:
        """What each unit has in a loss, onto its positions by their weight; NaN for what is not in it."""
        whole, rows = self.weights, self.linear
        found = np.full(len(self.value), math.nan)
        with np.errstate(divide="ignore", invalid="ignore"):
            each = np.where(whole != 0, parts / whole, 0.0)
        found[rows] = each[self.column[rows]] * self.shares[rows]
        return found

    def strategies(self, equities: Mapping[str, float]) -> dict[str, Weighed]:
        """The same, each strategy for itself, over its own equity."""
        found = {}
        for name, equity in equities.items():
            mine = (self.frame["strategy"] == name).to_numpy()
            found[name] = Weighed(self.frame[mine], self.value[mine], equity, self.column[mine], self.width)
        return found
