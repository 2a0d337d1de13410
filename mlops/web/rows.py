"""What the bot API takes: rows by kind, each checked on its own, so that one bad row stops no good one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Annotated, Any, Literal

import numpy as np
import orjson
import pandas as pd
from pydantic import AfterValidator, AwareDatetime, BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from mlops.errors import DataError
from mlops.io.columns import storable
from mlops.io.store import Rows, fill_rows, outcome_rows, prediction_rows, quote_rows

FIRST, LAST = datetime(1970, 1, 1, tzinfo=UTC), datetime(2200, 1, 1, tzinfo=UTC)
MAX_NAME, MAX_FEATURES = 256, 2_000
MAX_VERSION = 2**31 - 1  # what both databases hold in a key


def _kept(text: str) -> str:
    if not storable(text):
        raise ValueError("must be text without zeros and half surrogate pairs")
    return text


def _plausible(at: datetime) -> datetime:
    if not FIRST <= at < LAST:
        raise ValueError(f"must lie between {FIRST:%Y} and {LAST:%Y}")
    return at.astimezone(UTC)


Name = Annotated[str, Field(min_length=1, max_length=MAX_NAME), AfterValidator(_kept)]
Instant = Annotated[AwareDatetime, AfterValidator(_plausible)]
Finite = Annotated[float, Field(allow_inf_nan=False)]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Size = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Version = Annotated[int, Field(ge=1, le=MAX_VERSION)]
Features = Annotated[dict[Name, float | None], Field(min_length=1, max_length=MAX_FEATURES)]


class Row(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class Prediction(Row):
    """One score. Key: model, version, unit, event_time. `probability` is P(label = 1); a feature may be null."""

    model: Name
    version: Version
    unit: Name
    event_time: Instant
    known_at: Instant
    matures_at: Instant
    role: Literal["champion", "challenger", "previous_champion", "shadow"]
    probability: Annotated[float, Field(ge=0, le=1)]
    features: Features


class Outcome(Row):
    """What came true. Key: model, unit, event_time (of the prediction). `value` is the quantity behind the label."""

    model: Name
    unit: Name
    event_time: Instant
    known_at: Instant
    label: Literal[0, 1]
    value: Finite


class Fill(Row):
    """One trade. Key: fill_id. `quantity` > 0 was bought; `fee` in money."""

    fill_id: Name
    model: Name
    version: Annotated[int, Field(ge=0, le=MAX_VERSION)]
    book: Name
    unit: Name
    event_time: Instant
    quantity: Finite
    price: Positive
    fee: Finite


class Quote(Row):
    """Best bid and ask. Key: unit, event_time. A size of 0 was not told."""

    unit: Name
    event_time: Instant
    known_at: Instant
    bid: Positive
    ask: Positive
    bid_size: Size = 0.0
    ask_size: Size = 0.0


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


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of row: its contract, and how checked rows become what is stored."""

    name: str
    contract: type[Row]
    stored: Callable[[Sequence[Any]], list[tuple[Rows, list[int]]]]
    many: TypeAdapter[list[Any]]


def read(kind: Kind, body: bytes, *, lines: bool, max_rows: int) -> tuple[list[Lot], list[Refused]]:
    """Good rows, ready to be stored, and bad ones with their reasons.

    Parameters
    ----------
    lines : bool
        One JSON object a line (NDJSON) instead of one JSON list.

    Raises
    ------
    DataError
        The body is no JSON list, or has too many rows.
    """
    given = [line for line in body.split(b"\n") if line.strip()] if lines else None
    whole = body if given is None else b"[" + b",".join(given) + b"]"
    try:
        good = kind.many.validate_json(whole)
        places, refused = list(range(len(good))), list[Refused]()
    except ValidationError:
        good, places, refused = _one_by_one(kind, _split(body) if given is None else given)
    if len(good) + len(refused) > max_rows:
        raise DataError(
            f"request must have at most {max_rows} rows, got {len(good) + len(refused)}. Send less at once."
        )
    lots = [] if not good else _lots(kind, good, places, refused)
    return lots, sorted(refused, key=lambda one: one.row)


def _split(body: bytes) -> list[bytes]:
    """The rows of a JSON list, each as JSON again."""
    try:
        rows = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise DataError(f"body must be a JSON list, got {error}. Or send one object a line as NDJSON.") from error
    if not isinstance(rows, list):
        raise DataError(f"body must be a JSON list, got {type(rows).__name__}. Put the rows into [].")
    return [orjson.dumps(row) for row in rows]


def _one_by_one(kind: Kind, given: Sequence[bytes]) -> tuple[list[Row], list[int], list[Refused]]:
    good: list[Row] = []
    places: list[int] = []
    refused: list[Refused] = []
    for place, raw in enumerate(given):
        try:
            good.append(kind.contract.model_validate_json(raw))
            places.append(place)
        except ValidationError as error:
            refused.append(Refused(place, why(error), raw.decode(errors="backslashreplace")))
    return good, places, refused


def _lots(kind: Kind, good: Sequence[Row], places: Sequence[int], refused: list[Refused]) -> list[Lot]:
    """All together; where rows break a rule that spans columns, one by one."""
    try:
        return [Lot(rows, tuple(places[i] for i in mine)) for rows, mine in kind.stored(good)]
    except DataError:
        lots = []
        for row, place in zip(good, places, strict=True):
            try:
                lots += [Lot(rows, (place,)) for rows, _ in kind.stored([row])]
            except DataError as error:
                refused.append(Refused(place, str(error), row.model_dump_json()))
        return lots


def why(error: ValidationError) -> str:
    """What is wrong with a row, in one line; the value is shown short."""
    rows = error.errors(include_url=False, include_context=False)[:3]
    return "; ".join(
        f"{'.'.join(map(str, e['loc'])) or 'row'}: {e['msg']} (got {str(e['input'])[:60]!r})" for e in rows
    )


def shown(stored: Rows, row: int) -> str:
    """One checked row as text, for the shelf of refused ones."""
    said = {k: v[row] for k, v in stored.columns.items() if k not in ("features", "checksum", "features_checksum")}
    return orjson.dumps(said).decode()


def _frame(rows: Sequence[Row], names: Sequence[str]) -> pd.DataFrame:
    columns = {name: [getattr(row, name) for row in rows] for name in names}
    return pd.DataFrame({k: pd.to_datetime(v, utc=True) if k in TIMES else v for k, v in columns.items()})


def _predictions(rows: Sequence[Prediction]) -> list[tuple[Rows, list[int]]]:
    """A lot for each set of features."""
    sets: dict[tuple[str, ...], list[int]] = {}
    for i, row in enumerate(rows):
        sets.setdefault(tuple(row.features), []).append(i)
    found = []
    for names, mine in sets.items():
        values = np.array([list(rows[i].features.values()) for i in mine], dtype=np.float64)
        with np.errstate(over="ignore"):
            scored = values.astype(np.float32)
        frame = _frame([rows[i] for i in mine], [name for name in Prediction.model_fields if name != "features"])
        found.append((prediction_rows(frame, scored, names), mine))
    return found


def _simply(contract: type[Row], stored: Callable[[pd.DataFrame], Rows]) -> Callable[..., list[tuple[Rows, list[int]]]]:
    def lot(rows: Sequence[Row]) -> list[tuple[Rows, list[int]]]:
        frame = _frame(rows, list(contract.model_fields))
        numbers = frame.select_dtypes("number").columns.difference(["version"])
        return [(stored(frame.astype(dict.fromkeys(numbers, np.float64))), list(range(len(rows))))]

    return lot


TIMES = ("event_time", "known_at", "matures_at")
KINDS = {
    "predictions": Kind("predictions", Prediction, _predictions, TypeAdapter(list[Prediction])),
    "outcomes": Kind("outcomes", Outcome, _simply(Outcome, outcome_rows), TypeAdapter(list[Outcome])),
    "fills": Kind("fills", Fill, _simply(Fill, fill_rows), TypeAdapter(list[Fill])),
    "quotes": Kind("quotes", Quote, _simply(Quote, quote_rows), TypeAdapter(list[Quote])),
}
