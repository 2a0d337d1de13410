"""What books were worth by fills that a person took back, so that a peak moves by just that: no void erases a loss."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from jobs import restatement, tape
from jobs.doubts import ALERT
from jobs.held import Held
from jobs.house import House
from jobs.marks import Seen
from jobs.positions import worth_of
from mlops.experiment import Fill
from mlops.io.ledger import BookKey
from mlops.risk.prices import Mark

MOMENT = timedelta(microseconds=1)


@dataclass(frozen=True, slots=True)
class Void:
    """A fill that was taken back; `gain`: what of it never counted, for it was in doubt."""

    key: BookKey
    fill: Fill
    gain: float

    @property
    def at(self) -> datetime:
        assert self.fill.at is not None
        return self.fill.at


def voided(house: House, after: int) -> list[Void]:
    """The fills that were voided after the void of that number; those that no book could take moved nothing."""
    rows, units = house.ledger.void_fills(after=after), restatement.units(house)
    if rows.empty:
        return []
    doubts = {one.key.removeprefix(ALERT): one.details for one in house.ledger.alerts() if one.key.startswith(ALERT)}
    columns = (rows[name].tolist() for name in ("id", "fill_id", "model", "book"))
    about = {number: (name, BookKey(model, book)) for number, name, model, book in zip(*columns, strict=True)}
    found = list[Void]()
    for fill, _ in tape.filled(rows, units)[0]:
        name, key = about[fill.number]
        if fill.at is not None and fill.unit not in units.foreign:
            found.append(Void(key, fill, float(doubts[name]["gain"]) if name in doubts else 0.0))
    return found


def effect(house: House, held: Held, voids: Sequence[Void], at: datetime) -> float:
    """What these fills made the equity of the books that are held more at an instant, at the least.

    An account that is counted from a balance had their effect until then in it.
    """
    return sum(_of_book(house, held, key, [one for one in voids if one.key == key], at) for key in held.books)


def _of_book(house: House, held: Held, key: BookKey, voids: Sequence[Void], at: datetime) -> float:
    account = held.accounts.get(key)
    anchors = () if account is None else account.known.anchors
    since = next((one.at for one in reversed(anchors) if one.at <= at), anchors[0].at if anchors else None)
    now, then = _worth(house, key, voids, at), (0.0, 0.0) if since is None else _worth(house, key, voids, since)
    return min(now) - max(then)


def _worth(house: House, key: BookKey, voids: Sequence[Void], at: datetime) -> tuple[float, float]:
    """From and to: at prices that were not confirmed then it is not sure."""
    mine = [one for one in voids if one.at <= at]
    if not mine:
        return 0.0, 0.0
    seen = {one.fill.unit: Seen(carried=Mark(one.fill.price, one.at)) for one in mine}
    for event in house.ledger.unit_events(key, list(seen), end=at + MOMENT):
        if event.kind == "mark":
            seen[event.unit] = Seen(bar=Mark(event.price, event.event_time))
    low, high = worth_of(house, key, [one.fill for one in mine], seen, at)
    gain = sum(one.gain for one in mine)
    return low - gain, high - gain
