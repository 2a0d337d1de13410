"""A page of evidence for people: one self-contained HTML text from a template of this package."""

from __future__ import annotations

import math
from collections.abc import Mapping
from datetime import datetime
from typing import Any

import pandas as pd
from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape

DIGITS = {  # of a metric's unit: factor, decimals, sign after the number
    "share": (100, 1, " %"),  # differences of shares are points
    "share of the peak": (100, 1, " %"),
    "nats": (1, 4, ""),
    "squared error": (1, 4, ""),
    "basis points": (1, 1, ""),
    "milliseconds": (1, 1, ""),
    "times equity a year": (1, 1, ""),
}
UNKNOWN = "–"


def render(name: str, context: Mapping[str, Any]) -> str:
    """The template `name` filled with `context`. A name that the context lacks is an error, not a gap."""
    environment = Environment(
        loader=PackageLoader("mlops.plots"),
        autoescape=select_autoescape(["html"]),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"number": number, "measure": measure, "percent": percent, "p": p_value, "day": day}
    return environment.get_template(name).render(**context)


def number(value: float | None, decimals: int = 2, *, signed: bool = False) -> str:
    """A number with a real minus sign, thousands apart; a dash where it is unknown.

    Examples
    --------
    >>> number(-1234.5, 1), number(0.25, signed=True), number(float("nan"))
    ('−1,234.5', '+0.25', '–')
    """
    if value is None or math.isnan(value):
        return UNKNOWN
    if math.isinf(value):
        return "−∞" if value < 0 else "∞"
    text = f"{value:+,.{decimals}f}" if signed else f"{value:,.{decimals}f}"
    zero = float(text.replace(",", "")) == 0
    return f"{0:.{decimals}f}" if zero else text.replace("-", "−")


def measure(value: float, unit: str, *, signed: bool = False) -> str:
    """A value of a metric in the digits of its unit.

    Examples
    --------
    >>> measure(0.7462, "share"), measure(-0.117, "nats", signed=True)
    ('74.6 %', '−0.1170')
    """
    factor, decimals, sign = DIGITS.get(unit, (1, 2, ""))
    if signed and sign == " %":
        sign = " points"
    text = number(factor * value, decimals, signed=signed)
    return text if text == UNKNOWN else text + sign


def percent(value: float, decimals: int = 0) -> str:
    """A share in percent; under half a step it says "under"."""
    if math.isnan(value):
        return UNKNOWN
    least = 0.5 * 10**-decimals
    return f"under {10**-decimals:g} %" if 0 < 100 * value < least else f"{number(100 * value, decimals)} %"


def p_value(value: float) -> str:
    """A p-value in two digits.

    Examples
    --------
    >>> p_value(0.0321), p_value(0.00004)
    ('0.032', '< 0.001')
    """
    if math.isnan(value):
        return UNKNOWN
    return "< 0.001" if value < 0.001 else f"{value:.2g}"


def day(at: datetime | pd.Timestamp | None) -> str:
    """The date, in UTC."""
    return UNKNOWN if at is None else f"{at:%Y-%m-%d}"
