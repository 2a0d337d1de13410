"""The best of many tries looks good without being good: what the number of tries takes off."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import nan, sqrt

import numpy as np
import pandas as pd

from mlops.experiment.arm import Arm
from mlops.experiment.metrics import METRICS, ROOT_YEAR
from mlops.stats import (
    ALPHA,
    ConfidenceSet,
    Overfitting,
    Superiority,
    backtest_overfitting,
    deflated_sharpe,
    expected_max_sharpe,
    min_track_record,
    model_confidence_set,
    probabilistic_sharpe,
    sharpe_moments,
    superior_predictive_ability,
)

LEAST_BARS = 20
LEAST_ARMS = 4  # under it, choosing one of them is no selection worth an estimate
BLOCKS = 8  # 70 splits; 16 (Bailey et al. 2017) want longer records than a comparison has


@dataclass(frozen=True, slots=True)
class Tries:
    """The challenger's profit over the champion that is left once every try is counted.

    `tried`: challengers registered so far. `ratio`: Sharpe ratio a year of the challenger's net return less the
    champion's; `luck`: what the best of so many without edge is expected to show; `single` and `deflated`: confidence
    that the true ratio is above 0, and above `luck`; `bars_needed` for the former at 95 %. `overfitting`,
    `superiority`, `best`: None where there are too few arms or bars; `notes` say so.
    """

    tried: int
    ratio: float
    luck: float
    single: float
    deflated: float
    bars_needed: float
    overfitting: Overfitting | None
    superiority: Superiority | None
    best: ConfidenceSet | None
    notes: tuple[str, ...]


def summary_of_tries(
    champion: Arm, challengers: Sequence[Arm], *, tried: int, rng: np.random.Generator, alpha: float = ALPHA
) -> Tries:
    """Deflated Sharpe ratio of the first challenger's profit over the champion, and what is to be said of all arms.

    Parameters
    ----------
    tried : int
        Challengers of this model ever registered: each was a try, whether it was compared or not, and each counts as
        independent, which errs to the safe side. The trials within one training are not among them; they were judged
        on other bars.

    Notes
    -----
    The ratios of tries without edge spread by luck alone: by 1 / sqrt(n) a bar. That is used in place of the spread
    over the arms, of which there are too few to estimate it.
    """
    arms = [champion, *challengers]
    returns = pd.concat([arm.returns() for arm in arms], axis=1, join="inner").to_numpy(dtype=np.float64)
    losses = pd.concat([_loss(arm) for arm in arms], axis=1, join="inner").to_numpy(dtype=np.float64)
    moments = sharpe_moments(returns[:, 1] - returns[:, 0])
    enough = len(returns) >= LEAST_BARS and not np.isnan(moments.sharpe)
    spread = 1 / sqrt(len(returns)) if enough else nan
    selectable = len(arms) >= LEAST_ARMS and len(returns) >= LEAST_BARS
    several = len(challengers) >= 2 and len(losses) >= LEAST_BARS
    return Tries(
        tried=tried,
        ratio=ROOT_YEAR * moments.sharpe,
        luck=ROOT_YEAR * expected_max_sharpe(max(tried, 1), spread) if enough else nan,
        single=probabilistic_sharpe(moments) if enough else nan,
        deflated=deflated_sharpe(moments, trials=max(tried, 1), spread=spread) if enough else nan,
        bars_needed=min_track_record(moments) if enough else nan,
        overfitting=backtest_overfitting(returns, blocks=BLOCKS) if selectable else None,
        superiority=superior_predictive_ability(losses[:, 0], losses[:, 1:], rng=rng, alpha=alpha) if several else None,
        best=model_confidence_set(losses, rng=rng, alpha=alpha) if several else None,
        notes=_notes(len(returns), len(arms), enough=enough),
    )


def _notes(bars: int, arms: int, *, enough: bool) -> tuple[str, ...]:
    notes = []
    if not enough:
        notes.append(
            f"{bars} bars with a profit that varies: {LEAST_BARS} are needed to speak of a Sharpe ratio at all."
        )
    if arms < LEAST_ARMS:
        notes.append(f"{arms} arms: the probability of backtest overfitting wants {LEAST_ARMS}.")
    if arms < 3:
        notes.append("One challenger: tests of the best of several (SPA, model confidence set) do not apply.")
    return tuple(notes)


def _loss(arm: Arm) -> pd.Series:
    series = METRICS["log_loss"].per_bar(arm)
    return series if series is not None else pd.Series(dtype=np.float64)
