"""Rows on their way in: a body becomes rows that can be stored and rows that are set aside, each with its reason."""

from __future__ import annotations

from collections.abc import Callable, Container, Hashable, Iterator, Sequence
from dataclasses import dataclass, replace
from operator import attrgetter, itemgetter
from typing import Annotated, Any

import numpy as np
import orjson
import pandas as pd
from numpy.typing import NDArray
from pydantic import FailFast, TypeAdapter, ValidationError

from mlops.errors import DataError
from mlops.io.ledger.rejections import MAX_REASON
from mlops.io.storage.insert import (
    Rows,
    balance_rows,
    fill_rows,
    outcome_rows,
    prediction_rows,
    quote_rows,
    scoring_rows,
)
from mlops.io.storage.utc_time import EPOCH, MICROSECOND
from mlops.web.contracts import MAX_FEATURES, Balance, Fill, Outcome, Prediction, Quote, Row, Scoring
from mlops.web.json_outline import Items, Outline

MAX_SETS = 100  # sets of feature names in a request: each is checked and written on its own
MAX_MARKS = 2 * (MAX_FEATURES + 20) + 4  # colons, commas and brackets of the widest row; its own members are under 20
MAX_OPENS = 2  # brackets that a row opens: its own, and that of its features
CROWDED = f"must have at most {MAX_FEATURES} features and nothing nested but them, got more"
TWICE = "a member must be named once, got one that is named twice"
TIMES = ("event_time", "known_at", "matures_at")
WHOLE = ("version", "rows", "failed")


@dataclass(frozen=True, slots=True)
class Refused:
    """A row that broke its contract: its place in the request, why, and what it was."""

    row: int
    reason: str
    body: str


@dataclass(frozen=True, slots=True)
class Lot:
    """Good rows that go into a table together, and where in the request each was."""

    rows: Rows
    places: tuple[int, ...]

    def without(self, bad: Container[int]) -> Lot:
        """The lot less the rows at these places of its own."""
        keep = [i for i in range(len(self.places)) if i not in bad]
        if len(keep) == len(self.places):
            return self
        columns = {name: [values[i] for i in keep] for name, values in self.rows.columns.items()}
        return Lot(replace(self.rows, columns=columns), tuple(self.places[i] for i in keep))


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of row: its contract, how checked rows become what is stored, and which of them do so together."""

    name: str
    contract: type[Row]
    many: TypeAdapter[list[Any]]
    stored: Callable[[Sequence[Any]], Rows]
    apart: Callable[[Any], Hashable] = lambda _: None
    scope: str = ""  # of the key that may write it, where that is not `<name>:write`


def read(kind: Kind, body: Outline, *, lines: bool, max_rows: int) -> tuple[list[Lot], list[Refused]]:
    """Good rows, ready to be stored, and bad ones with their reasons.

    Parameters
    ----------
    lines : bool
        One JSON object a line (NDJSON; empty lines do not count) instead of one JSON list.

    Raises
    ------
    DataError
        The body is no JSON list, or has too many rows or too many sets of feature names.
    """
    if lines:
        _few(body.text.count(b"\n"), 2 * max_rows, "lines")  # empty ones among them
    items = body.lines() if lines else body.items()
    if items is None:
        raise DataError("body must be a JSON list, got something else. Or send one object a line as NDJSON.")
    _few(len(items), max_rows, "rows")  # before anything is built of them: a list of 2 MB may have a million
    good, refused = _together(kind, body, items, lines=lines), list[Refused]()
    places: Sequence[int] = range(len(good or ()))
    if good is None:
        good, places, refused = _one_by_one(kind, items, items.texts(body.text))
    apart: dict[Hashable, list[int]] = {}
    for i, row in enumerate(good):
        apart.setdefault(kind.apart(row), []).append(i)
    _few(len(apart), MAX_SETS, "sets of feature names")
    lots = [lot for set_ in apart.values() for lot in _lots(kind, good, places, set_, refused)]
    return lots, sorted(refused, key=lambda refusal: refusal.row)


def _few(n: int, most: int, things: str) -> None:
    if n > most:
        raise DataError(f"request must have at most {most} {things}, got {n}. Send less at once.")


def _together(kind: Kind, body: Outline, items: Items, *, lines: bool) -> list[Any] | None:
    """All rows in one go; None where one of them wants a closer look."""
    if crowded(items).any():
        return None
    text = body.text
    if lines:
        each = items.texts(text)
        if not all(line.startswith(b"{") for line in each):
            return None
        text = b"[%b]" % b",".join(each)
    try:
        good = kind.many.validate_json(text)
    except ValidationError:
        return None
    whole = len(good) == len(items)  # no line with two rows
    return good if whole and sum(row.members() for row in good) == body.names else None


def crowded(items: Items, around: int = 0) -> NDArray[np.bool_]:
    """Which rows have more in them than any good one: they are refused unread, whatever it is.

    A parser builds half a kilobyte of each empty list, and as much of each error: 2 MB of text became 2 GB.
    """
    return (items.marks > MAX_MARKS) | (items.opens > MAX_OPENS + around)


def _one_by_one(kind: Kind, items: Items, given: Sequence[bytes]) -> tuple[list[Any], list[int], list[Refused]]:
    good: list[Row] = []
    places: list[int] = []
    refused: list[Refused] = []
    too_much = crowded(items).tolist()
    for place, (raw, names) in enumerate(zip(given, items.names.tolist(), strict=True)):
        try:
            row = None if too_much[place] else kind.contract.model_validate_json(raw)
            reason = f"row: {CROWDED}" if row is None else "" if row.members() == names else f"row: {TWICE}"
        except ValidationError as error:
            row, reason = None, why(error)
        if row is None or reason:
            refused.append(Refused(place, reason, raw.decode(errors="backslashreplace")))
        else:
            good.append(row)
            places.append(place)
    return good, places, refused


def _lots(
    kind: Kind, good: Sequence[Any], places: Sequence[int], chosen: Sequence[int], refused: list[Refused]
) -> Iterator[Lot]:
    """All together; where the ledger's door refuses, halves of them, down to the row that is to blame."""
    rows = [good[i] for i in chosen]
    try:
        yield Lot(kind.stored(rows), tuple(places[i] for i in chosen))
    except DataError as error:
        if len(chosen) == 1:
            refused.append(Refused(places[chosen[0]], str(error)[:MAX_REASON], rows[0].model_dump_json()))
            return
        half = len(chosen) // 2
        yield from _lots(kind, good, places, chosen[:half], refused)
        yield from _lots(kind, good, places, chosen[half:], refused)


def why(error: ValidationError) -> str:
    """State what is wrong with a row, in one line; the value is shown short."""
    rows = error.errors(include_url=False, include_context=False)[:3]
    complaints = (f"{'.'.join(map(str, e['loc'])) or 'row'}: {e['msg']} (got {_short(e['input'])!r})" for e in rows)
    return "; ".join(complaints)[:MAX_REASON]


def _short(given: object) -> str:
    text = given.decode(errors="backslashreplace") if isinstance(given, bytes) else str(given)
    return text[:60]


def shown(stored: Rows, row: int) -> str:
    """One checked row as text, for the shelf of refused ones."""
    columns = {k: v[row] for k, v in stored.columns.items() if k not in ("features", "checksum", "features_checksum")}
    return orjson.dumps(columns).decode()


def _frame(contract: type[Row], rows: Sequence[Row]) -> pd.DataFrame:
    """The rows by column, as the ledger's door takes them."""
    names = [name for name in contract.model_fields if name != "features"]
    columns = zip(*map(attrgetter(*names), rows), strict=True)
    return pd.DataFrame({name: _column(name, values) for name, values in zip(names, columns, strict=True)})


def _column(name: str, values: Sequence[Any]) -> Any:
    if name in TIMES:
        exact = np.fromiter(((at - EPOCH) // MICROSECOND for at in values), dtype=np.int64, count=len(values))
        return pd.DatetimeIndex(exact.view("datetime64[us]"), tz="UTC")
    if isinstance(values[0], str):
        return np.array(values, dtype=object)
    return np.array(values, dtype=np.int64 if name in WHOLE else np.float64)


def _predictions(rows: Sequence[Prediction]) -> Rows:
    """Rows with the same features, in the order of their names: many a language has none of its own."""
    names = sorted(rows[0].features)
    pick = itemgetter(*names)
    values = np.array([pick(row.features) for row in rows], dtype=np.float64).reshape(len(rows), len(names))
    return prediction_rows(_frame(Prediction, rows), values.astype(np.float32), names)


def _simply(contract: type[Row], door: Callable[[pd.DataFrame], Rows]) -> Callable[[Sequence[Any]], Rows]:
    return lambda rows: door(_frame(contract, rows))


def _many(contract: type[Row]) -> TypeAdapter[list[Any]]:
    """Checks many rows at once, up to the first that is bad."""
    form: Any = Annotated[list[contract], FailFast()]  # type: ignore[valid-type]
    return TypeAdapter(form)


KINDS = {
    kind.name: kind
    for kind in (
        Kind(
            "predictions",
            Prediction,
            _many(Prediction),
            _predictions,
            apart=lambda row: tuple(sorted(row.features)),
        ),
        Kind("scorings", Scoring, _many(Scoring), _simply(Scoring, scoring_rows), scope="predictions:write"),
        Kind("outcomes", Outcome, _many(Outcome), _simply(Outcome, outcome_rows)),
        Kind("fills", Fill, _many(Fill), _simply(Fill, fill_rows)),
        Kind("quotes", Quote, _many(Quote), _simply(Quote, quote_rows)),
        Kind("balances", Balance, _many(Balance), _simply(Balance, balance_rows), scope="fills:write"),
    )
}
