"""The trading state: one switch above all models, thrown by a person or a job, and never without a reason.

ACTIVE: orders as the models ask for. REDUCING: no new positions; open ones may only shrink. HALTED: no orders at all,
not even to close; what is open stays open. A job only tightens it; to lift it is a person's decision.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

import orjson
from sqlalchemy import select

from mlops.errors import DataError
from mlops.io.ledger.outbox import announce
from mlops.io.storage.database import Tables
from mlops.io.storage.schema import trading_states
from mlops.types import TradingState


@dataclass(frozen=True, slots=True)
class TradingChange:
    """An entry of the log: who set which state, why, when.

    `accepted`: the value of each breach that stood when a person loosened the state, by `measure:scope`; None where
    nobody looked.
    """

    seq: int
    state: TradingState
    actor: str
    reason: str
    created_at: datetime
    accepted: Mapping[str, float] | None = None


class Trading(Tables):
    """The log of the trading state; the last entry holds."""

    def state(self) -> TradingState:
        """The state now; `active` when none was ever set."""
        query = select(trading_states.c.state).order_by(trading_states.c.seq.desc()).limit(1)
        with self._reading() as connection:
            return TradingState(connection.scalar(query) or TradingState.ACTIVE)

    def set(
        self,
        state: TradingState | str,
        actor: str,
        reason: str,
        at: datetime,
        correlation_id: str = "",
        *,
        after: int | None = None,
        accepted: Mapping[str, float] | None = None,
    ) -> bool:
        """Set the state and announce it to the bot, in one transaction; False where it holds already.

        `after`: the number of the change that was the last one when this was decided (0: none was). Where another came
        in between, nothing is set, and False returned: look again. `accepted`: the breaches that a person saw, by
        `measure:scope`, and lets stand.

        Raises
        ------
        DataError
            No such state, or nobody or nothing is named as actor or reason.
        """
        if state not in list(TradingState):
            raise DataError(f"trading state must be one of {[*TradingState]}, got {state!r}. Choose one of them.")
        if not (actor.strip() and reason.strip()):
            raise DataError(f"trading state must have actor and reason, got {actor!r} and {reason!r}. Name both.")
        c = trading_states.c
        with self._writing(lock="trading") as connection:
            last = connection.execute(select(c.seq, c.state).order_by(c.seq.desc()).limit(1)).one_or_none()
            before, seq = (last.state, last.seq) if last else (TradingState.ACTIVE.value, 0)
            if before == state or after not in (None, seq):
                return False
            row = {
                "seq": seq + 1,
                "state": TradingState(state).value,
                "actor": actor,
                "reason": reason,
            }
            details = {
                "correlation_id": correlation_id,
                "created_at": at,
                "accepted": orjson.dumps(accepted).decode(),
            }
            connection.execute(trading_states.insert().values(**row, **details))
            announce(connection, "trading_state", "", {**row, "from": before, "at": at.isoformat()}, at, correlation_id)
        return True

    def log(self) -> list[TradingChange]:
        """Every change, oldest first."""
        c = trading_states.c
        query = select(c.seq, c.state, c.actor, c.reason, c.created_at, c.accepted).order_by(c.seq)
        with self._reading() as connection:
            rows = connection.execute(query).all()
        return [
            TradingChange(
                row.seq, TradingState(row.state), row.actor, row.reason, row.created_at, _accepted(row.accepted)
            )
            for row in rows
        ]


def _accepted(text: str) -> Mapping[str, float] | None:
    levels: dict[str, float] | None = orjson.loads(text)
    return levels
