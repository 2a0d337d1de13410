"""Books whose account nobody knows: their money is shown, and no share of an equity that is not there."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Any, Literal

import numpy as np

from jobs.live import fields as rows
from jobs.portfolio.valuation import Held, book_name
from mlops.io.ledger import BookKey
from mlops.risk.exposure import Groups
from mlops.risk.limits import ALL, Measured
from mlops.web.messages import BalanceNow, Exposure, Kpi, PositionNow, RiskState

NAMED = 3
Dimension = Literal["strategy", "sector", "currency", "underlying"]
MODEL_FREE = "of what is known"


def missing(whole: Held) -> dict[str, str]:
    """Accounts of which nothing is known: a sentence a book."""
    return {
        f"balance:{key.model}/{key.book}": (
            f"No balance of {key.model}/{key.book} is known: it counts from a notional amount, and no limit in per "
            "cent of equity is held against it. Send one (POST /v1/balances), or set books.balances."
        )
        for key in whole.unbalanced
    }


def marked(measured: Iterable[Measured], whole: Held) -> Iterator[Measured]:
    """Measures as lines may be held against them: unknown without a balance, of what is known with some."""
    for m in measured:
        accounts = {key: known for key, known in whole.accounts.items() if m.scope in (ALL, key.model)}
        lacking = [f"{key.model}/{key.book}" for key, known in accounts.items() if known is None]
        if not lacking:
            yield m
        elif len(lacking) == len(accounts):
            yield replace(m, value=math.nan, why=_why(lacking), at_least=False)
        else:
            why, words = ("; ".join(filter(None, (m.why, _why(lacking)))), m.words if m.why else MODEL_FREE)
            yield replace(m, why=why, at_least=m.at_least or not m.why, words=words)


def shown(state: RiskState, whole: Held) -> RiskState:
    """The state with every book's account, and with the rows of the books that are in no sum."""
    counted = whole.counted()
    more = _rows(whole.rest())
    models = {
        name: replace(model, notional=any(key.model == name and _bare(key, whole) for key in whole.books))
        for name, model in state.models.items()
    }
    exposed = _named(state.exposure, whole.rest())
    now = replace(
        state, positions={**state.positions, **more}, exposure=exposed, models=models, balances=balances(whole)
    )
    if not counted.notional:
        return now
    kpi = replace(now.kpi, notional=rows.known(counted.equity))
    if not counted.unbalanced:  # a virtual book trades shares of its own notional equity
        marks = {name: replace(row, notional=True) for name, row in now.positions.items()}
        return replace(now, kpi=kpi, positions=marks)
    return replace(
        now,
        kpi=_money_only(kpi),
        positions={name: _bare_row(row) for name, row in now.positions.items()},
        exposure={by: {name: Exposure() for name in names} for by, names in now.exposure.items()},
        stress={name: replace(row, loss=None) for name, row in now.stress.items()},
    )


def balances(whole: Held) -> dict[str, BalanceNow]:
    """Account behind each book, as far as it is known."""
    equities, each = whole.equities(), dict[str, BalanceNow]()
    for key in whole.books:
        account, equity = whole.accounts.get(key), rows.known(equities[key])
        if key.version:
            now = BalanceNow(equity=equity, source="virtual", note="It trades on paper: notional by nature.")
        elif account is None:
            now = BalanceNow(note="No balance is known: no limit in per cent of equity is held against it.")
        else:
            departs = account.departs or None
            aside = "Held aside: more than its trades explain. `trader-mlops balance confirm` accepts it."
            note = aside if account.departs > 0 else ""
            now = BalanceNow(account.amount, equity, account.at, account.source, departs, note)
        each[f"{key.model}/{book_name(key)}"] = now
    return each


def _why(lacking: list[str]) -> str:
    more = f" and {len(lacking) - NAMED} more" if len(lacking) > NAMED else ""
    return f"no balance is known of {', '.join(lacking[:NAMED])}{more}"


def _bare(key: BookKey, whole: Held) -> bool:
    return whole.accounts.get(key) is None


def _money_only(kpi: Kpi) -> Kpi:
    """Without what is a share of equity; levels stay, for a line that cannot be held is unknown already."""
    none: Mapping[str, Any] = {"value": None, "bound": None}
    drawdown = replace(kpi.drawdown, now=None, worst=None)
    uses = {name: replace(getattr(kpi, name), **none) for name in ("gross", "net", "leverage")}
    losses = {name: replace(getattr(kpi, name), **none, estimate=None) for name in ("var", "es")}
    return replace(kpi, equity=None, pnl_today=None, drawdown=drawdown, **uses, **losses)


def _bare_row(row: PositionNow) -> PositionNow:
    return replace(row, weight=None, component_var=None, component_es=None, stand_in=None, notional=True)


def _named(exposure: Mapping[Dimension, Mapping[str, Exposure]], rest: Held) -> dict[Dimension, Mapping[str, Exposure]]:
    """Exposure with the names of what is in no sum: a share of an equity that nobody knows is a dash."""
    names = Groups.of(rest.frame).names
    return {
        by: {**dict.fromkeys(names.get("symbol" if by == "underlying" else by, ()), Exposure()), **known}
        for by, known in exposure.items()
    }


def _rows(held: Held) -> dict[str, PositionNow]:
    """Positions that are in no sum: what they are worth, and what they made."""
    value = np.asarray(held.value, dtype=np.float64)
    columns = {"value": value, "pnl": value - held.frame["cost"].to_numpy(dtype=np.float64)}
    positions = rows.positions(held.frame, columns, held.expired, {}, stale=[False] * len(held.frame))
    return {name: replace(row, notional=True) for name, row in positions.items()}
