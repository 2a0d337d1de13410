"""Which model to show: the average of those that scored best on this very book so far.

Averages beat winners: past scores of good models differ by less than chance does, so the one in front has mostly been
lucky, while errors of different filters cancel. Each change of leaders uses scores from before it only.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from mlops.errors import DataError
from mlops.risk.forecasts import Forecasts, averaged
from mlops.risk.measures import Floats, Losses, finite
from mlops.risk.scores import fz_losses
from mlops.stats import dependent_t

PRIOR = ("evt_gjr_skewt", "gjr_skewt", "evt_gjr_tgarch", "evt_gjr_long", "evt_gjr_tgarch_ewma")
CANDIDATES = (
    *PRIOR,
    "evt_tgarch",
    "fhs_gjr_skewt",
    "fhs_garch",
    "fhs_ewma",
    "historical",
    "age_weighted",
    "ewma_normal",
    "normal",
)
RANGE_PRIOR = ("range_gjr_evt", "range_gjr_tgarch_evt")  # before the others, where there are ranges
RANGE_CANDIDATES = (*RANGE_PRIOR, "range_ewma", *CANDIDATES)
ALPHA = 0.1  # a model leaves the lead where it is worse than the best with this one-sided p-value
LEADERS = 5  # at most: more add cost and little else
LEAST_SCORES = 250  # forecasts before scores decide
EVERY = 50  # bars between choices of a walk


@dataclass(frozen=True, slots=True)
class Choice:
    """The `leaders` to average (`fit(choice.leaders, ...)`), best first, from `n` scored bars.

    `scores`: mean FZ score by model, lower is better. `p_values`: one-sided, of "no worse than the best". Empty before
    250 forecasts: the leaders are then a prior, and `note` says so.
    """

    leaders: tuple[str, ...]
    scores: dict[str, float]
    p_values: dict[str, float]
    n: int
    note: str


def score_series(returns: ArrayLike, forecasts: Mapping[str, Forecasts]) -> dict[str, Floats]:
    """FZ score of each bar and model, the mean over the confidences, of the bars on which every model has one.

    Where an ES is not positive (no position, a stuck price) no score exists, and the bar counts for no model.
    """
    first = next(iter(forecasts.values()))
    if any((f.first, f.var.shape) != (first.first, first.var.shape) for f in forecasts.values()):
        raise DataError("forecasts must be of the same bars, got several. Walk them together.")
    realised = finite(returns, "returns")[first.first :][: len(first.var)]
    rows = np.all([(f.es > 0).all(axis=1) for f in forecasts.values()], axis=0)
    return {name: _scores(realised[rows], f, rows) for name, f in forecasts.items()}


def choose(scores: Mapping[str, Floats], *, alpha: float = ALPHA, leaders: int = LEADERS) -> Choice:
    """The models not proven worse than the best, at most five of them.

    Null, a model at a time: its expected score is no higher than that of the model with the lowest mean so far (EWC
    t-test, one-sided; assumes score differences of short memory). It is a screen, not a proof: the best was itself
    picked by its score, so far more than `alpha` of equally good models may be left out, which costs little. Where a
    proof is wanted, `mlops.stats.model_confidence_set` gives one.

    Parameters
    ----------
    scores : mapping of str to ndarray of shape (n,)
        As `score_series` gives them, of the same bars; a prior's models come first in order.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> market = rng.normal(size=500)
    >>> found = choose({"a": market, "b": market + rng.normal(0.5, 1, 500), "c": market + rng.normal(0, 1, 500)})
    >>> sorted(found.leaders)
    ['a', 'c']
    """
    if not scores:
        raise DataError("scores must be of one model or more, got none. Walk some.")
    n = min(one.size for one in scores.values())
    if n < LEAST_SCORES:
        first = tuple(name for name in (*RANGE_PRIOR, *PRIOR) if name in scores)[:leaders] or tuple(scores)[:leaders]
        return Choice(first, {}, {}, n, f"{n} scored forecasts, {LEAST_SCORES} needed: these lead by default")
    means = {name: float(one.mean()) for name, one in scores.items()}
    order = sorted(means, key=means.__getitem__)
    best = scores[order[0]]
    p_values = {order[0]: 1.0}
    for name in order[1:]:
        p_values[name] = dependent_t(scores[name], best, alternative="greater").p_value
    kept = tuple(name for name in order if p_values[name] > alpha)[:leaders]
    out = sum(p <= alpha for p in p_values.values())
    note = f"{len(kept)} of {len(order)} models lead, proven worse than the best: {out}"
    return Choice(kept, means, p_values, n, note)


def chosen(
    returns: ArrayLike, forecasts: Mapping[str, Forecasts], *, every: int = EVERY
) -> tuple[Forecasts, tuple[tuple[int, tuple[str, ...]], ...]]:
    """What the choice would have forecast: the leaders' average, chosen anew every `every` bars from the bars before.

    Returns
    -------
    Forecasts
        Of the same bars as those given.
    tuple of (bar, leaders)
        Who led from which bar on.
    """
    r = finite(returns, "returns")
    any_one = next(iter(forecasts.values()))
    var, es, history = np.empty_like(any_one.var), np.empty_like(any_one.es), []
    for start in range(0, len(any_one.var), every):
        before = {name: _rows(f, slice(0, start)) for name, f in forecasts.items()}
        choice = choose(score_series(r, before))
        rows = slice(start, start + every)
        mean = averaged([_rows(forecasts[name], rows) for name in choice.leaders])
        var[rows], es[rows] = mean.var, mean.es
        history.append((any_one.first + start, choice.leaders))
    notes = tuple(sorted({note for f in forecasts.values() for note in f.notes}))
    return Forecasts(any_one.confidences, any_one.first, var, es, notes), tuple(history)


def _rows(forecasts: Forecasts, rows: slice) -> Forecasts:
    return Forecasts(
        forecasts.confidences, forecasts.first + rows.start, forecasts.var[rows], forecasts.es[rows], forecasts.notes
    )


def _scores(realised: Floats, forecasts: Forecasts, rows: Floats) -> Floats:
    each = [
        fz_losses(realised, Losses(forecasts.var[rows, j], forecasts.es[rows, j]), confidence)
        for j, confidence in enumerate(forecasts.confidences)
    ]
    return np.asarray(np.mean(each, axis=0))
