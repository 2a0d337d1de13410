"""The newest row of each group of a table, by one question: a seek into its key a group, however many rows each has.

For looks: nothing is held against checksums.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

from sqlalchemy import (
    CTE,
    BigInteger,
    Column,
    ColumnElement,
    Connection,
    Label,
    Select,
    Table,
    bindparam,
    func,
    select,
    type_coerce,
)


def newest(
    connection: Connection,
    table: Table,
    names: Sequence[str],
    last: str,
    *,
    model: str | None = None,
    until: int | None = None,
    read: Sequence[str] = (),
) -> Sequence[Any]:
    """For each group by `names`, in order: its values, its largest `last` (until `until`), and `read` of that row.

    `last` must follow `names` in a key or an index, where an instant is one in microseconds. `model`: only groups of
    that one, which is the first of `names`.
    """
    query = _query(table, tuple(names), last, tuple(read), of_model=model is not None, within=until is not None)
    given = {"model": model, "until": until}
    return connection.execute(query, {name: value for name, value in given.items() if value is not None}).all()


@lru_cache
def _query(
    table: Table, names: tuple[str, ...], last: str, read: tuple[str, ...], *, of_model: bool, within: bool
) -> Select[Any]:
    chain, other = _groups(table, names, of_model=of_model), table.alias()
    rules = [other.c[name] == chain.c[name] for name in names]
    if within:
        rules.append(_raw(other.c[last]) <= bindparam("until"))
    each = [chain.c[name] for name in names]
    of_last = [
        select(_raw(other.c[name])).where(*rules).order_by(other.c[last].desc()).limit(1).correlate(chain)
        for name in (last, *read)
    ]
    named = (query.scalar_subquery().label(name) for query, name in zip(of_last, (last, *read), strict=True))
    return select(*each, *named).where(each[-1].is_not(None)).order_by(*each)


def _groups(table: Table, names: Sequence[str], *, of_model: bool) -> CTE:
    """The distinct values of `names`, column by column; some are NULL."""
    groups: CTE | None = None
    for i, name in enumerate(names):
        groups = _each(table, names[:i], name, groups, of_model=of_model)
    assert groups is not None
    return groups


def _each(table: Table, before: Sequence[str], name: str, groups: CTE | None, *, of_model: bool) -> CTE:
    """The groups with each value of one more column, from the least on."""

    def least(of: CTE | None, *rules: ColumnElement[bool]) -> Label[Any]:
        same = [] if of is None else [table.c[column] == of.c[column] for column in before]
        query = select(func.min(table.c[name])).where(*same, *rules)
        return (query if of is None else query.correlate(of)).scalar_subquery().label(name)

    only = (table.c[name] == bindparam("model"),) if of_model and not before else ()
    if groups is None:
        first = select(least(None, *only))
    else:
        first = select(*(groups.c[column] for column in before), least(groups)).where(groups.c[before[-1]].is_not(None))
    chain = first.cte(recursive=True)
    value = chain.c[name]
    following = select(*(chain.c[column] for column in before), least(chain, table.c[name] > value, *only))
    return chain.union_all(following.where(value.is_not(None)))


def _raw(column: Column[Any]) -> ColumnElement[Any]:
    """Instants as they are stored."""
    return type_coerce(column, BigInteger) if column.name == "event_time" else column
