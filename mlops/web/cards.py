"""What a page is made of: cards, each drawn by the renderer of its kind in `static/` from topics of the feed.

A page says what is shown; the browser draws it from the feed's state, and neither computes anything.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

import orjson

Format = Literal[
    "text", "money", "gain", "percent", "gain_percent", "number", "price", "times", "days", "age", "day", "time",
    "minute", "level", "bar", "version", "p", "score", "points", "note",
]  # fmt: skip
Kind = Literal["answer", "tiles", "panels", "verdict", "table", "heat", "rail", "limits", "models"]


@dataclass(frozen=True, slots=True)
class Column:
    """A column of a table.

    `of` is a field of the row, `@key` its key; `old`: a field that marks the value as old; `other`: one with a second
    value that is not confirmed; `full`: what fills a bar; `none`: a field that is said where there is no value;
    `negate`: a loss is shown below nought, as profit and loss are.
    """

    of: str
    label: str
    format: Format = "number"
    help: str = ""
    old: str = ""
    other: str = ""
    full: float = 1.0
    none: str = ""
    negate: bool = False


@dataclass(frozen=True, slots=True)
class Tile:
    """A number of the strip: the path of a value; `also`: others under it; `meter`: a path with its utilisation.

    `since`: a path that is there where the value is not of today, and says since when it is. `least`: a key of
    `missing` that says what is not in the value; with a `meter` it is at least that (≥), else a dash.
    """

    label: str
    of: str
    format: Format
    also: tuple[tuple[str, Format, str], ...] = ()  # path, format, words before it
    meter: str = ""
    help: str = ""
    since: str = ""
    least: str = ""


@dataclass(frozen=True, slots=True)
class Series:
    """A line of a panel: where its value lies in the row of a point. `negate`: a loss is drawn downwards."""

    index: int
    label: str
    style: Literal["line", "under", "stems", "step"]
    negate: bool = False


@dataclass(frozen=True, slots=True)
class Panel:
    """A chart; the panels of a card share their times. `mark`: where a point says that it is marked, and its name."""

    label: str
    format: Format
    series: tuple[Series, ...]
    mark: tuple[int, str] | None = None


@dataclass(frozen=True, slots=True)
class Card:
    """A card. `topic` is the path of what it shows in the state; `empty` says what it means that nothing is there."""

    kind: Kind
    id: str
    title: str
    topic: str
    empty: str = ""
    wide: bool = False
    note: str = ""
    parts: tuple[Any, ...] = ()  # columns, tiles or panels
    options: Mapping[str, Any] = field(default_factory=dict)

    @property
    def spec(self) -> str:
        """What the renderer reads."""
        return orjson.dumps(asdict(self)).decode()


@dataclass(frozen=True, slots=True)
class Page:
    """A page: what stands on top over its whole width, the cards, and what stays in sight beside them."""

    title: str
    top: tuple[Card, ...]
    cards: tuple[Card, ...]
    rail: tuple[Card, ...] = ()
