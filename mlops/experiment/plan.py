"""The plan of a comparison, fixed before its first bar."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any, Literal, Self

import numpy as np
from numpy.typing import NDArray

from mlops.errors import DataError
from mlops.stats.anytime import FIRST
from mlops.stats.sequential import look_times

EVIDENCE = ("planned", "anytime")
COUNTS = ("min_samples", "horizon_bars", "look_every", "min_bars", "arms")
AMOUNTS = ("min_events", "margin", "power", "drawdown_volatility")
COUNTED = {"arms", "joined"}  # at each look; all else is stored
LATER = {"chart_alarms"}  # plans that were stored earlier do not have it
SHARES = ("confidence", "drawdown_margin", "drawdown_confidence", "least_paired", "srm_alpha")


@dataclass(frozen=True, slots=True)
class Plan:
    """What a challenger must show, and at which chance of being wrong.

    Parameters
    ----------
    confidence : float
        1 - the chance that any challenger is ever called better that is not, over all looks and `arms` together.
    min_samples : int
        Paired predictions before any verdict.
    horizon_bars, look_every, min_bars : int
        Bars after which it ends, between two looks, before the first look.
    min_events : float
        Effective events of the rarer label before anything is proven (`mlops.experiment.events`).
    margin : float
        Nats a bar by which the challenger must be better to be worth a change.
    power : float
        Of the spending function: 3 keeps the evidence for late looks (promotion), 1 spreads it evenly (watches).
    arms : int
        Challengers compared with the same champion at the same time; each is tested at its share of the error, which
        is Holm's first step, and the only one that is ever taken: the first that is promoted ends all of them.
    chart_alarms : float, optional
        False alarms of a watch's accuracy chart within its bars, on average; None where there is no chart.
    joined : tuple of int
        Bars of this comparison before each of the `arms` that joined later; the others were there from its first bar.
        A look counts those that had joined by its last bar, so that one that proved something proves it for ever.
    evidence : {"planned", "anytime"}
        What proves: a test at planned looks, which needs fewer bars (`mlops.stats.sequential_test`), or an e-value that
        is looked at after every bar (`mlops.stats.confidence_sequence`).
    drawdown_margin, drawdown_volatility : float
        By how much the challenger's book may fall deeper than the champion's: non-inferiority. A share of equity, or as
        deep as a book of so much more volatility than the champion's usually falls, whichever is more.
    drawdown_confidence : float
        Of the upper bound that must lie under `drawdown_margin`.
    least_paired : float
        Share of rows with a partner; under it one arm lost rows, and the comparison may be biased by which.
    srm_alpha : float
        Chance that a fair assignment is ever called a mismatch, over all looks (Fabijan et al. 2019 use 0.001 or less:
        a mismatch means a broken comparison, so be sure).
    """

    confidence: float = 0.95
    min_samples: int = 1000
    horizon_bars: int = 252
    look_every: int = 5
    min_bars: int = 40
    min_events: float = 5.0
    margin: float = 0.0
    power: float = 3.0
    arms: int = 1
    evidence: Literal["planned", "anytime"] = "planned"
    drawdown_margin: float = 0.05
    drawdown_volatility: float = 0.6
    drawdown_confidence: float = 0.95
    least_paired: float = 0.95
    srm_alpha: float = 0.001
    chart_alarms: float | None = None
    joined: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        for rule, holds in self._rules().items():
            if not holds:
                name = rule.split()[0]
                raise DataError(f"plan's {rule}, got {getattr(self, name)!r}. Mend what made this plan.")

    def _rules(self) -> dict[str, bool]:
        """What must be true of a plan that can be followed, each rule beginning with the field's name."""
        counts = {f"{name} must be a whole number, at least 1": _whole(getattr(self, name)) for name in COUNTS}
        numbers = {name: getattr(self, name) for name in (*SHARES, *AMOUNTS)}
        known = {f"{name} must be a finite number": _number(x) for name, x in numbers.items()}
        if not all((counts | known).values()):
            return counts | known
        return {
            **{f"{name} must be above 0 and at most 1": 0 < numbers[name] <= 1 for name in SHARES},
            "confidence must be above 0.5 and below 1": 0.5 < self.confidence < 1,
            "drawdown_confidence must be above 0.5 and below 1": 0.5 < self.drawdown_confidence < 1,
            "min_events must be at least 0": self.min_events >= 0,
            "margin must be at least 0": self.margin >= 0,
            "drawdown_volatility must be at least 0": self.drawdown_volatility >= 0,
            "power must be above 0": self.power > 0,
            "chart_alarms must be above 0, or nothing": self.chart_alarms is None
            or (_number(self.chart_alarms) and self.chart_alarms > 0),
            f"joined must name fewer than arms ({self.arms})": len(self.joined) < self.arms,
            f"look_every must be at most horizon_bars ({self.horizon_bars})": self.look_every <= self.horizon_bars,
            f"min_bars must be at most horizon_bars ({self.horizon_bars})": self.min_bars <= self.horizon_bars,
            f"evidence must be one of {EVIDENCE}": self.evidence in EVIDENCE,
        }

    def stored(self) -> str:
        """JSON of the plan without `arms` and when they joined, which are counted at each look."""
        return json.dumps({name: value for name, value in asdict(self).items() if name not in COUNTED})

    @classmethod
    def read(cls, stored: str, *, arms: int) -> Self:
        """The plan that was stored, for so many arms.

        Raises
        ------
        DataError
            No release has written such a plan, or nobody can follow it.
        """
        try:
            values: Any = json.loads(stored)
        except ValueError as error:
            raise DataError(f"plan must be JSON, got {stored!r}: {error}. Mend what made this plan.") from error
        known = {field.name for field in fields(cls)} - COUNTED
        if not isinstance(values, dict) or set(values) | LATER != known:
            raise DataError(f"plan must have the fields {sorted(known)}, got {stored!r}. Mend what made this plan.")
        return cls(**values, arms=arms)

    @property
    def looks(self) -> tuple[int, ...]:
        """Bars at which the evidence is looked at."""
        if self.evidence == "anytime":
            return tuple(range(self.first, self.horizon_bars + 1))
        return look_times(horizon=self.horizon_bars, look_every=self.look_every, min_n=self.min_bars)

    @property
    def first(self) -> int:
        """Bars before the first look of evidence that is looked at after every bar."""
        return max(FIRST, self.min_bars)

    @property
    def alpha(self) -> float:
        """One challenger's share of the error, all `arms` being there."""
        return (1 - self.confidence) / self.arms

    def alphas(self, looks: Sequence[int]) -> NDArray[np.float64]:
        """Its share at each look: bars -> error, of shape (looks,), falling with each that joined."""
        later = np.asarray(self.joined, dtype=np.int64)[None, :] >= np.asarray(looks, dtype=np.int64)[:, None]
        return np.asarray((1 - self.confidence) / (self.arms - later.sum(axis=1)), dtype=np.float64)


def _whole(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 1


def _number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
