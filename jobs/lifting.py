"""What a person lets stand who loosens the trading state: the hard breaches of that moment, at confirmed prices."""

from __future__ import annotations

from datetime import datetime

from jobs.house import House
from jobs.live import Live, clock
from jobs.risk_limits import STRICTNESS
from mlops.errors import DataError
from mlops.risk.limits import State
from mlops.types import TradingState


def set_state(house: House, state: TradingState, actor: str, reason: str, at: datetime) -> bool:
    """Set the trading state for a person; False where it holds already. Tightening asks nothing.

    Raises
    ------
    DataError
        It would be loosened while a price is not confirmed, or it was changed since it was read.
    """
    log = house.ledger.trading_log()
    before, seq = (log[-1].state, log[-1].seq) if log else (TradingState.ACTIVE, 0)
    if STRICTNESS.index(state) >= STRICTNESS.index(before):
        return house.ledger.set_trading_state(state, actor, reason, at)
    accepted = breaches(house, at)
    if house.ledger.set_trading_state(state, actor, reason, at, after=seq, accepted=accepted):
        return True
    now = house.ledger.trading_log()[-1]
    raise DataError(f"trading state must be {before.value} as you saw it, got {now.state.value}. Look at it again.")


def breaches(house: House, at: datetime) -> dict[str, float]:
    """The hard breaches that stand, value by `measure:scope`."""
    look = Live(house, records=False).look(clock(house, at))
    if look.jumps:
        told = ", ".join(f"{unit} quoted at {jump.value:g}" for unit, jump in sorted(look.jumps.items()))
        remedy = "Say what is right: `trader-mlops price list`, then `trader-mlops price confirm UNIT PRICE`."
        raise DataError(f"trading must be loosened at confirmed prices, got {told}. {remedy}")
    return {f"{f.name}:{f.subject}": f.value for f in look.findings if f.params["state"] is State.HARD}
