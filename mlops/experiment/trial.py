"""The plan of a comparison, fixed before its first bar."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from mlops.errors import DataError
from mlops.stats.anytime import FIRST


@dataclass(frozen=True, slots=True)
class Trial:
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
        Chance that a fair dealing is ever called a mismatch, over all looks (Fabijan et al. 2019 use 0.001 or less: a
        mismatch means a broken experiment, so be sure).
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

    def __post_init__(self) -> None:
        if self.arms < 1:
            raise DataError(f"arms of a trial must be at least 1, got {self.arms}. Count the challengers compared.")

    @property
    def first(self) -> int:
        """Bars before the first look of evidence that is looked at after every bar."""
        return max(FIRST, self.min_bars)

    @property
    def alpha(self) -> float:
        """One challenger's share of the error."""
        return (1 - self.confidence) / self.arms
