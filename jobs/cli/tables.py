"""Tables at the terminal of which nothing is cut: the next command needs the key, the time or the sum in it."""

from __future__ import annotations

from rich.table import Column, Table


def listing(*names: str, numbers: tuple[str, ...] = (), title: str | None = None) -> Table:
    """A table whose cells go on in the next line where they do not fit; `numbers`: columns that never do."""
    columns = (
        Column(name, no_wrap=True, justify="right") if name in numbers else Column(name, overflow="fold")
        for name in names
    )
    return Table(*columns, title=title)
