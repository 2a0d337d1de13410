"""How much of the market the books hold: gross, net, long, short, and by what. Sums are of what has a price.

Two layers. `Groups` sorts positions into their groups once; `exposed` adds values up by them in microseconds, every
second. `exposure` does both from a frame, converts currencies, and lists what it had to leave out.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from mlops.risk.limits import ALL, Measured
from mlops.stats.dependent import Floats
from mlops.types import Kind

DIMENSIONS = ("strategy", "sector", "currency", "symbol")  # symbol: the unit; of an option, its underlying
OPTIONS = (Kind.CALL.value, Kind.PUT.value)
TOP, TOLD = 5, 3  # symbols whose joint share is told; positions named where some have no value
OF_KNOWN = "of what is known"
NOT_STATED = "(not stated)"  # name of the group of what names none


@dataclass(frozen=True, slots=True)
class Groups:
    """For each of `DIMENSIONS`: the names of its groups, and the group of each of n positions."""

    names: Mapping[str, Sequence[str]]
    codes: Mapping[str, NDArray[np.intp]]

    @classmethod
    def of(cls, positions: pd.DataFrame) -> Groups:
        """Groups of the rows of a frame with `POSITION_COLUMNS`; made anew when the set of positions changes."""
        names, codes = {}, {}
        for dimension in DIMENSIONS:
            code, labels = pd.factorize(_labels(positions, dimension), sort=True)
            names[dimension], codes[dimension] = tuple(labels), code
        return cls(names, codes)


@dataclass(frozen=True, slots=True)
class Missing:
    """A position that is in no sum: why, and how old (seconds) the last good price is; None where there was none."""

    strategy: str
    book: str
    unit: str
    quantity: float
    why: str
    age_s: float | None


@dataclass(frozen=True, slots=True)
class Side:
    """Sums of long and of short values (the latter positive), in money, for one or many groups."""

    long: Floats
    short: Floats

    @property
    def gross(self) -> Floats:
        return self.long + self.short

    @property
    def net(self) -> Floats:
        return self.long - self.short


@dataclass(frozen=True, slots=True)
class Exposure:
    """Money in the base currency; ratios are NaN, with the reason in `why`, where equity is not positive and finite.

    `gross`, `net`, `leverage` are what limits are drawn on: over equity. `leverage` nets positions within a symbol
    before it adds up (the commitment method of Regulation (EU) 231/2013, article 8), `gross` nets nothing (article 7).
    `largest` is the largest symbol's net value over equity. Concentration is among symbols, by absolute net value:
    `hhi` (1: one symbol; 1/k: k equal ones), `top` (share of the `TOP` largest); NaN where nothing is held. `n`
    positions have a value.
    """

    equity: float
    total: Side
    by: Mapping[str, Side]
    names: Mapping[str, Sequence[str]]
    gross: float
    net: float
    leverage: float
    largest: float
    hhi: float
    top: float
    n: int
    why: str = ""
    missing: tuple[Missing, ...] = ()

    def measures(self) -> tuple[Measured, ...]:
        """What lines are drawn on; where a position has no value, all are of what is known, and gross from below.

        What is held without equity under it is beyond every line.
        """
        examples = "; ".join(f"{position.unit}: {position.why}" for position in self.missing[:TOLD])
        why = f"{_counted(len(self.missing))} no value ({examples})" if self.missing else ""
        if self.why and not -math.inf < self.equity <= 0:
            names = ("gross", "net", "leverage", "concentration")
            return tuple(Measured(name, math.nan, n=self.n, why=self.why) for name in names)
        net, held = np.abs(self.total.net), np.abs(self.by["symbol"].net).max(initial=0.0)
        rows = (
            ("gross", self.gross, bool(self.total.gross > 0 or self.missing), "at least"),
            ("net", abs(self.net), bool(net > 0), OF_KNOWN),
            ("leverage", self.leverage, bool(held > 0), OF_KNOWN),
            ("concentration", self.largest, bool(held > 0), OF_KNOWN),
        )
        return tuple(
            Measured(name, value, ALL, self.n, why if held else why or self.why, True, words, beyond=self.why * held)
            for name, value, held, words in rows
        )

    def frame(self, dimension: str) -> pd.DataFrame:
        """One row a group: `long`, `short`, `gross`, `net` in money, `share` = gross over all gross. Largest first."""
        side = self.by[dimension]
        columns = {"long": side.long, "short": side.short, "gross": side.gross, "net": side.net}
        frame = pd.DataFrame({dimension: list(self.names[dimension]), **columns})
        whole = float(self.total.gross)
        frame["share"] = frame["gross"] / whole if whole > 0 else np.nan
        return frame.sort_values("gross", ascending=False, kind="stable", ignore_index=True)


def exposed(value: Floats, groups: Groups, equity: float) -> Exposure:
    """Exposure of n positions worth `value` (signed, base currency, finite; 0 counts for nothing). Nothing is checked.

    Examples
    --------
    >>> book = {"strategy": ["a", "a"], "sector": ["x", "y"], "currency": ["USD", "USD"], "symbol": ["A", "B"]}
    >>> codes = {name: np.unique(column, return_inverse=True) for name, column in book.items()}
    >>> groups = Groups({k: v[0].tolist() for k, v in codes.items()}, {k: v[1] for k, v in codes.items()})
    >>> found = exposed(np.array([60.0, -30.0]), groups, 100.0)
    >>> found.gross, found.net, round(found.hhi, 3)
    (0.9, 0.3, 0.556)
    """
    up, down = np.maximum(value, 0.0), np.maximum(-value, 0.0)
    total = Side(up.sum(), down.sum())
    by = {}
    for dimension, codes in groups.codes.items():
        n = len(groups.names[dimension])
        by[dimension] = Side(*(np.bincount(codes, amounts, n).astype(np.float64, copy=False) for amounts in (up, down)))
    weight = np.abs(by["symbol"].net)
    held, largest = float(weight.sum()), float(weight.max(initial=0.0))
    share = weight / held if held > 0 else np.full(1, np.nan)
    known = equity > 0 and np.isfinite(equity)
    over = float(equity) if known else np.nan
    return Exposure(
        equity=float(equity),
        total=total,
        by=by,
        names=groups.names,
        gross=float(total.gross) / over,
        net=float(total.net) / over,
        leverage=held / over,
        largest=largest / over,
        hhi=float(share @ share),
        top=float(np.sort(share)[-TOP:].sum()),
        n=int(np.count_nonzero(value)),
        why="" if known else f"equity is {equity:g}: there is nothing to hold exposure against",
    )


def exposure(
    positions: pd.DataFrame,
    equity: float,
    *,
    as_of: datetime,
    base: str = "USD",
    rates: Mapping[str, float] | None = None,
    equivalents: Mapping[str, float] | None = None,
    groups: Groups | None = None,
) -> Exposure:
    """Exposure of the positions of all books.

    Parameters
    ----------
    positions : DataFrame
        `POSITION_COLUMNS`, one row a (strategy, book, unit).
    equity : float
        Of all these books, in `base`.
    rates : mapping
        Units of `base` for one unit of a currency. `base` itself is 1; any other that is not there is said, never
        guessed.
    equivalents : mapping
        Of an option: what one unit of it is worth as a holding of its underlying, in its currency (delta x spot x
        multiplier; `OptionGreeks.equivalents`). An option that is not there is left out: its own price is no exposure.
    groups : Groups
        Of exactly these rows, where they were made before.

    Returns
    -------
    Exposure
        With `missing`: what has no price, no rate or no delta.
    """
    kind, quantity = positions["kind"].to_numpy(), positions["quantity"].to_numpy(dtype=np.float64)
    each, why = _worth(positions, kind, equivalents or {})
    rate, unrated = currency_rates(positions["currency"].to_numpy(), base, rates or {})
    why = np.where(why == "", unrated, why)
    why = np.where((why == "") & ~np.isfinite(quantity), "the quantity is not known", why)
    with np.errstate(invalid="ignore", over="ignore"):
        value = quantity * each * rate
    why = np.where((why == "") & ~np.isfinite(value), "its value is too large to be one", why)
    lost = why != ""
    value = np.where(lost, 0.0, value)
    whole = exposed(value, groups or Groups.of(positions), equity)
    return replace(whole, missing=left_out(positions[lost], why[lost], as_of)) if lost.any() else whole


def _worth(
    positions: pd.DataFrame, kind: NDArray[np.object_], equivalents: Mapping[str, float]
) -> tuple[Floats, NDArray[np.object_]]:
    """What one unit of each position is worth in its own currency, and why that is not known."""
    price, multiplier = (positions[c].to_numpy(dtype=np.float64) for c in ("price", "multiplier"))
    option = np.isin(kind, OPTIONS)
    each, why = price * multiplier, np.full(len(positions), "", dtype=object)
    # A future may trade below zero (oil in April 2020); a share or a coin may not. That it is worth nothing is known.
    why[~np.isfinite(price)] = "no price was ever seen"
    why[np.isfinite(price) & ~np.isfinite(each)] = "its multiplier is not known"
    why[(kind == Kind.SPOT.value) & (price < 0)] = "the price is below zero"
    if option.any():
        units = positions["unit"].to_numpy()[option]
        each[option] = [equivalents.get(unit, np.nan) for unit in units]
        why[option] = np.where(np.isfinite(each[option]), "", "the option's delta is not known")
    return each, why


def currency_rates(
    currency: NDArray[np.object_], base: str, rates: Mapping[str, float]
) -> tuple[Floats, NDArray[np.object_]]:
    """Units of `base` for one unit of each currency, and why that is not known (else an empty text)."""
    code, names = pd.factorize(currency, use_na_sentinel=False)
    known = [1.0 if name == base else rates.get(name, np.nan) if isinstance(name, str) else np.nan for name in names]
    rate = np.array(known, dtype=np.float64)
    reasons = [
        ""
        if np.isfinite(value) and value > 0
        else f"no rate from {name} to {base}"
        if isinstance(name, str)
        else "no currency is named"
        for name, value in zip(names, rate, strict=True)
    ]
    return rate[code], np.array(reasons, dtype=object)[code]


def left_out(rows: pd.DataFrame, why: NDArray[np.object_], as_of: datetime) -> tuple[Missing, ...]:
    """These rows of a frame with `POSITION_COLUMNS`, with a reason a row."""
    age = (pd.Timestamp(as_of) - pd.to_datetime(rows["priced_at"], utc=True)).dt.total_seconds()
    names = zip(rows["strategy"], rows["book"], rows["unit"], rows["quantity"], strict=True)
    reasons = zip(names, why, age, strict=True)
    return tuple(Missing(*name, reason, None if np.isnan(old) else float(old)) for name, reason, old in reasons)


def _labels(positions: pd.DataFrame, dimension: str) -> NDArray[np.object_]:
    if dimension != "symbol":
        column = positions[dimension].to_numpy(dtype=object)
    else:
        unit, underlying = (positions[c].to_numpy(dtype=object) for c in ("unit", "underlying"))
        option = np.isin(positions["kind"].to_numpy(), OPTIONS)
        column = np.where(option, underlying, unit)
    return np.array([label if isinstance(label, str) and label else NOT_STATED for label in column], dtype=object)


def _counted(n: int) -> str:
    return f"{n} position has" if n == 1 else f"{n} positions have"
