"""A bot's own book against its virtual twin: where the money between the two went, trade by trade.

Every trade is followed to the last bar: quantity x last price less what was paid. The difference of the two equities is
the sum of such differences over bars and units, exactly, and each is taken apart: a worse price, another quantity,
other fees. No part is estimated and none is left out.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from fractions import Fraction

import pandas as pd

from mlops.books.book import SCALE, Book, Fill, Step, worth
from mlops.books.rows import replayed
from mlops.types import Finding, Level

COLUMNS = (
    *("event_time", "unit", "kind", "multiplier", "quantity", "quantity_virtual", "price", "price_virtual"),
    "slippage_bps",
    *("by_price", "by_quantity", "by_fees", "by_slippage", "effect"),
)
PARTS = {  # of trades that both made; the others count as a whole
    "twin_slippage": ("by_price", "by_slippage"),
    "twin_quantity": ("by_quantity",),
    "twin_fees": ("by_fees",),
}
KINDS = {
    "twin_missed": ("missed", "waiting"),
    "twin_extra": ("extra",),
    "twin_carried": ("carried",),
    "twin_rest": ("funding", "rounding"),
}


@dataclass(frozen=True, slots=True)
class History:
    """A book at the start of a window, and all that happened to it until the end of the window."""

    opening: Book
    steps: Sequence[Step]

    @property
    def closing(self) -> Book:
        return replayed(self.opening, self.steps)


@dataclass
class Cell:
    """What both books traded of one unit by the decision of one bar."""

    real: list[Fill] = field(default_factory=list)
    virtual: list[Fill] = field(default_factory=list)


def twin_differences(real: History, virtual: History) -> pd.DataFrame:
    """Why the two equities grew apart over a window.

    A real fill belongs to the last bar that was not after it: its twin traded at that bar's price.

    Returns
    -------
    DataFrame with COLUMNS, a row a bar and unit
        `kind`: `filled` (both traded), `missed` (only the twin did), `waiting` (so at the last bar: it may still come),
        `extra` (only the real book did), `carried` (what differed before the window, and fills of earlier decisions),
        `funding`, `rounding` (half of 1e-8 a row at most, and units whose last prices the two books know differently).
        `by_...` are what price, quantity, fees and modelled slippage did to the real equity, in money; `effect` is
        their sum, and the sum of all effects is the growth of the real equity less that of the virtual one.
        `slippage_bps` > 0: the real price was worse.
    """
    real, virtual = _of_new_units(real), _of_new_units(virtual)
    bars = sorted({step.at for history in (real, virtual) for step in history.steps})
    marks, last = _marks(real, virtual)
    rows = list(_carried(real.opening, virtual.opening, last, bars))
    for (bar, unit), cell in sorted(_cells(real, virtual, bars).items()):
        at = bars[max(bar, 0)]
        kind = _kind(cell, bar, len(bars) - 1)
        rows.append(_row(at, unit, kind, cell, marks.get((at, unit)), last))
    rows += _rest(real, virtual, rows, bars)
    frame = pd.DataFrame(rows, columns=list(COLUMNS))
    money = [name for name in COLUMNS if name.startswith(("by_", "quantity")) or name == "effect"]
    frame[money] = frame[money].map(lambda amount: amount / SCALE).astype("float64")
    return frame


def twin_findings(differences: pd.DataFrame, *, equity: float, limit_bps: float, bars: int) -> tuple[Finding, ...]:
    """How far a book departed from its twin, and by what: parts that add up to it, all in basis points of `equity`.

    Parameters
    ----------
    equity : float
        Of the twin at the start of the window, > 0.
    limit_bps : float
        A part, or the whole, that is larger either way is an alert. It is a limit and no test: the two books see the
        same prices, so what differs is execution and not chance.
    bars : int
        Of the window.
    """
    both = differences[differences["kind"] == "filled"]
    groups = {name: (both[list(columns)].sum(axis=1), both) for name, columns in PARTS.items()}
    for name, kinds in KINDS.items():
        rows = differences[differences["kind"].isin(kinds)]
        groups[name] = (rows["effect"], rows)
    whole = _finding("twin_departure", differences["effect"], differences, equity, limit_bps, bars)
    parts = (_finding(name, effect, part, equity, limit_bps, len(part)) for name, (effect, part) in groups.items())
    return (whole, *parts)


def _of_new_units(history: History) -> History:
    """The same in units of after all its splits: what was traded before one is worth the same in those."""
    ratio, steps = dict[str, Fraction](), list[Step]()
    for step in reversed(history.steps):
        marks = {unit: price / float(ratio.get(unit, 1)) for unit, price in step.marks.items()}
        fills = list[Fill]()
        for fill in reversed(step.fills):
            by = ratio.get(fill.unit, Fraction(1))
            if fill.split is not None:
                ratio[fill.unit] = by * fill.split
            else:
                fills.append(replace(fill, quantity=round(fill.quantity * by), price=fill.price / float(by)))
        steps.append(replace(step, marks=marks, fills=tuple(reversed(fills))))
    if not ratio:
        return history
    held = {
        unit: replace(p, quantity=round(p.quantity * ratio.get(unit, 1)), mark=p.mark / float(ratio.get(unit, 1)))
        for unit, p in history.opening.positions.items()
    }
    return History(replace(history.opening, positions=held), steps[::-1])


def _finding(name: str, effect: pd.Series, rows: pd.DataFrame, equity: float, limit: float, n: int) -> Finding:
    value = float(effect.sum()) / equity * 1e4
    params: dict[str, float] = {}
    note = f"{value:+.1f} bp of equity"
    if name == "twin_slippage" and len(rows):
        weight = rows["quantity"].abs() * rows["price_virtual"] * rows["multiplier"]
        params["mean_bps"] = float((rows["slippage_bps"] * weight).sum() / weight.sum())
        note += f"; fills were {params['mean_bps']:+.2f} bp worse than the bar's price on average"
    if n and len(rows) and effect.abs().max() > 0:
        by_unit = effect.groupby(rows["unit"]).sum()
        place = int(by_unit.abs().to_numpy().argmax())
        unit, most = by_unit.index[place], float(by_unit.iloc[place]) / equity * 1e4
        note += f"; most of it in {unit or 'no one unit'} ({most:+.1f} bp)"
    level = Level.UNKNOWN if name == "twin_departure" and n == 0 else Level.ALERT if abs(value) > limit else Level.OK
    return Finding(name, value, limit, level, n, params, note=note)


def _cells(real: History, virtual: History, bars: Sequence[datetime]) -> dict[tuple[int, str], Cell]:
    """Fills of both books by number of the bar (-1: before the window) and unit."""
    cells: dict[tuple[int, str], Cell] = {}
    for side, history in (("real", real), ("virtual", virtual)):
        for step in history.steps:
            for fill in step.fills:
                bar = bisect_right(bars, fill.at or step.at) - 1
                getattr(cells.setdefault((bar, fill.unit), Cell()), side).append(fill)
    return cells


def _marks(real: History, virtual: History) -> tuple[dict[tuple[datetime, str], float], dict[str, float]]:
    """Prices by bar and unit, and the last one of each unit."""
    every, last = dict[tuple[datetime, str], float](), dict[str, float]()
    for opening in (virtual.opening, real.opening):
        last |= {unit: position.mark for unit, position in opening.positions.items()}
    for step in sorted((*real.steps, *virtual.steps), key=lambda one: one.at):
        prices = {fill.unit: fill.price for fill in step.fills} | dict(step.marks)
        every |= {(step.at, unit): price for unit, price in prices.items()}
        last |= prices
    return every, last


def _kind(cell: Cell, bar: int, newest: int) -> str:
    if bar < 0:
        return "carried"
    if cell.real and cell.virtual:
        return "filled"
    return "extra" if cell.real else "waiting" if bar == newest else "missed"


def _row(
    at: datetime, unit: str, kind: str, cell: Cell, mark: float | None, last: Mapping[str, float]
) -> tuple[object, ...]:
    (quantity, paid, fees, slip), (wanted, asked, their_fees, their_slip) = _sums(cell.real), _sums(cell.virtual)
    multiplier = (cell.real or cell.virtual)[-1].multiplier
    final, own = last[unit], paid / quantity / multiplier if quantity else float("nan")
    price = cell.virtual[0].price if cell.virtual else mark if mark is not None else cell.real[0].price
    by_price = _valued(cell.real, price) - paid
    by_quantity = _valued(cell.real, final) - _valued(cell.real, price) - _valued(cell.virtual, final) + asked
    parts = (by_price, by_quantity, their_fees - fees, their_slip - slip)
    worse = (own - price) / abs(price) * 1e4 * (1 if quantity > 0 else -1) if price else float("nan")
    return (at, unit, kind, multiplier, quantity, wanted, own, price, worse, *parts, sum(parts))


def _sums(fills: Sequence[Fill]) -> tuple[int, int, int, int]:
    """Quantity, what was paid for it, fees, slippage."""
    quantity, value = sum(fill.quantity for fill in fills), sum(fill.value for fill in fills)
    return quantity, value, sum(fill.fee for fill in fills), sum(fill.slippage for fill in fills)


def _valued(fills: Sequence[Fill], price: float) -> int:
    """What these fills are worth at one price."""
    by_multiplier: dict[float, int] = {}
    for fill in fills:
        by_multiplier[fill.multiplier] = by_multiplier.get(fill.multiplier, 0) + fill.quantity
    return sum(worth(quantity, price, multiplier) for multiplier, quantity in by_multiplier.items())


def _carried(
    real: Book, virtual: Book, last: Mapping[str, float], bars: Sequence[datetime]
) -> Iterator[tuple[object, ...]]:
    """What positions that differed at the start made of it since."""
    for unit in sorted({*real.positions, *virtual.positions}):
        ours, theirs = real.positions.get(unit), virtual.positions.get(unit)
        both = [p for p in (ours, theirs) if p is not None]
        gains = [worth(p.quantity, last[unit], p.multiplier) - p.value if p else 0 for p in (ours, theirs)]
        quantities = [p.quantity if p is not None else 0 for p in (ours, theirs)]
        if bars and gains[0] != gains[1]:
            effect, nothing = gains[0] - gains[1], float("nan")
            about = (bars[0], unit, "carried", both[0].multiplier)
            yield (*about, *quantities, nothing, nothing, nothing, 0, effect, 0, 0, effect)


def _rest(
    real: History, virtual: History, rows: Sequence[tuple[object, ...]], bars: Sequence[datetime]
) -> Iterator[tuple[object, ...]]:
    """What belongs to no one trade."""
    ends = real.closing, virtual.closing
    grown = [end.equity - history.opening.equity for end, history in zip(ends, (real, virtual), strict=True)]
    paid = [end.funding - history.opening.funding for end, history in zip(ends, (real, virtual), strict=True)]
    funding, known = paid[1] - paid[0], sum(int(str(row[-1])) for row in rows)
    nothing = float("nan")
    for kind, effect in (("funding", funding), ("rounding", grown[0] - grown[1] - known - funding)):
        if bars and effect:
            yield (bars[-1], "", kind, 1.0, 0, 0, nothing, nothing, nothing, 0, 0, 0, 0, effect)
