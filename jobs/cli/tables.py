"""Lists at the terminal and for programs: the same rows as a table, as blocks where that is too narrow, or as JSON.

Nothing is cut: the next command needs the key, the time or the sum.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Annotated, Any

import orjson
import typer
from rich.console import Group, RenderableType
from rich.measure import Measurement
from rich.table import Column, Table
from rich.text import Text

from jobs.cli.terminal import WIDE, console, put, width

AsJson = Annotated[bool, typer.Option("--json", help="For a program: an array, an object a row.")]
Rows = Sequence[Mapping[Any, Any]]
MINUTES, SECONDS, EXACT = "%Y-%m-%d %H:%M", "%Y-%m-%d %H:%M:%S", "%Y-%m-%dT%H:%M:%S.%f%z"


def show(
    rows: Rows,
    columns: Sequence[str],
    *,
    as_json: bool = False,
    title: str = "",
    formats: Mapping[str, str] | None = None,
    styles: Sequence[str] = (),
) -> None:
    """Print rows, or the same rows as JSON.

    Parameters
    ----------
    rows : sequence of mappings
        Each has a value for every column; None where it is not known.
    columns : sequence of str
        Names in JSON; with blanks for `_` they head the table.
    formats : mapping, optional
        Column -> how `format` writes its numbers or times; times are UTC, to the minute where nothing is said.
    styles : sequence of str
        A style for each row.
    """
    if as_json:
        print_json([{name: row[name] for name in columns} for row in rows])
        return
    if not rows:
        console.print(f"{title}: none." if title else "None.", markup=False)
        return
    view = listing(rows, columns, title=title, formats=formats, styles=styles)
    put(view)


def listing(
    rows: Rows,
    columns: Sequence[str],
    *,
    title: str = "",
    formats: Mapping[str, str] | None = None,
    styles: Sequence[str] = (),
) -> RenderableType:
    """Rows as a table; as blocks of `name: value` where the terminal is too narrow for one."""
    cells = [[text(row[name], (formats or {}).get(name, "")) for name in columns] for row in rows]
    heads = [name.replace("_", " ") for name in columns]
    styled = [*styles, *[""] * (len(cells) - len(styles))]
    numbers = [any(_number(row[name]) for row in rows) for name in columns]
    table = Table(*(Column(h, justify="right" if n else "left") for h, n in zip(heads, numbers, strict=True)))
    table.title = title or None
    for row, style in zip(cells, styled, strict=True):
        table.add_row(*(Text(cell) for cell in row), style=style)
    if Measurement.get(console, console.options.update(width=WIDE), table).maximum <= width():
        return table
    blocks = [_block(heads, row, style) for row, style in zip(cells, styled, strict=True)]
    return Group(*([Text(title, style="italic")] if title else []), *blocks)


def _block(heads: Sequence[str], row: Sequence[str], style: str) -> Text:
    """One row: its first column, and below it what else is known."""
    block = Text(row[0], style=style or "bold")
    for head, cell in zip(heads[1:], row[1:], strict=True):
        if cell:
            block.append(f"\n  {head}: ", style="dim").append(cell, style="default not bold")
    return block


def text(value: object, spec: str = "") -> str:
    """A value as a person reads it; nothing where it is not known."""
    if value is None or (isinstance(value, float) and math.isnan(value)) or str(value) == "NaT":
        return ""
    if isinstance(value, datetime):
        return value.isoformat() if spec == EXACT else format(value, spec or MINUTES)
    if isinstance(value, float):
        return format(value, spec or "g")
    if isinstance(value, list | tuple):
        return ", ".join(map(str, value))
    return format(value, spec) if spec and not isinstance(value, str) else str(value)


def print_json(content: object) -> None:
    """Print JSON: times with their offset, null for what is not known."""
    option = orjson.OPT_INDENT_2 | orjson.OPT_SERIALIZE_NUMPY | orjson.OPT_NON_STR_KEYS
    sys.stdout.write(orjson.dumps(content, default=_plain, option=option).decode() + "\n")


def _number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _plain(value: Any) -> object:
    """A value that JSON has no word for."""
    return None if str(value) == "NaT" else str(value)
