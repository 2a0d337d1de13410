"""The front door: bars in, checked. A bad symbol is set aside with its reason; the good ones go on.

`load_bars("sp500")` 20 large US stocks, daily closes 1990-2022, shipped inside skfolio (survivors: no skill claim).
`load_bars("factors")` five factor funds (value, size, momentum, quality, volatility), daily closes 2014-2022, likewise.
`load_bars("index:sp500")`, `"index:nasdaq"` daily OHLCV 1999-2018, shipped inside arch.
`load_bars("bars.csv")`, `"bars.parquet"` your own, any frequency: long (`event_time,symbol,close` and, where you have
them, `open,high,low,volume,known_at`) or wide (`event_time`, then one column of closes a symbol).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from importlib import import_module
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
from pyarrow import ArrowException

from mlops.errors import DataError
from mlops.io.storage.validation import MAX_TEXT, storable
from mlops.types import BAR_COLUMNS

UNREADABLE = (ValueError, OSError, LookupError, TypeError, OverflowError, MemoryError, ArrowException)
PRICES = ("open", "high", "low", "close")
NEW_YORK_CLOSE = pd.Timedelta(hours=16)
WIDE = 5.0  # nights, weekends and holidays are wide gaps, but never two running: two say that bars are of two kinds
FIRST, END = (pd.Timestamp(f"{year}-01-01", tz="UTC") for year in (1800, 2200))  # of event_time
MIXED_SHARE = 0.01  # of the gaps: a single odd one is a holiday or a late print


@dataclass(frozen=True, slots=True)
class Bars:
    """Checked bars (BAR_COLUMNS and what else the feed has), by event_time and symbol; `rejected`: symbol -> why."""

    frame: pd.DataFrame
    rejected: Mapping[str, str]


def load_bars(source: str, *, start: datetime | None = None, end: datetime | None = None) -> Bars:
    """Bars of `source` with start <= event_time < end.

    Raises
    ------
    DataError
        The file breaks the contract as a whole, or no symbol is good. The message names file, row, rule and remedy.
    """
    raw = PACKAGED[source]() if source in PACKAGED else _read(Path(source))
    bars = check(raw, source)
    keep = pd.Series(True, index=bars.frame.index)
    if start is not None:
        keep &= bars.frame.event_time >= start
    if end is not None:
        keep &= bars.frame.event_time < end
    return Bars(bars.frame[keep].reset_index(drop=True), bars.rejected)


def check(raw: pd.DataFrame, name: str) -> Bars:
    """Hold long bars against the contract, symbol by symbol."""
    if missing := [c for c in ("event_time", "symbol", "close") if c not in raw]:
        raise DataError(f"{name} must have the columns event_time, symbol and close, got none of {missing}. Add them.")
    if not isinstance(raw.event_time.dtype, pd.DatetimeTZDtype):
        got = raw.event_time.iloc[0] if len(raw) else "an empty file"
        raise DataError(
            f"event_time of {name} must carry its time zone, got {got} in row 0. Write 2024-01-02T21:00+00:00."
        )
    if (nameless := raw.symbol.isna() | (raw.symbol == "")).any():
        row = raw.index[nameless.to_numpy()][0]
        raise DataError(f"{name}, row {row}: symbol must have a name, got none. Name it, or drop the row.")
    frame = raw.assign(event_time=raw.event_time.dt.tz_convert("UTC"), symbol=raw.symbol.astype(str))
    frame["known_at"] = frame["known_at"] if "known_at" in frame else frame["event_time"]
    faults = {str(symbol): _fault(rows, name) for symbol, rows in frame.groupby("symbol", sort=True)}
    rejected = {symbol: why for symbol, why in faults.items() if why}
    good = frame[~frame.symbol.isin(list(rejected))]
    if good.empty:
        why = next(iter(rejected.values()), f"{name} has no rows. Export it again.")
        raise DataError(f"{name} must have at least one good symbol, got none. The first fault: {why}")
    order = [*BAR_COLUMNS, *[c for c in (*PRICES, "volume") if c in good and c != "close"]]
    good = good[order].sort_values(["event_time", "symbol"], ignore_index=True)
    # One symbol's text makes the whole column text; the good ones are numbers.
    numbers = {c: pd.to_numeric(good[c]) for c in (*PRICES, "volume") if c in good}
    return Bars(good.assign(**numbers), rejected)


def _fault(rows: pd.DataFrame, name: str) -> str:
    """The first rule that a symbol's rows break, or an empty string."""
    symbol, at = rows.symbol.iloc[0], rows.event_time
    written = rows[[c for c in PRICES if c in rows]]
    prices = written.apply(pd.to_numeric, errors="coerce")
    if not storable(symbol):
        return (
            f"{name}, row {rows.index[0]}: symbol must be text of 1 to {MAX_TEXT} characters, got {symbol!r}. Name it."
        )
    rules: tuple[tuple[pd.Series, str, str], ...] = (
        ((prices.isna() & written.notna()).any(axis=1), "prices must be numbers", "Clean the column."),
        (_worded(rows), "volume must be a number", "Clean the column; leave what is unknown empty."),
        (at.isna(), "event_time must be an instant", "Fill or drop the row."),
        ((at < FIRST) | (at >= END), "event_time must lie between 1800 and 2200", "Export the file again."),
        (at.diff() < pd.Timedelta(0), "event_time must ascend", "Sort the file by event_time."),
        (at.duplicated(), "event_time must be unique", "Keep one bar an instant."),
        (~(rows.known_at >= at), "known_at must not be before event_time", "No bar is known before it closes."),
        (prices.isna().any(axis=1), "prices must not be NaN", "Drop the bar: a gap is honest, a NaN is not."),
        (
            ~pd.Series(np.isfinite(prices.to_numpy(dtype=np.float64)).all(axis=1), index=rows.index),
            "prices must be finite",
            "Drop the bar.",
        ),
        ((prices <= 0).any(axis=1), "prices must be positive", "Drop the bar, or adjust for splits by a factor."),
        (_crossed(prices), "low must not exceed open, close or high", "Check the column order."),
    )
    for broken, rule, remedy in rules:
        if broken.any():
            place = int(np.flatnonzero(broken.to_numpy())[0])
            return f"{name}, row {rows.index[place]}, {symbol}: {rule}, got {_shown(rows.iloc[place])}. {remedy}"
    return _mixed(rows, name, symbol)


def _worded(rows: pd.DataFrame) -> pd.Series:
    """Where the volume is written, and no number."""
    if "volume" not in rows:
        return pd.Series(False, index=rows.index)
    return pd.to_numeric(rows["volume"], errors="coerce").isna() & rows["volume"].notna()


def _crossed(prices: pd.DataFrame) -> pd.Series:
    bad = pd.Series(False, index=prices.index)
    if "high" in prices:
        bad |= prices.max(axis=1) > prices["high"]
    if "low" in prices:
        bad |= prices.min(axis=1) < prices["low"]
    return bad


def _mixed(rows: pd.DataFrame, name: str, symbol: str) -> str:
    gaps = rows.event_time.diff().dropna()
    if len(gaps) < 3:
        return ""
    median = gaps.median()
    wide = gaps > WIDE * median
    odd = (gaps < median / 2) | (wide & wide.shift(-1, fill_value=False))
    if odd.mean() <= MIXED_SHARE:
        return ""
    row = int(odd[odd].index[0])
    got = f"{gaps[row]} beside a median of {median}"
    return f"{name}, row {row}, {symbol}: bars must have one frequency, got {got}. Resample, or split the file."


def _shown(row: pd.Series) -> str:
    return ", ".join(f"{k} {row[k]}" for k in ("event_time", *PRICES, "volume") if k in row)


def _read(path: Path) -> pd.DataFrame:
    if not path.exists():
        names = ", ".join(PACKAGED)
        raise DataError(f"source must be a file or one of {names}, got {path}. Check the path.")
    if path.suffix not in (".csv", ".parquet"):
        raise DataError(f"{path.name} must be .csv or .parquet, got {path.suffix or 'no suffix'}. Convert it.")
    # Symbols as they are written: "NA" and "0700" are names, neither a gap nor a number.
    try:
        frame = _table(path)
    except UNREADABLE as error:  # empty, cut, or of another kind
        kind, got = path.suffix.lstrip("."), repr(error)[:200]
        raise DataError(f"{path.name} must be a readable {kind} file, got {got}. Export it again.") from error
    if "event_time" not in frame:
        raise DataError(f"{path.name} must have a column event_time, got {list(frame)[:8]}. Rename yours.")
    frame["event_time"] = _instants(frame["event_time"], path.name)
    if "known_at" in frame:
        frame["known_at"] = _instants(frame["known_at"], path.name)
    if "close" in frame or "symbol" in frame:
        return frame
    return frame.melt(id_vars="event_time", var_name="symbol", value_name="close", ignore_index=False)


def _table(path: Path) -> pd.DataFrame:
    if path.suffix == ".csv":
        with path.open("rb") as file:
            head, (last,) = file.readline(), deque(file, maxlen=1) or (b"\n",)
        if not last.endswith(b"\n") and last.count(b",") < head.count(b","):
            raise ValueError("half a line at its end")
        return pd.read_csv(path, converters={"symbol": str})
    table = pq.read_table(path, page_checksum_verification=True)
    frame: pd.DataFrame = table.to_pandas(ignore_metadata=True)  # what pandas writes beside the data is not needed
    return frame


def _instants(column: pd.Series, name: str) -> pd.Series:
    """Parsed, with their offsets; a naive one is refused rather than guessed."""
    if isinstance(column.dtype, pd.DatetimeTZDtype):
        return column
    parsed = pd.to_datetime(column.astype(str), errors="coerce", utc=True, format="ISO8601")
    naive = ~column.astype(str).str.contains(r"(?:Z|[+-]\d\d:?\d\d)$", regex=True)
    for bad, rule, remedy in (
        (parsed.isna(), "must be an ISO instant", "Write 2024-01-02T21:00+00:00."),
        (naive, "must carry its time zone", "Append Z or +00:00 for UTC."),
    ):
        if bad.any():
            row = int(np.flatnonzero(bad.to_numpy())[0])
            raise DataError(f"{column.name} of {name} {rule}, got {column.iloc[row]!r} in row {row}. {remedy}")
    return parsed


def _closes(name: str = "load_sp500_dataset") -> pd.DataFrame:
    wide: pd.DataFrame = getattr(import_module("skfolio.datasets"), name)()
    wide.index = _new_york(wide.index)
    return (
        wide.rename_axis("event_time").reset_index().melt(id_vars="event_time", var_name="symbol", value_name="close")
    )


def _index(name: str) -> pd.DataFrame:
    frame: pd.DataFrame = import_module(f"arch.data.{name}").load().rename(columns=str.lower)
    frame.index = _new_york(frame.index)
    columns = [*PRICES, "volume"]
    return frame.rename_axis("event_time")[columns].reset_index().assign(symbol=name)


def _new_york(days: pd.Index) -> pd.DatetimeIndex:
    """Dates of daily bars -> the instant of the close, 16:00 in New York."""
    return (pd.DatetimeIndex(days) + NEW_YORK_CLOSE).tz_localize("America/New_York").tz_convert("UTC")


PACKAGED: Mapping[str, Callable[[], pd.DataFrame]] = {
    "sp500": _closes,
    "factors": lambda: _closes("load_factors_dataset"),
    "index:sp500": lambda: _index("sp500"),
    "index:nasdaq": lambda: _index("nasdaq"),
}
