"""Prices that a person confirmed, and why: the last word on a jump that neither quotes nor fills can settle."""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple

from sqlalchemy import BigInteger, func, select, type_coerce

from mlops.errors import DataError
from mlops.io.storage.database import Tables
from mlops.io.storage.risk_schema import confirmed_prices
from mlops.io.storage.windows import microseconds


class Confirmed(NamedTuple):
    """A price, and when a person confirmed it."""

    value: float
    at: datetime


@dataclass(frozen=True, slots=True)
class Confirmation:
    """An entry of the log: who confirmed which price of a unit, why, when."""

    unit: str
    price: float
    actor: str
    reason: str
    confirmed_at: datetime


class ConfirmedPrices(Tables):
    """The log of confirmed prices; nothing is ever taken out of it."""

    def add(self, unit: str, price: float, actor: str, reason: str, at: datetime) -> None:
        """Append a price that holds from `at` until a quote, a fill or a bar that is later.

        Raises
        ------
        DataError
            The price is not finite, or nobody or nothing is named as unit, actor or reason.
        """
        if not math.isfinite(price):
            raise DataError(f"confirmed price of {unit} must be finite, got {price}. Say what one unit is worth.")
        if not (unit.strip() and actor.strip() and reason.strip()):
            got = f"{unit!r}, {actor!r} and {reason!r}"
            raise DataError(f"confirmed price must have unit, actor and reason, got {got}. Name all three.")
        row = {"unit": unit, "price": price, "actor": actor, "reason": reason, "confirmed_at": at}
        with self._writing() as connection:
            connection.execute(confirmed_prices.insert().values(row))

    def last(self, *, as_of: datetime) -> dict[str, Confirmed]:
        """The last confirmed price of each unit until `as_of`."""
        c = confirmed_prices.c
        last = (
            select(func.max(c.id))
            .where(type_coerce(c.confirmed_at, BigInteger) <= microseconds(as_of))
            .group_by(c.unit)
        )
        query = select(c.unit, c.price, c.confirmed_at).where(c.id.in_(last))
        with self._reading() as connection:
            return {row.unit: Confirmed(row.price, row.confirmed_at) for row in connection.execute(query)}

    def log(self) -> list[Confirmation]:
        """Every confirmation, oldest first."""
        c = confirmed_prices.c
        query = select(c.unit, c.price, c.actor, c.reason, c.confirmed_at).order_by(c.id)
        with self._reading() as connection:
            return [Confirmation(*row) for row in connection.execute(query)]
