"""Prices that are not confirmed, told to people: beside the position, and as an alert where they do not settle."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta

from jobs.portfolio.valuation import Held
from mlops.alerts import ALERTS
from mlops.io.ledger import Ledger
from mlops.risk.limits import Line, Measured, State, judge
from mlops.risk.prices import Jump
from mlops.types import Alert

PATIENCE = 2  # times `risk.price_confirm_s`: what would confirm itself has done so by then
STRICT = [State.OK, State.WARNING, State.SOFT, State.HARD]


def notes(held: Held, confirm: timedelta) -> dict[str, str]:
    """Unit -> what is not confirmed about its price, or why its newest quote is none."""
    texts = {
        unit: f"{unit} is quoted {quote.bid:g} to {quote.ask:g}, which is no price."
        for unit, quote in held.unusable.items()
        if unit in held.prices
    }
    return texts | {unit: _note(held, unit, jump, confirm) for unit, jump in held.jumps.items()}


def settle(ledger: Ledger, held: Held, confirm: timedelta) -> None:
    """Tell of each jump that does not settle by itself, once, and close what is settled."""
    open_now = {alert.key for alert in ledger.alerts.newest("price_jump")}
    jumps = ((_alert(held, unit, jump, confirm), jump) for unit, jump in held.jumps.items())
    wanted = [alert for alert, jump in jumps if alert.key in open_now or _lasts(jump, held.as_of, confirm)]
    ledger.alerts.settle("price_jump", wanted, held.as_of)


def _lasts(jump: Jump, as_of: datetime, confirm: timedelta) -> bool:
    """Whether it does not settle by itself."""
    return jump.sustained or jump.at - jump.since >= confirm or as_of - jump.since >= PATIENCE * confirm


def hedged(lines: Sequence[Line], known: Sequence[Measured], others: Sequence[Sequence[Measured]]) -> list[Measured]:
    """What was measured, with a reason where a price that is not confirmed would put it beyond a further line.

    It still counts as what it is at confirmed prices.
    """
    if not others:
        return list(known)
    before = {(f.name, f.subject): f.params["state"] for f in judge(lines, known)}
    after = [{(f.name, f.subject): f.params["state"] for f in judge(lines, measures)} for measures in others]
    doubtful = {key for key, state in before.items() if any(_worse(states[key], state) for states in after)}
    why = "it depends on a price that is not confirmed"
    return [
        replace(m, why=m.why or why, at_least=True, words=m.words if m.why else "at confirmed prices")
        if (m.measure, m.scope) in doubtful
        else m
        for m in known
    ]


def _worse(state: State, than: State) -> bool:
    """Unknown is worse than what is under the hard line."""
    if than is State.UNKNOWN:
        return False
    return than is not State.HARD if state is State.UNKNOWN else STRICT.index(state) > STRICT.index(than)


def _note(held: Held, unit: str, jump: Jump, confirm: timedelta) -> str:
    """Both prices, and what is waited for."""
    mark = held.prices[unit]
    text = (
        f"{unit} is quoted at {jump.value:g} since {jump.since:%H:%M:%S} UTC, not confirmed; valued at {mark.value:g}"
    )
    word = f"`trader-mlops price confirm {unit} {jump.value:g}`, or another price, settles it"
    if not math.isnan(jump.split):
        n = f"{jump.split:g} for 1 split" if jump.split > 1 else f"1 for {1 / jump.split:g} reverse split"
        ratio = f"{jump.split:g}:1" if jump.split > 1 else f"1:{1 / jump.split:g}"
        book = f"`trader-mlops price split {unit} {ratio}` books it"
        return (
            f"{text}. It looks like a {n}: {book}; if it is none, `trader-mlops price confirm {unit}` with the price."
        )
    if mark.at > jump.at:
        return f"{text}. Quotes say the one and the other by turns: {word}."
    if held.as_of - jump.at >= confirm:
        return f"{text}. No quote has come since {jump.at:%H:%M:%S}: one that agrees, a fill, a bar, or {word}."
    return f"{text} until quotes have stood there for {confirm.total_seconds():g} s."


def _alert(held: Held, unit: str, jump: Jump, confirm: timedelta) -> Alert:
    details = {"unit": unit, "price": held.prices[unit].value, "unconfirmed": jump.value}
    words = {"unit": unit, "time": f"{jump.since:%Y-%m-%dT%H:%M:%S}", "note": _note(held, unit, jump, confirm)}
    return ALERTS["price_jump"].alert(held.as_of, words, details=details)
