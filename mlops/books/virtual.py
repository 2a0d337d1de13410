"""Books along the bars: an arm's virtual one follows its predictions, a bot's own takes what was filled."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from operator import attrgetter

import numpy as np
from numpy.typing import NDArray

from mlops.books.book import Book, Fill, Step, Terms

_TIME = attrgetter("at")
Position = Callable[[NDArray[np.float64]], NDArray[np.float64]]


@dataclass(frozen=True, slots=True)
class Bar:
    """Prices of one instant (those that traded), and when all of them were known."""

    at: datetime
    known_at: datetime
    prices: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class BarScores:
    """What a version said at one bar: probabilities of shape (n,) for n units, and when that was known."""

    units: Sequence[str]
    probability: NDArray[np.float64]
    known_at: datetime


@dataclass(frozen=True, slots=True)
class GrowthStep:
    """A book after one more bar; `known_at` is when all that made it was known."""

    step: Step
    book: Book
    known_at: datetime


def follow(
    book: Book,
    bars: Sequence[Bar],
    forecasts: Mapping[datetime, BarScores],
    position: Position,
    terms: Terms,
    multipliers: Mapping[str, float] | None = None,
    splits: Sequence[Fill] = (),
) -> Iterator[GrowthStep]:
    """A virtual book: at each bar's price it goes to `position(probability) / n` of its equity in each of n units.

    A unit that the version did not score, or that has no price, is left as it is; at a bar at which the version said
    nothing the book is only marked. `splits`: those after the bar at which the book stands, in order.
    """
    until = 0
    for bar in bars:
        forecast, weights, known = forecasts.get(bar.at), dict[str, float](), bar.known_at
        if forecast is not None:
            shares = (position(forecast.probability) / len(forecast.units)).tolist()
            weights = {u: w for u, w in zip(forecast.units, shares, strict=True) if u in bar.prices}
            known = max(known, forecast.known_at)
        start, until = until, _first_after(splits, bar.at, until)
        due = with_splits(book, [], splits[start:until])
        split = book.after(Step(bar.at, fills=due)) if due else book
        step = split.rebalanced(bar.at, bar.prices, weights, terms, multipliers)
        step = replace(step, fills=(*due, *step.fills))
        book = book.after(step)
        yield GrowthStep(step, book, known)


def take(book: Book, bars: Sequence[Bar], fills: Sequence[Fill], splits: Sequence[Fill] = ()) -> Iterator[GrowthStep]:
    """A bot's own book: at each bar it takes the fills that happened until then, also those that came late.

    Parameters
    ----------
    fills : sequence
        Each with its `at`; those after the last bar wait for the next one.
    splits : sequence
        Those after the bar at which the book stands, in order.
    """
    waiting, taken, split = sorted(fills, key=_TIME), 0, 0
    for bar in bars:
        until, ends = _first_after(waiting, bar.at, taken), _first_after(splits, bar.at, split)
        step = book.taking(bar.at, bar.prices, with_splits(book, waiting[taken:until], splits[split:ends]))
        book, taken, split = book.after(step), until, ends
        yield GrowthStep(step, book, bar.known_at)


@dataclass
class Traded:
    """Which version a bot traded each unit by, told by its fills.

    A fill tells it for the bar that it belongs to, and for later ones while that version still may trade; where no fill
    tells, it is the champion.
    """

    last: dict[str, int] = field(default_factory=dict)

    def asked(
        self, row: Mapping[int, BarScores], filled: Mapping[str, int], may_trade: set[int], champion: int
    ) -> BarScores:
        """What was asked of the bot at one bar, in the champion's units.

        Parameters
        ----------
        row : mapping
            What each version said; the champion's is there.
        filled : mapping
            Units that have fills of this bar, and the version that they were traded by.
        """
        self.last.update(filled)
        by_version = {v: dict(zip(scores.units, scores.probability.tolist(), strict=True)) for v, scores in row.items()}
        units = row[champion].units
        versions = [filled.get(u) or (v if (v := self.last.get(u)) in may_trade else champion) for u in units]
        own = by_version[champion]
        probability = [
            by_version.get(v or champion, own).get(unit, own[unit]) for unit, v in zip(units, versions, strict=True)
        ]
        return BarScores(units, np.array(probability), max(scores.known_at for scores in row.values()))


def with_splits(book: Book, fills: Sequence[Fill], splits: Sequence[Fill]) -> list[Fill]:
    """Fills and the splits of what is held, in the order of time; a split comes before fills of its instant."""
    traded = {(fill.unit, fill.at) for fill in fills}
    due = [
        split
        for split in splits
        if split.unit in book.positions or any(unit == split.unit and _TIME(split) > at for unit, at in traded if at)
    ]
    return sorted([*due, *fills], key=_TIME) if due else list(fills)


def _first_after(fills: Sequence[Fill], at: datetime, start: int) -> int:
    while start < len(fills) and _TIME(fills[start]) <= at:
        start += 1
    return start
