"""Loosening of the trading state: a person accepts the hard breaches of that moment, at confirmed prices."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime

from jobs.context import Context
from jobs.live.risk import Live, clock
from jobs.live.risk_limits import STRICTNESS
from mlops import policy
from mlops.errors import DataError
from mlops.risk.limits import State
from mlops.types import Finding, TradingState


def set_state(
    context: Context,
    state: TradingState,
    actor: str,
    reason: str,
    at: datetime,
    show: Callable[[Sequence[str]], object] = lambda crossed: None,
) -> bool:
    """Set the trading state for a person; False where it holds already. Tightening asks nothing.

    `show` is given what a loosening would accept, a sentence for each hard line that is crossed, before anything is
    written; what it raises ends it.

    Raises
    ------
    DataError
        It would be loosened while a price is not confirmed, or it was changed since it was read.
    """
    log = context.ledger.trading.log()
    before, seq = (log[-1].state, log[-1].seq) if log else (TradingState.ACTIVE, 0)
    if STRICTNESS.index(state) >= STRICTNESS.index(before):
        return context.ledger.trading.set(state, actor, reason, at)
    findings = crossed(context, at)
    if findings:
        show([_told(finding) for finding in findings])
    accepted = {f"{finding.name}:{finding.subject}": finding.value for finding in findings}
    if context.ledger.trading.set(state, actor, reason, at, after=seq, accepted=accepted):
        return True
    now = context.ledger.trading.log()[-1]
    raise DataError(f"trading state must be {before.value} as you saw it, got {now.state.value}. Look at it again.")


def crossed(context: Context, at: datetime) -> tuple[Finding, ...]:
    """The hard lines that are crossed."""
    look = Live(context, records=False).look(clock(context, at))
    if look.jumps:
        quotes = ", ".join(f"{unit} quoted at {jump.value:g}" for unit, jump in sorted(look.jumps.items()))
        remedy = "Say what is right: `trader-mlops price list`, then `trader-mlops price confirm UNIT PRICE`."
        raise DataError(f"trading must be loosened at confirmed prices, got {quotes}. {remedy}")
    return tuple(finding for finding in look.findings if finding.params["state"] is State.HARD)


def _told(finding: Finding) -> str:
    most = finding.value / finding.limit + policy.WORSE
    return f"{finding.note}; it would be accepted up to {most:.0%} of its line"
