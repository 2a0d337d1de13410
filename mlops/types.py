"""The nouns of the platform. Frozen, small, no behaviour beyond reading themselves.

Time contract: every instant is a timezone-aware UTC `datetime` (or a UTC pandas timestamp). A row carries
`event_time` (when it happened) and `known_at` (when we could know it); a prediction also `matures_at` (the
earliest time at which its label can be known). A job at `as_of` sees only rows with `known_at <= as_of`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd

BAR_COLUMNS = ("event_time", "known_at", "symbol", "close")  # open, high, low, volume where the feed has them
PREDICTION_COLUMNS = ("model", "version", "unit", "event_time", "known_at", "matures_at", "role", "probability")
RESERVED = ("twin:", "virtual")  # how the names of books begin that are not a bot's
OUTCOME_COLUMNS = ("model", "unit", "event_time", "known_at", "label", "value")
FILL_COLUMNS = ("fill_id", "model", "version", "book", "unit", "event_time", "quantity", "price", "fee")
SCORING_COLUMNS = ("model", "event_time", "version", "batch", "failed", "rows", "seconds")
INSTRUMENT_COLUMNS = (
    "unit", "kind", "currency", "sector", "multiplier", "underlying", "strike", "expiry", "american", "daily_volume",
)  # fmt: skip
LARGEST = 1e20  # units or money in one trade: under it whatever is traded, and far over it what is a mistake
POSITION_COLUMNS = ("strategy", "book", "quantity", "cost", "price", "priced_at", *INSTRUMENT_COLUMNS)


class Level(StrEnum):
    OK = "ok"
    WARN = "warn"
    ALERT = "alert"
    UNKNOWN = "unknown"  # too few rows to say; never an exception, never OK


class Verdict(StrEnum):
    HOLD = "hold"  # the champion stays: the evidence says so
    INCONCLUSIVE = "inconclusive"  # the champion stays: there is not enough evidence, or it is broken
    ADVANCE = "advance"  # a challenger leaves the shadow stage: it trades its share of the units from now on
    WITHDRAW = "withdraw"  # a challenger goes back to the shadow stage: it trades nothing from now on
    PROMOTE = "promote"
    ROLLBACK = "rollback"
    RETRAIN = "retrain"


class Stage(StrEnum):
    """How far a challenger is on its way to champion; also a tag on the version."""

    SHADOW = "shadow"  # it scores beside the champion and trades nothing
    AB = "ab"  # it trades a share of the units


class Priority(StrEnum):
    CRITICAL = "critical"
    HIGH = "high"
    MEDIUM = "medium"
    LOW = "low"


class Role(StrEnum):
    """What a model version is to the bot. The first three are also alias names in the registry."""

    CHAMPION = "champion"
    CHALLENGER = "challenger"
    PREVIOUS = "previous_champion"
    SHADOW = "shadow"  # a tag on the version, not an alias


class Kind(StrEnum):
    """What a unit is. `multiplier` says how many of what is quoted one unit stands for (100 for a US equity option)."""

    SPOT = "spot"  # a share, a coin: worth quantity x price x multiplier
    FUTURE = "future"
    CALL = "call"
    PUT = "put"


OPTIONS = (Kind.CALL, Kind.PUT)


class TradingState(StrEnum):
    """What a bot may do. None of these closes a position: that is an order, which a person or the bot sends."""

    ACTIVE = "active"
    REDUCING = "reducing"
    HALTED = "halted"

    @property
    def meaning(self) -> str:
        """In the words that are used wherever a person reads of it."""
        return {
            "active": "orders as the models ask for",
            "reducing": "no new positions; open ones may only shrink",
            "halted": "no orders at all, not even to close; what is open stays open",
        }[self.value]


@dataclass(frozen=True, slots=True)
class ModelRef:
    """One version in the registry, and the alias it was found under."""

    name: str
    version: int
    alias: str | None = None

    def __str__(self) -> str:
        return f"{self.name} v{self.version}" + (f" ({self.alias})" if self.alias else "")


@dataclass(frozen=True, slots=True)
class Window:
    """Rows known at `end`, sorted by `event_time` (UTC)."""

    frame: pd.DataFrame
    start: datetime
    end: datetime


@dataclass(frozen=True, slots=True)
class Finding:
    """One number, the limit it was held against, and what that means.

    `subject` is what the number is about (a feature, an arm, a segment; empty for the whole model); `note` is one
    plain sentence for a person; `n` is the number of independent units used (rows, days or bars: the note says).
    """

    name: str
    value: float
    limit: float
    level: Level
    n: int
    params: Mapping[str, Any] = field(default_factory=dict)
    subject: str = ""
    note: str = ""


@dataclass(frozen=True, slots=True)
class Report:
    model: ModelRef
    as_of: datetime
    findings: tuple[Finding, ...]


@dataclass(frozen=True, slots=True)
class Decision:
    """A verdict on `model`: of PROMOTE, ADVANCE and WITHDRAW the challenger, otherwise the champion itself.

    `against` is the champion that the evidence was measured against: the registry refuses the transition
    (`AliasMoved`) when the champion is another one by then.
    """

    verdict: Verdict
    model: ModelRef
    because: tuple[Finding, ...] = ()
    against: ModelRef | None = None
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Alert:
    """What a person must know. `key` makes it unique: the same key is the same alert. `closed_at`: None while open."""

    key: str
    priority: Priority
    model: str
    title: str
    as_of: datetime
    details: Mapping[str, Any] = field(default_factory=dict)
    closed_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class BookEvent:
    """One event of a book; amounts are whole 1e-8. `fill` is the id of the ledger's fill that it is, 0 for none.

    Of a split it is minus the split's id.

    A fill that a person voided stays as an event of kind `void`, which moves nothing.
    """

    seq: int
    event_time: datetime  # the bar at which the book took it
    happened_at: datetime
    kind: str  # mark, funding, fill, void, split (`quantity` new units for each `price` old ones)
    unit: str
    quantity: int = 0
    price: float = 0.0
    fee: int = 0
    slippage: int = 0
    funding: int = 0
    fill: int = 0
    multiplier: float = 1.0


def reserved(book: str) -> bool:
    """Whether a name is of the platform's own books."""
    return book.strip().casefold().startswith(RESERVED)
