"""Numbers as people and programs write them: plain digits, or refused.

Python alone would also take `1_000`, blanks, and digits of other scripts.
"""

from __future__ import annotations

import math
import re

from mlops.errors import DataError

WHOLE = re.compile(r"-?[0-9]{1,18}")
DECIMAL = re.compile(r"[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?")
SHOWN = 40  # characters of what is refused


def whole(name: str, text: str) -> int:
    """The whole number that a text is, in plain digits.

    Raises
    ------
    DataError
        It is none.
    """
    if WHOLE.fullmatch(text) is None:
        raise DataError(f"{name} must be a whole number in plain digits, got {text[:SHOWN]!r}. Write 1000.")
    return int(text)


def decimal(name: str, text: str) -> float:
    """The number that a text is, in plain digits.

    Raises
    ------
    DataError
        It is none, or not finite.
    """
    value = float(text) if DECIMAL.fullmatch(text) else math.nan
    if not math.isfinite(value):
        raise DataError(f"{name} must be a number in plain digits, got {text[:SHOWN]!r}. Write 1234.5, without units.")
    return value
