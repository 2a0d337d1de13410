"""What a row of each kind must be. A row is checked on its own; nothing is converted silently."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Literal, Self

import numpy as np
from pydantic import AwareDatetime, BaseModel, BeforeValidator, ConfigDict, FailFast, Field, model_validator

from mlops.numerals import whole
from mlops.types import LARGEST

FIRST, LAST = datetime(1970, 1, 1, tzinfo=UTC), datetime(2200, 1, 1, tzinfo=UTC)
MAX_NAME, MAX_FEATURES, MAX_UNITS = 256, 2_000, 10_000
MAX_VERSION = 2**31 - 1  # what both databases hold in a key
MAX_FEATURE = float(np.finfo(np.float32).max)  # features are kept as they are scored, in 32 bits


def _spelled(given: object) -> object:
    """Pydantic alone would also take a number, of seconds or of milliseconds as it sees fit."""
    if not isinstance(given, str) or given[4:5] != "-":
        raise ValueError("must be an ISO 8601 instant with its offset, such as 2026-03-02T21:00:00Z")
    return given


def _digits(given: object) -> object:
    return whole("number", given) if isinstance(given, str) else given


DIGITS = BeforeValidator(_digits)  # a whole number in a query; its bounds stand before, else the schema lacks them
Name = Annotated[str, Field(min_length=1, max_length=MAX_NAME, pattern=r"^[^\x00]*$")]
Instant = Annotated[AwareDatetime, Field(ge=FIRST, lt=LAST, strict=False), BeforeValidator(_spelled)]
Finite = Annotated[float, Field(gt=-LARGEST, lt=LARGEST, allow_inf_nan=False)]
Positive = Annotated[float, Field(gt=0, lt=LARGEST, allow_inf_nan=False)]
Size = Annotated[float, Field(ge=0, lt=LARGEST, allow_inf_nan=False)]
Label = Annotated[float, Field(ge=0, le=1, multiple_of=1)]  # 0, 1, 0.0 or 1.0, but not true
Version = Annotated[int, Field(ge=1, le=MAX_VERSION)]
FeatureName = Annotated[str, Field(min_length=1, max_length=MAX_NAME)]  # the rest is checked once for many rows
Feature = Annotated[float, Field(ge=-MAX_FEATURE, le=MAX_FEATURE, allow_inf_nan=False)]
Features = Annotated[dict[FeatureName, Feature | None], Field(min_length=1, max_length=MAX_FEATURES)]


def _in_order(event_time: datetime, known_at: datetime) -> None:
    if known_at < event_time:
        raise ValueError("known_at must not lie before event_time")


class Row(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    def members(self) -> int:
        """Members of the row and of what is in it: more of them in its text means that one is there twice."""
        return len(self.model_fields_set)


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

    def members(self) -> int:
        return len(self.model_fields_set) + len(self.features)

    @model_validator(mode="after")
    def _known_late(self) -> Self:
        _in_order(self.event_time, self.known_at)
        return self


class Scoring(Row):
    """How a version was asked for one bar. Key: model, event_time, version, batch, failed.

    `batch` names the units where a bar is asked for in parts; `failed`: it gave no probabilities for them.
    """

    model: Name
    version: Version
    event_time: Instant
    batch: Name = "all"
    failed: bool = False
    rows: Annotated[int, Field(ge=1, le=MAX_UNITS)]
    seconds: Size


class Outcome(Row):
    """What came true. Key: model, unit, event_time (of the prediction). `value` is the quantity behind the label."""

    model: Name
    unit: Name
    event_time: Instant
    known_at: Instant
    label: Label
    value: Finite

    @model_validator(mode="after")
    def _known_late(self) -> Self:
        _in_order(self.event_time, self.known_at)
        return self


class Fill(Row):
    """One trade. Key: fill_id. `quantity` > 0 was bought; `fee` in money.

    `price`: positive; of an option 0 too (it ended worthless), of a future any number.
    """

    fill_id: Name
    model: Name
    version: Annotated[int, Field(ge=0, le=MAX_VERSION)]
    book: Name
    unit: Name
    event_time: Instant
    quantity: Finite
    price: Finite
    fee: Finite


class Quote(Row):
    """Best bid and ask. Key: unit, event_time. A size of 0 was not told.

    `ask`: positive; `bid`: 0 or more (nobody bids); of a future both are any numbers.
    """

    unit: Name
    event_time: Instant
    known_at: Instant
    bid: Finite
    ask: Finite
    bid_size: Size = 0.0
    ask_size: Size = 0.0

    @model_validator(mode="after")
    def _sound(self) -> Self:
        if self.bid > self.ask:
            raise ValueError("bid must not lie above ask")
        _in_order(self.event_time, self.known_at)
        return self


class Balance(Row):
    """What the account behind a book is worth, open positions included. Key: model, book, event_time.

    `amount`: zero or less where it owes what it is worth or more.
    `flow`: what was paid in (> 0) or taken out (< 0) since the balance before it.
    """

    model: Name
    book: Name
    event_time: Instant
    known_at: Instant
    amount: Finite
    flow: Finite = 0.0

    @model_validator(mode="after")
    def _known_late(self) -> Self:
        _in_order(self.event_time, self.known_at)
        return self


class ToScore(Row):
    """Features of one unit. `key`: what sticks to an arm, the unit itself without it."""

    unit: Name
    key: Name | None = None
    features: Features

    def members(self) -> int:
        return len(self.model_fields_set) + len(self.features)


class Bar(Row):
    """One bar of features, a row a unit."""

    event_time: Instant
    known_at: Instant
    matures_at: Instant
    rows: Annotated[list[ToScore], Field(min_length=1, max_length=MAX_UNITS), FailFast()]

    def members(self) -> int:
        return len(self.model_fields_set) + sum(row.members() for row in self.rows)
