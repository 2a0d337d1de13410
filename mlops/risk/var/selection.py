"""The VaR model that is shown, and how it would have fared: the job and `benchmarks.var` call what stands here.

It is one average for all books. A choice by past scores, book by book, was measured beside it and added nothing:
scores of good models differ by less than chance does, so who is in front has mostly been lucky, while errors of
different filters cancel in an average (docs/var.md has the figures).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from mlops.compute import SERIAL, Compute
from mlops.risk.measures import CONFIDENCES, Floats, Losses, finite
from mlops.risk.var.forecasts import REFIT, Forecasts, averaged, walk, walk_over
from mlops.risk.var.models import HISTORY, MODELS, needs
from mlops.risk.var.scores import fz_losses

DEFAULT = ("gjr_skewt", "evt_gjr_tgarch_ewma")
SHORT = ("fhs_ewma", "ewma_normal", "normal")  # the first that the bars suffice for, where those of DEFAULT do not
COMPARED = ("fhs_garch", "ewma_normal", "historical")
SHOWN = "default"  # its name among the others' scores
JUDGED = 750  # bars: three years of days, 7.5 exceedances at 99 %
SEED = 20260302  # of paths over several bars: the same book gives the same numbers
LEAST = MODELS[SHORT[-1]].least


@dataclass(frozen=True, slots=True)
class TrackRecord:
    """What the `names`' average would have said of bar after bar, each from the bars before it only, and what others
    would have said of the same bars (none for a horizon of more than one bar)."""

    names: tuple[str, ...]
    forecasts: Forecasts
    others: Mapping[str, Forecasts]

    def scores(self, returns: ArrayLike) -> dict[str, float]:
        """Mean FZ score by model, over the confidences and the bars at which every model has one; lower is better."""
        rows = {SHOWN: self.forecasts, **self.others}
        there = np.all([(forecasts.es > 0).all(axis=1) for forecasts in rows.values()], axis=0)
        realised = self.forecasts.realised(returns)[there]
        return {name: _score(realised, forecasts, there) for name, forecasts in rows.items()} if there.any() else {}


def names_for(bars: int) -> tuple[str, ...]:
    """The models whose average is shown of so many bars.

    >>> names_for(2000), names_for(200)
    (('gjr_skewt', 'evt_gjr_tgarch_ewma'), ('fhs_ewma',))
    """
    if bars >= needs(DEFAULT)[0]:
        return DEFAULT
    return next(((name,) for name in SHORT if bars >= MODELS[name].least), SHORT[-1:])


def track_record(
    returns: ArrayLike,
    bars: int = JUDGED,
    confidences: Sequence[float] = CONFIDENCES,
    *,
    horizon: int = 1,
    compared: Sequence[str] = COMPARED,
    refit: int = REFIT,
    compute: Compute = SERIAL,
) -> TrackRecord | None:
    """How the default would have fared over the last `bars` bars, or over the second half of a short past.

    Forecasts of `horizon` bars are of windows that do not overlap: what overlaps is no independent evidence. A window
    that is not over counts for nothing. None where too few bars are before the first one.

    Parameters
    ----------
    returns : array_like of shape (T,)
        What the holdings of now would have returned, oldest first.
    """
    r = finite(returns, "returns")
    whole = min(bars, max(r.size // 2, r.size - HISTORY)) // horizon * horizon
    first = r.size - whole
    if not whole or first < LEAST:
        return None
    names = names_for(first)
    if horizon > 1:
        rng = np.random.default_rng(SEED)
        return TrackRecord(names, walk_over(names, r, first, horizon, confidences, rng=rng, refit=refit), {})
    fits = [name for name in compared if MODELS[name].least <= first]
    every = [*names, *(name for name in fits if name not in names)]
    walked = walk(every, r, first, confidences, refit=refit, compute=compute)
    return TrackRecord(names, averaged([walked[name] for name in names]), {name: walked[name] for name in fits})


def _score(realised: Floats, forecasts: Forecasts, rows: Floats) -> float:
    each = [
        fz_losses(realised, Losses(forecasts.var[rows, j], forecasts.es[rows, j]), confidence).mean()
        for j, confidence in enumerate(forecasts.confidences)
    ]
    return float(np.mean(each))
