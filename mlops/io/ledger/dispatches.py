"""To whom each event was sent: one endpoint after the other is claimed, tried and settled here.

A claim is a lease on the endpoint, so at any moment one sender speaks to it and its events keep their order. A sender
that dies leaves its lease to run out; the next one then repeats the same delivery under the same id.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Connection, Row, func, select, update

from mlops.errors import DataError
from mlops.io.ledger.outbox import Event, read
from mlops.io.ledger.registry import added, every
from mlops.io.storage.database import Tables
from mlops.io.storage.schema import dispatches, endpoints, events

BREAKS_AFTER = 5  # failures in a row that open the circuit


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A receiver: since when it is heard of, and how it has been answering."""

    name: str
    since_seq: int
    disabled: str
    failures: int
    probe_at: datetime

    def circuit(self, now: datetime) -> str:
        """`closed`: sent to as usual; `open`: left alone until `probe_at`; `half-open`: the next attempt decides."""
        if self.failures < BREAKS_AFTER:
            return "closed"
        return "open" if now < self.probe_at else "half-open"


@dataclass(frozen=True, slots=True)
class Dispatch:
    """One event on its way to one endpoint; `state` is pending, delivered or dead."""

    endpoint: str
    seq: int
    state: str
    attempts: int
    not_before: datetime
    last_status: int | None
    last_error: str
    settled_at: datetime | None


@dataclass(frozen=True, slots=True)
class Claim:
    """The right to make one attempt. `counts`: its back-off is over; else it only probes an open circuit."""

    endpoint: str
    owner: str
    event: Event
    attempts: int  # before this one
    counts: bool
    not_before: datetime  # when the next attempt that counts is due


@dataclass(frozen=True, slots=True)
class Lease:
    """How long a claim holds, and how far ahead a due time can lie. Anything further: the clock was set back."""

    holds: timedelta
    longest_wait: timedelta


class Dispatches(Tables):
    """The senders' side of the outbox."""

    def add_endpoint(self, name: str, fingerprint: str, at: datetime) -> None:
        """Make an endpoint known: it hears of what comes after. With another `fingerprint` it starts anew."""
        fresh = {"fingerprint": fingerprint, "disabled": "", "failures": 0, "probe_at": at}
        free = {"owner": "", "lease_until": at}
        with self._writing(lock=f"endpoint:{name}") as connection:
            last = int(connection.scalar(select(func.coalesce(func.max(events.c.seq), 0))) or 0)
            if not added(connection, endpoints, {"name": name, "since_seq": last, "seen_at": at, **fresh, **free}):
                query = update(endpoints).where(endpoints.c.name == name, endpoints.c.fingerprint != fingerprint)
                connection.execute(query.values(fresh))

    def endpoints(self) -> list[Endpoint]:
        """All that were ever configured."""
        with self._reading() as connection:
            return every(connection, Endpoint, select(endpoints).order_by(endpoints.c.name))

    def all(self, endpoint: str | None = None, state: str | None = None) -> list[Dispatch]:
        """Dispatches of an endpoint (or of all) in a state (or in any), by endpoint and number."""
        wanted = {"endpoint": endpoint, "state": state}
        query = select(dispatches).filter_by(**{name: value for name, value in wanted.items() if value is not None})
        with self._reading() as connection:
            return every(connection, Dispatch, query.order_by(dispatches.c.endpoint, dispatches.c.seq))

    def claim(self, name: str, kinds: Sequence[str], owner: str, now: datetime, lease: Lease) -> Claim | None:
        """The next attempt that is due at an endpoint, for `owner` alone; None where there is none or another has it.

        Order is head of line: while an event waits for its next attempt, no later one is sent. `owner` must be new
        at each call: it is the fence.
        """
        with self._reading() as connection:  # most polls end here, without a lock
            if _due(connection, name, kinds, now, lease) is None:
                return None
        with self._writing(durable=False, lock=f"endpoint:{name}") as connection:
            due = _due(connection, name, kinds, now, lease)
            if due is None:
                return None
            seq, attempts, not_before = due
            fresh = {"state": "pending", "attempts": 0, "not_before": now, "last_error": ""}
            added(connection, dispatches, {"endpoint": name, "seq": seq, **fresh})
            taken = update(endpoints).where(endpoints.c.name == name)
            connection.execute(taken.values(owner=owner, lease_until=now + lease.holds))
            row = connection.execute(select(events).where(events.c.seq == seq)).mappings().one()
            counts = not _ahead(not_before, now, lease.longest_wait)
            return Claim(name, owner, read(row), attempts, counts, not_before)

    def settle(self, claim: Claim, outcome: Dispatch, *, probe_at: datetime, disabled: str = "") -> bool:
        """Write down how an attempt ended; False where the lease was lost, and the failure is another's to tell.

        A delivery is written down in any case: that it arrived is true whoever sent it.
        """
        failed = outcome.state != "delivered"
        c = endpoints.c
        with self._writing(lock=f"endpoint:{claim.endpoint}") as connection:
            query = update(endpoints).where(c.name == claim.endpoint, c.owner == claim.owner)
            health = {"failures": c.failures + 1 if failed else 0, "probe_at": probe_at, "disabled": disabled}
            held = connection.execute(query.values(owner="", **health)).rowcount == 1
            if held or not failed:
                values = {k: v for k, v in asdict(outcome).items() if k not in ("endpoint", "seq")}
                where = (dispatches.c.endpoint == claim.endpoint, dispatches.c.seq == claim.event.seq)
                connection.execute(update(dispatches).where(*where, dispatches.c.state == "pending").values(values))
        return held

    def redeliver(self, endpoint: str, seq: int, at: datetime) -> None:
        """Send a settled dispatch once more, before anything newer, with a full set of attempts.

        Raises
        ------
        DataError
            The event was never sent to that endpoint, or is on its way.
        """
        c = dispatches.c
        fresh = {"state": "pending", "attempts": 0, "not_before": at, "settled_at": None}
        with self._writing(lock=f"endpoint:{endpoint}") as connection:
            query = update(dispatches).where(c.endpoint == endpoint, c.seq == seq, c.state != "pending")
            if connection.execute(query.values(fresh)).rowcount == 0:
                rule = "event must be one that was delivered or is a dead letter to be sent again"
                raise DataError(f"{rule}, got {seq} for {endpoint!r}. List them with `trader-mlops hook dead`.")


def _due(
    connection: Connection, name: str, kinds: Sequence[str], now: datetime, lease: Lease
) -> tuple[int, int, datetime] | None:
    """Number of the event, attempts so far, when the next one counts."""
    endpoint = connection.execute(select(endpoints).where(endpoints.c.name == name)).one()
    if endpoint.disabled or (endpoint.owner and _ahead(endpoint.lease_until, now, lease.holds)):
        return None
    is_open = endpoint.failures >= BREAKS_AFTER
    if is_open and _ahead(endpoint.probe_at, now, lease.longest_wait):
        return None
    head = _head(connection, name)
    if head is None:
        seq = _next(connection, endpoint, kinds)
        return None if seq is None else (seq, 0, now)
    waits = _ahead(head.not_before, now, lease.longest_wait)
    return (head.seq, head.attempts, head.not_before) if is_open or not waits else None


def _head(connection: Connection, name: str) -> Row[int, int, datetime] | None:
    c = dispatches.c
    query = select(c.seq, c.attempts, c.not_before).where(c.endpoint == name, c.state == "pending")
    return connection.execute(query.order_by(c.seq).limit(1)).one_or_none()


def _next(connection: Connection, endpoint: Row[Any], kinds: Sequence[str]) -> int | None:
    """The first event that was never tried. Kinds that nobody asked for get no row."""
    tried = connection.scalar(select(func.max(dispatches.c.seq)).where(dispatches.c.endpoint == endpoint.name))
    c = events.c
    later = select(c.seq).where(c.seq > max(tried or 0, endpoint.since_seq), c.kind.in_(kinds))
    return connection.scalar(later.order_by(c.seq).limit(1))


def _ahead(due: datetime, now: datetime, longest: timedelta) -> bool:
    return now < due <= now + longest
