"""How old the parameters and prices are that the VaR stands on: old ones still count, but nothing is usual of them."""

from __future__ import annotations

from datetime import datetime
from functools import partial

import numpy as np
import pandas as pd

from jobs.live import fields
from jobs.portfolio.valuation import Held
from jobs.portfolio.weights import Night

DAYS = 365.25
PARAMETERS, PRICES, NAMED = 2, 1, 3  # sessions that they may be old; units that are named
LATE, LONG = 0.5, 2  # of a session; days of one that is none of a day


def outdated(held: Held, night: Night | None) -> str:
    """Whether the VaR stands on what is old, in words; empty where it does not."""
    if night is None:
        return ""
    sentences = []
    end = night.bars[-1].to_pydatetime() if len(night.bars) else night.as_of
    ago = partial(_sessions, days=max(1.0, DAYS / night.bars_a_year), rests=_rests(night.bars))
    late = {at: ago(at, held.as_of) > PARAMETERS for at in (night.as_of, end)}
    if late[night.as_of]:
        sentences.append(f"The VaR's parameters are {_age(night.as_of, held.as_of)} old: `trader-mlops job run risk`.")
    elif late[end]:
        ended = f"The VaR's bars ended on {end:%Y-%m-%d}, {_age(end, held.as_of)} ago"
        sentences.append(f"{ended}: load newer ones (`jobs.source`), then `trader-mlops job run risk`.")
    units = [unit for unit in dict.fromkeys(held.frame["unit"]) if unit in held.prices]
    at = {unit: held.prices[unit].at for unit in units}
    old = sorted(
        (unit for unit in units if ago(at[unit], held.as_of) > PRICES),
        key=lambda unit: at[unit],
    )
    if old:
        names = ", ".join(f"{unit} ({_age(at[unit], held.as_of)})" for unit in old[:NAMED])
        more = f" and {len(old) - NAMED} more" if len(old) > NAMED else ""
        sentences.append(f"The VaR stands on old prices: {names}{more}.")
    return " ".join(sentences)


def _rests(bars: pd.DatetimeIndex) -> bool:
    """Whether the markets of the bars rest on weekends, whatever a bar's length is."""
    return len(bars) > 0 and not (bars.weekday > fields.FRIDAY).any()


def _sessions(since: datetime, as_of: datetime, *, days: float, rests: bool) -> float:
    """How many whole sessions of `days` ago an instant was, half a one of lateness granted."""
    if days > LONG or not rests:
        return (as_of - since).total_seconds() / 86_400 / days - LATE
    return float(np.busday_count(since.date(), as_of.date()))


def _age(since: datetime, as_of: datetime) -> str:
    return fields.age((as_of - since).total_seconds())
