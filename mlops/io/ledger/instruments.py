"""What units are, where they are more than a share in the books' currency."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import astuple, dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from sqlalchemy import BigInteger, delete, select, type_coerce

from mlops.errors import DataError
from mlops.io.storage.database import Tables
from mlops.io.storage.risk_schema import instruments
from mlops.io.storage.utc_time import EPOCH, MICROSECOND
from mlops.types import INSTRUMENT_COLUMNS, LARGEST, OPTIONS, Kind

if TYPE_CHECKING:
    import pandas as pd

FIRST, LAST = datetime(1970, 1, 1, tzinfo=UTC), datetime(2200, 1, 1, tzinfo=UTC)  # as of every row (web/contracts.py)
LEAST_MULTIPLIER, MOST_MULTIPLIER = 1e-9, 1e9  # listed contracts have 0.01 to 1,000,000


@dataclass(frozen=True, slots=True)
class Instrument:
    """What a unit is. `daily_volume` (units on a usual day) is None where nobody said."""

    unit: str
    kind: Kind = Kind.SPOT
    currency: str = "USD"
    sector: str = ""
    multiplier: float = 1.0
    underlying: str = ""
    strike: float | None = None
    expiry: datetime | None = None
    american: bool = False
    daily_volume: float | None = None

    def __post_init__(self) -> None:
        option, least, most = self.kind in OPTIONS, LEAST_MULTIPLIER, MOST_MULTIPLIER
        rules = (
            (bool(self.unit.strip()), "have a unit", self.unit, "Name it as fills do."),
            (self.kind in list(Kind), f"be one of {', '.join(Kind)}", self.kind, "Choose one of them."),
            (_positive(self.multiplier), "have a positive multiplier", self.multiplier, "1 is usual."),
            (
                least <= self.multiplier <= most,
                f"have a multiplier within {least:g} and {most:g}",
                self.multiplier,
                "1 is usual.",
            ),
            (not option or bool(self.underlying), "name its underlying", self.underlying, "An option has one."),
            (not option or _positive(self.strike), "have a positive strike", self.strike, "An option has one."),
            (
                self.strike is None or 1 / LARGEST < self.strike < LARGEST,
                f"have a strike within {1 / LARGEST:g} and {LARGEST:g}",
                self.strike,
                "Give it as it is listed.",
            ),
            (not option or self.expiry is not None, "have an expiry", self.expiry, "An option has one."),
            (self.expiry is None or self.expiry.tzinfo is not None, "expire at an instant", self.expiry, "Add +00:00."),
            (
                self.expiry is None or self.expiry.tzinfo is None or FIRST <= self.expiry < LAST,
                "expire between 1970 and 2200",
                self.expiry,
                "Leave it out where it never expires.",
            ),
            (
                self.daily_volume is None or (_positive(self.daily_volume) and self.daily_volume < LARGEST),
                f"have a volume > 0 and under {LARGEST:g}",
                self.daily_volume,
                "Leave it out.",
            ),
        )
        for holds, rule, got, remedy in rules:
            if not holds:
                raise DataError(f"instrument {self.unit} must {rule}, got {got!r}. {remedy}")


class Instruments(Tables):
    """Instruments. A row of an older release that breaks the rules of now costs its own unit only."""

    def put(self, units: Sequence[Instrument], at: datetime) -> int:
        """Keep what units are; what is said again replaces what was said. How many `units` there are."""
        rows = [dict(zip(INSTRUMENT_COLUMNS, astuple(unit), strict=True)) | {"told_at": at} for unit in units]
        with self._writing() as connection:
            connection.execute(delete(instruments).where(instruments.c.unit.in_([unit.unit for unit in units])))
            for row in rows:
                connection.execute(instruments.insert().values(row))
        return len(rows)

    def frame(self) -> pd.DataFrame:
        """All that is known of units: INSTRUMENT_COLUMNS, by unit. Without those that are unusable."""
        import pandas as pd

        rows = [astuple(unit) for unit in self._instruments()[0]]
        frame = pd.DataFrame(rows, columns=list(INSTRUMENT_COLUMNS))
        frame["kind"] = frame["kind"].map(str)
        frame["expiry"] = pd.to_datetime(frame["expiry"], utc=True)
        return frame.astype({"strike": float, "daily_volume": float, "multiplier": float, "american": bool})

    def unusable(self) -> dict[str, str]:
        """Units whose stored row breaks a rule, and which one: what they are is not known."""
        return self._instruments()[1]

    def multipliers(self) -> dict[str, float]:
        """Multiplier of each unit that has another one than 1."""
        return {unit.unit: unit.multiplier for unit in self._instruments()[0] if unit.multiplier != 1.0}

    def currencies(self) -> dict[str, str]:
        """What each unit that something is known of is traded in."""
        return {unit.unit: unit.currency for unit in self._instruments()[0]}

    def _instruments(self) -> tuple[list[Instrument], dict[str, str]]:
        c = instruments.c
        read = [type_coerce(c[name], BigInteger) if name == "expiry" else c[name] for name in INSTRUMENT_COLUMNS]
        with self._reading() as connection:
            rows = connection.execute(select(*read).order_by(c.unit)).all()
        good, bad = list[Instrument](), dict[str, str]()
        for row in rows:
            try:
                good.append(_read(dict(zip(INSTRUMENT_COLUMNS, row, strict=True))))
            except (DataError, OverflowError, ValueError, TypeError) as error:
                bad[str(row[0])] = str(error)
        return good, bad


def _read(row: Mapping[str, Any]) -> Instrument:
    expiry = None if row["expiry"] is None else EPOCH + int(row["expiry"]) * MICROSECOND
    return Instrument(**{**row, "kind": Kind(row["kind"]), "expiry": expiry})


def _positive(value: float | None) -> bool:
    return value is not None and math.isfinite(value) and value > 0
