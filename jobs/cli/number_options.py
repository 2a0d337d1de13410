"""Numbers on a command line: plain digits, where typer's own would take `1_000`, blanks and digits of other scripts."""

from __future__ import annotations

from collections.abc import Callable

import typer

from mlops import numerals
from mlops.errors import DataError

LARGEST = 2**31 - 1  # what both databases hold in a key


def whole(low: int, high: int = LARGEST) -> Callable[[str | int], int]:
    """What reads a whole number from `low` to `high`. A default of ours is a number already."""

    def integer(given: str | int) -> int:
        try:
            number = numerals.whole("it", given) if isinstance(given, str) else given
        except DataError as error:
            raise typer.BadParameter(str(error)) from error
        if not low <= number <= high:
            raise typer.BadParameter(f"it must be {low} to {high}, got {number}.")
        return number

    return integer


def decimal(given: str | float) -> float:
    """A number with or without a fraction."""
    try:
        return numerals.decimal("it", given) if isinstance(given, str) else given
    except DataError as error:
        raise typer.BadParameter(str(error)) from error
