"""Rows at the ledger's door: a frame is checked against its contract and taken apart into columns, and back.

Nothing is converted silently: a naive instant, a missing value, a probability of 1.2 is an error that names it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from mlops.errors import DataError
from mlops.types import LARGEST

if TYPE_CHECKING:
    import pandas as pd

Check = Callable[[NDArray[np.float64]], NDArray[np.bool_]]
LEAST = 1e-8  # of a quantity: the step that books count in
TEXTS = frozenset({"model", "unit", "role", "fill_id", "book", "batch", "source"})
TIMES = frozenset({"event_time", "known_at", "matures_at"})
WHOLE = frozenset({"version", "rows", "failed"})
EITHER_WAY: tuple[str, Check] = (f"be under {LARGEST:g} either way", lambda x: np.abs(x) < LARGEST)
NOT_NEGATIVE: tuple[str, Check] = (f"be zero or more and under {LARGEST:g}", lambda x: (x >= 0) & (x < LARGEST))
RULES: Mapping[str, tuple[str, Check]] = {
    "probability": ("be within 0 and 1", lambda x: (x >= 0) & (x <= 1)),
    "label": ("be 0 or 1", lambda x: (x == 0) | (x == 1)),
    "value": EITHER_WAY,
    "quantity": (
        f"be 0, or {LEAST:g} to {LARGEST:g} either way",
        lambda x: (x == 0) | ((np.abs(x) >= LEAST) & (np.abs(x) < LARGEST)),
    ),
    **dict.fromkeys(("price", "bid", "ask"), EITHER_WAY),  # which sign a unit allows: `mlops.io.ledger.bookable`
    "fee": EITHER_WAY,
    **dict.fromkeys(("bid_size", "ask_size", "seconds"), NOT_NEGATIVE),
    **dict.fromkeys(("amount", "flow"), EITHER_WAY),
}
NS_PER_US = 1_000
MAX_TEXT = 256  # characters; two of them in a key must fit into an index entry of PostgreSQL (2,704 bytes)
MAX_WHOLE = 2**31 - 1  # INTEGER of PostgreSQL


def validated_columns(frame: pd.DataFrame, names: Sequence[str], title: str) -> dict[str, list[Any]]:
    """The columns `names` of `frame` as lists of what is stored; `title` names the frame in errors.

    Raises
    ------
    DataError
        A column is missing, or a value is missing, naive, of the wrong kind or out of range; the row is named.
    """
    missing = [name for name in names if name not in frame.columns]
    if missing:
        raise DataError(f"{title} must have the columns {list(names)}, got none named {missing}. Add them.")
    if frame.empty:
        return {name: [] for name in names}
    columns = {name: _stored(frame[name], f"{name} of {title}") for name in names}
    if "known_at" in columns:
        early = np.asarray(columns["known_at"]) < np.asarray(columns["event_time"])
        _refuse(early, frame["known_at"], f"known_at of {title}", "not lie before event_time")
    if "bid" in columns:
        crossed = np.asarray(columns["bid"]) > np.asarray(columns["ask"])
        _refuse(crossed, frame["bid"], f"bid of {title}", "not lie above ask")
    return columns


def to_frame(names: Sequence[str], columns: Sequence[NDArray[Any]]) -> pd.DataFrame:
    """The frame of what was read: instants as UTC timestamps, text as objects, numbers as they are."""
    import pandas as pd

    return pd.DataFrame(
        {
            name: pd.DatetimeIndex((column * NS_PER_US).view("datetime64[ns]"), tz="UTC") if name in TIMES else column
            for name, column in zip(names, columns, strict=True)
        }
    )


def dtype(name: str) -> Any:
    """How a stored column is held in memory."""
    if name in RULES:
        return np.float64
    return np.int64 if name in TIMES | WHOLE else object


def _stored(column: pd.Series[Any], title: str) -> list[Any]:
    _refuse(column.isna().to_numpy(), column, title, "be known")
    name = str(column.name)
    if name in TIMES:
        return _microseconds(column, title)
    if name in TEXTS:
        return _text(column, title)
    if name in WHOLE:
        return _whole(column, title)
    return _number(column, title, *RULES[name])


def _microseconds(column: pd.Series[Any], title: str) -> list[int]:
    import pandas as pd

    if not isinstance(column.dtype, pd.DatetimeTZDtype):
        raise DataError(f"{title} must carry a time zone, got {column.dtype}. Use pd.to_datetime(..., utc=True).")
    try:
        exact = column.dt.as_unit("ns").to_numpy(dtype="datetime64[ns]").view(np.int64)
    except pd.errors.OutOfBoundsDatetime as error:
        raise DataError(f"{title} must lie between 1678 and 2261, got {error}. Correct the clock.") from error
    _refuse(exact % NS_PER_US != 0, column, title, "be whole microseconds")
    whole: list[int] = (exact // NS_PER_US).tolist()
    return whole


def _text(column: pd.Series[Any], title: str) -> list[str]:
    texts: list[str] = column.tolist()
    kinds = set(map(type, texts))
    if kinds == {str} and _plain(texts):
        return texts
    if not all(issubclass(kind, str) for kind in kinds) or not all(texts):
        good = np.fromiter((isinstance(x, str) and len(x) > 0 for x in texts), dtype=bool, count=len(texts))
        _refuse(~good, column, title, "be text, not empty")
    if not all(map(storable, set(texts))):  # a million rows name few units
        fit = np.fromiter(map(storable, texts), dtype=bool, count=len(texts))
        _refuse(~fit, column, title, f"be valid text of at most {MAX_TEXT} characters without NUL")
    return [str(x) for x in texts]  # an enum member becomes its plain value


def _plain(texts: list[str]) -> bool:
    """Whether all are short ASCII without NUL and none is empty: one look at them together."""
    lengths = set(map(len, texts))
    together = "".join(texts)
    return 0 not in lengths and max(lengths) <= MAX_TEXT and together.isascii() and "\0" not in together


def storable(text: str) -> bool:
    """Whether both databases can keep a text."""
    if text.isascii():
        return len(text) <= MAX_TEXT and "\0" not in text
    try:
        text.encode()
    except UnicodeEncodeError:  # half of a surrogate pair
        return False
    return len(text) <= MAX_TEXT and "\0" not in text


def _whole(column: pd.Series[Any], title: str) -> list[int]:
    import pandas as pd

    if not pd.api.types.is_integer_dtype(column.dtype):
        raise DataError(f"{title} must be whole numbers, got {column.dtype}. Use astype(int).")
    outside = ((column < 0) | (column > MAX_WHOLE)).to_numpy(dtype=bool)
    _refuse(outside, column, title, f"be within 0 and {MAX_WHOLE}")
    numbers: list[int] = column.tolist()
    return numbers


def _number(column: pd.Series[Any], title: str, rule: str, check: Check) -> list[float]:
    import pandas as pd

    if not pd.api.types.is_numeric_dtype(column.dtype):
        raise DataError(f"{title} must be numbers, got {column.dtype}. Use astype(float).")
    values = column.to_numpy(dtype=np.float64)
    _refuse(~check(values), column, title, rule)
    numbers: list[float] = values.tolist()
    return numbers


def _refuse(bad: NDArray[np.bool_], column: pd.Series[Any], title: str, rule: str) -> None:
    if bad.any():
        row = int(np.argmax(bad))
        got = column.iloc[row]
        got = got.item() if isinstance(got, np.generic) else got
        raise DataError(f"{title} must {rule}, got {got!r} in row {row}. Correct or drop the row.")
