"""Scores for bots without Python: a bar of features in, what trades each unit out."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Protocol

import numpy as np
from fastapi import HTTPException
from mlflow import MlflowException
from numpy.typing import NDArray
from pydantic import BaseModel, Field, ValidationError
from sqlalchemy.exc import SQLAlchemyError

from mlops.errors import DataError, MlopsError
from mlops.types import Role
from mlops.web import rows
from mlops.web.access import LATER
from mlops.web.contracts import MAX_UNITS, Bar
from mlops.web.json_outline import Outline

AROUND = 2  # brackets of a bar around its rows


class Scored(Protocol):
    """What a scorer answers; see `registry_hooks.bot.client.Scored`."""

    @property
    def units(self) -> tuple[str, ...]: ...
    @property
    def probability(self) -> NDArray[np.float64]: ...
    @property
    def version(self) -> NDArray[np.int64]: ...
    @property
    def roles(self) -> Mapping[int, Role]: ...


class Scorer(Protocol):
    """A model that scores for bots without Python."""

    @property
    def names(self) -> tuple[str, ...]: ...

    def score(
        self,
        units: Sequence[str],
        values: NDArray[np.float32],
        *,
        event_time: datetime,
        known_at: datetime,
        matures_at: datetime,
        keys: Sequence[str] | None = None,
    ) -> Scored: ...


Scorers = Callable[[str], Scorer | None]


class UnitScore(BaseModel):
    unit: str
    version: int = Field(description="Of the model that trades this unit.")
    role: str
    probability: float = Field(description="P(label = 1).")


class Scores(BaseModel):
    model: str
    scores: list[UnitScore] = Field(description="In the order of the rows.")


def score(scorers: Scorers | None, model: str, body: Outline) -> Scores:
    """Score one bar; every arm's score is kept by the scorer.

    Raises
    ------
    HTTPException
        404 no such model here, 422 the bar breaks its contract, 503 it cannot be scored now.
    """
    bar, scorer = _bar(body), _scorer(scorers, model)
    values, units = _matrix(bar, scorer.names), [row.unit for row in bar.rows]
    times = {"event_time": bar.event_time, "known_at": bar.known_at, "matures_at": bar.matures_at}
    try:
        scored = scorer.score(units, values, **times, keys=[row.key or row.unit for row in bar.rows])
    except DataError as error:
        raise HTTPException(422, str(error)) from error
    except (MlopsError, SQLAlchemyError) as error:
        raise HTTPException(503, str(error), LATER) from error
    rated = zip(scored.units, scored.version.tolist(), scored.probability.tolist(), strict=True)
    return Scores(
        model=model, scores=[UnitScore(unit=u, version=v, role=scored.roles[v], probability=p) for u, v, p in rated]
    )


def _scorer(scorers: Scorers | None, model: str) -> Scorer:
    try:
        scorer = scorers(model) if scorers is not None else None
    except (MlopsError, MlflowException, SQLAlchemyError) as error:
        raise HTTPException(503, f"model {model} must be ready, got {error}. Try again.", LATER) from error
    if scorer is None:
        raise HTTPException(404, f"model must be one that this service scores, got {model!r}.")
    return scorer


def _bar(body: Outline) -> Bar:
    each = body.rows(2)
    if len(each) > MAX_UNITS or rows.crowded(each, around=AROUND).any():
        raise HTTPException(422, f"bar must have at most {MAX_UNITS} rows, each {rows.CROWDED}.")
    try:
        bar = Bar.model_validate_json(body.text)
    except ValidationError as error:
        raise HTTPException(422, rows.why(error)) from error
    if bar.members() != body.names:
        raise HTTPException(422, rows.TWICE)
    return bar


def _matrix(bar: Bar, names: Sequence[str]) -> NDArray[np.float32]:
    wanted = set(names)
    for i, row in enumerate(bar.rows):
        if row.features.keys() != wanted:
            off = sorted(wanted ^ row.features.keys())[:5]
            raise HTTPException(422, f"features of row {i} must be {list(names)}, got a difference in {off}.")
    plain = [[math.nan if (v := row.features[n]) is None else v for n in names] for row in bar.rows]
    return np.array(plain, dtype=np.float32)
