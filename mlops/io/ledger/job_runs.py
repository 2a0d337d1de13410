"""Jobs as rows: one for each (job, scheduled time). What is written here is the truth; a scheduler is only the clock.

    due ──claim──► running ──complete──► done            parked: its code cannot be imported; looked at again
     ▲                │ └────fail─────► failed ──claim──► running ... ──► dead, after the last attempt
     └──retry (a person)─┘ lease ran out: whoever ran it is taken for dead, and it is claimed again

A claim carries a fencing token. A runner that was taken for dead and comes back finds its token void: what it wanted
to write, and its "done", are refused together.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Connection, and_, func, or_, select, update
from sqlalchemy.sql.elements import ColumnElement

from mlops.errors import DataError
from mlops.io.ledger.registry import added, every
from mlops.io.storage.database import Tables
from mlops.io.storage.schema import job_runs

STATES = ("due", "running", "done", "failed", "parked", "dead", "skipped")
OPEN = ("due", "running", "failed", "parked")  # states from which a run may still be claimed
LONGEST_BACK_OFF = timedelta(days=1)
ERROR_CHARS = 4_000  # of an error, its end: that is where a traceback says what happened
Effect = Callable[[Connection], object]


@dataclass(frozen=True, slots=True)
class JobRun:
    """One job at one scheduled time; `attempts` counts its starts."""

    id: int
    job: str
    scheduled_for: datetime
    state: str
    attempts: int
    run_id: str
    started_at: datetime | None
    ended_at: datetime | None
    owner: str
    fence: int
    lease_until: datetime | None
    not_before: datetime | None
    error: str

    @property
    def key(self) -> str:
        """How evidence names the run."""
        return run_key(self.job, self.scheduled_for)


@dataclass(frozen=True, slots=True)
class Claim:
    """The right to run one job once. Void as soon as somebody else claims it: then the fence is another."""

    job: str
    scheduled_for: datetime
    owner: str
    fence: int
    attempts: int

    @property
    def key(self) -> str:
        return run_key(self.job, self.scheduled_for)


class JobRuns(Tables):
    """The table of runs."""

    def plan(self, job: str, scheduled_for: datetime, *, state: str = "due", note: str = "") -> bool:
        """Write a run down; False where it was planned before, whatever became of it."""
        with self._writing() as connection:
            return _planned(connection, job, scheduled_for, state=state, note=note)

    def start(self, job: str, scheduled_for: datetime, at: datetime) -> Claim | None:
        """Plan one run and take it at once, for a caller that is the only runner (a replay); None if it was planned."""
        row = {"job": job, "scheduled_for": scheduled_for, "attempts": 1, "fence": 1, "run_id": ""}
        with self._writing() as connection:
            if not added(connection, job_runs, {**row, "state": "running", "started_at": at, "lease_until": at}):
                return None
        return Claim(job, scheduled_for, "", 1, 1)

    def claim(self, owner: str, at: datetime, *, lease_s: float, max_attempts: int) -> Claim | None:
        """Take the oldest run that may start now; None where there is none.

        May start: a run that is due; one that failed or was parked, once its back-off is over; one whose lease ran out.
        A job never overlaps itself: while a run of it holds a lease, its others wait. A run that was started
        `max_attempts` times and never ended (it kills whoever runs it) becomes a dead letter instead.
        """
        lease = timedelta(seconds=lease_s)
        with self._writing(lock="jobs") as connection:
            while True:
                run = _first(connection, at, lease)
                if run is None:
                    return None
                died = run.state == "running"
                if died and run.attempts >= max_attempts:
                    _end(connection, run.id, "dead", at, "its runner died at each attempt")
                    continue
                counts = 0 if run.state == "parked" else 1
                fresh = {"owner": owner, "fence": run.fence + 1, "attempts": run.attempts + counts}
                fresh |= {"state": "running", "started_at": at, "ended_at": None, "lease_until": at + lease}
                connection.execute(update(job_runs).where(job_runs.c.id == run.id).values(fresh))
                return Claim(run.job, run.scheduled_for, owner, fresh["fence"], fresh["attempts"])

    def renew(self, claim: Claim, at: datetime, *, lease_s: float) -> bool:
        """Heartbeat; False where the claim is void: stop, for somebody else runs it."""
        with self._writing() as connection:
            query = update(job_runs).where(_held(claim)).values(lease_until=at + timedelta(seconds=lease_s))
            return connection.execute(query).rowcount == 1

    def is_done(self, claim: Claim) -> bool:
        """Whether the run ended well under this very claim."""
        c = job_runs.c
        run = and_(c.job == claim.job, c.scheduled_for == claim.scheduled_for, c.fence == claim.fence)
        with self._reading() as connection:
            return connection.scalar(select(c.id).where(run, c.state == "done")) is not None

    def complete(
        self,
        claim: Claim,
        at: datetime,
        *,
        effect: Effect | None = None,
        follow_ups: Sequence[tuple[str, datetime]] = (),
        run_id: str = "",
    ) -> bool:
        """Commit the job's effect, the runs that follow from it and its "done" together; False where the claim is void.

        Parameters
        ----------
        effect : callable, optional
            Writes through the connection it is given, and nowhere else.
        follow_ups : sequence of (job, scheduled_for)
            Runs to plan; those that are planned already stay as they are.
        """
        done = {"state": "done", "ended_at": at, "run_id": run_id, "lease_until": None, "error": ""}
        with self._writing(lock="jobs") as connection:
            if connection.execute(update(job_runs).where(_held(claim)).values(done)).rowcount == 0:
                return False
            if effect is not None:
                effect(connection)
            for job, scheduled_for in follow_ups:
                _planned(connection, job, scheduled_for)
            return True

    def fail(self, claim: Claim, error: str, at: datetime, *, max_attempts: int, back_off_s: float) -> str:
        """End an attempt that failed: `failed` (it is tried again, later each time), `dead`, or `void`."""
        state = "dead" if claim.attempts >= max_attempts else "failed"
        wait = min(timedelta(seconds=back_off_s * 2.0 ** min(claim.attempts - 1, 30)), LONGEST_BACK_OFF)
        return state if self._ended(claim, state, error, at, at + wait) else "void"

    def park(self, claim: Claim, why: str, at: datetime, *, look_again_s: float) -> bool:
        """Put a run aside whose code cannot be imported; no attempt is used up. It is looked at again by itself."""
        return self._ended(claim, "parked", why, at, at + timedelta(seconds=look_again_s), attempts=claim.attempts - 1)

    def hand_back(self, claim: Claim, at: datetime) -> bool:
        """Give a claim back unused or interrupted by our own stop: it is due again, and the attempt does not count."""
        return self._ended(claim, "due", "", at, None, attempts=max(claim.attempts - 1, 0))

    def retry(self, job: str, scheduled_for: datetime) -> None:
        """A person has a run that is dead, failed, parked or skipped run again, with all its attempts.

        Raises
        ------
        DataError
            There is no such run, or it is running, due or done.
        """
        again = {"state": "due", "attempts": 0, "not_before": None, "error": ""}
        self._by_hand(job, scheduled_for, ("dead", "failed", "parked", "skipped"), again)

    def skip(self, job: str, scheduled_for: datetime, at: datetime, why: str) -> None:
        """A person decides that a run is not needed.

        Raises
        ------
        DataError
            There is no such run, or it is running or done.
        """
        self._by_hand(
            job, scheduled_for, ("due", "failed", "parked", "dead"), {"state": "skipped", "ended_at": at, "error": why}
        )

    def all(self, job: str | None = None, *, states: Sequence[str] = STATES) -> list[JobRun]:
        """Runs of one job or of every job, by scheduled time."""
        query = select(job_runs).where(job_runs.c.state.in_(states))
        if job is not None:
            query = query.where(job_runs.c.job == job)
        with self._reading() as connection:
            return every(connection, JobRun, query.order_by(job_runs.c.scheduled_for, job_runs.c.id))

    def last_planned(self) -> dict[str, datetime]:
        """The newest scheduled time of each job that was ever planned."""
        query = select(job_runs.c.job, func.max(job_runs.c.scheduled_for)).group_by(job_runs.c.job)
        with self._reading() as connection:
            return {row.job: row[1] for row in connection.execute(query)}

    def _ended(
        self,
        claim: Claim,
        state: str,
        error: str,
        at: datetime,
        not_before: datetime | None,
        attempts: int | None = None,
    ) -> bool:
        fresh: dict[str, Any] = {
            "state": state,
            "error": error[-ERROR_CHARS:],
            "ended_at": at,
            "not_before": not_before,
        }
        fresh |= {"lease_until": None, "attempts": claim.attempts if attempts is None else attempts}
        with self._writing() as connection:
            return connection.execute(update(job_runs).where(_held(claim)).values(fresh)).rowcount == 1

    def _by_hand(self, job: str, scheduled_for: datetime, states: Sequence[str], fresh: dict[str, Any]) -> None:
        c = job_runs.c
        run = and_(c.job == job, c.scheduled_for == scheduled_for)
        with self._writing(lock="jobs") as connection:
            if connection.execute(update(job_runs).where(run, c.state.in_(states)).values(fresh)).rowcount == 0:
                state = connection.scalar(select(c.state).where(run)) or "no such run"
                rule = f"run of {job} at {scheduled_for.isoformat()} must be one of {', '.join(states)}"
                raise DataError(f"{rule}, got {state}. List them with `trader-mlops job list`.")


def run_key(job: str, scheduled_for: datetime) -> str:
    """How evidence names a run of a job."""
    return f"{job}@{scheduled_for.isoformat()}"


def _planned(connection: Connection, job: str, scheduled_for: datetime, *, state: str = "due", note: str = "") -> bool:
    row = {"job": job, "scheduled_for": scheduled_for, "state": state, "attempts": 0, "run_id": "", "error": note}
    return added(connection, job_runs, row)


def _first(connection: Connection, at: datetime, lease: timedelta) -> Any:
    """The oldest run that may start. A time further ahead than was ever asked for means that the clock was set back."""
    c, other = job_runs.c, job_runs.alias("other")
    waits = and_(c.not_before > at, c.not_before <= at + LONGEST_BACK_OFF)
    ready = and_(c.state.in_(("due", "failed", "parked")), or_(c.not_before.is_(None), ~waits))
    expired = and_(c.state == "running", or_(c.lease_until.is_(None), ~_alive(c.lease_until, at, lease)))
    busy = select(other.c.id).where(
        other.c.job == c.job, other.c.id != c.id, other.c.state == "running", _alive(other.c.lease_until, at, lease)
    )
    query = select(c.id, c.job, c.scheduled_for, c.state, c.attempts, c.fence).where(or_(ready, expired))
    return connection.execute(query.where(~busy.exists()).order_by(c.scheduled_for, c.id).limit(1)).one_or_none()


def _alive(lease_until: Any, at: datetime, lease: timedelta) -> ColumnElement[bool]:
    return and_(lease_until > at, lease_until <= at + 2 * lease)


def _end(connection: Connection, row: int, state: str, at: datetime, error: str) -> None:
    fresh = {"state": state, "ended_at": at, "lease_until": None, "error": error}
    connection.execute(update(job_runs).where(job_runs.c.id == row).values(fresh))


def _held(claim: Claim) -> ColumnElement[bool]:
    c = job_runs.c
    run = and_(c.job == claim.job, c.scheduled_for == claim.scheduled_for)
    return and_(run, c.state == "running", c.fence == claim.fence)
