"""The bot API: rows in, scores and assignments out. It computes nothing that a bot could not see for itself."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import TimeoutError as Late
from datetime import datetime
from typing import Annotated, Any, Protocol

import numpy as np
import structlog
from fastapi import APIRouter, HTTPException, Query, Request
from mlflow import MlflowException
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from sqlalchemy.exc import SQLAlchemyError
from starlette.concurrency import run_in_threadpool

from mlops.errors import DataError, MlopsError, RegistryError, StorageError
from mlops.io.ledger import Ledger
from mlops.io.writer import Writer
from mlops.settings import Settings
from mlops.types import Role
from mlops.web import rows
from mlops.web.gate import LATER, Gate
from mlops.web.metrics import Meters
from registry_hooks.aliases import GONE, Lineup, Registry, lineup

log = structlog.get_logger()
COMMIT_LIMIT_S = 30.0  # as long as a SQLite writer waits for another
MAX_KEYS = 1_000
MAX_MODELS = 1_000
FRESH_S = 5.0  # a lineup is read anew after so long
CONTRADICTS = "a row of the same key is stored with other values; that one stays"
NDJSON = ("application/x-ndjson", "application/jsonl", "application/x-jsonlines")


class Scored(Protocol):
    """What a scorer answers; see `registry_hooks.bot.Scored`."""

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


class RefusedRow(BaseModel):
    row: int = Field(description="Its place in the request, from 0.")
    reason: str


class Taken(BaseModel):
    """What became of a batch. Everything counted here is committed."""

    stored: int = Field(description="Rows that are new.")
    known: int = Field(description="Rows that were there already, the same.")
    rejected: list[RefusedRow]

    model_config = ConfigDict(
        json_schema_extra={"example": {"stored": 2, "known": 0, "rejected": [{"row": 1, "reason": "version: missing"}]}}
    )


class Problem(BaseModel):
    detail: str


class Arm(BaseModel):
    key: str
    version: int
    role: str


class Assigned(BaseModel):
    """Which arm trades each key. `stale`: MLflow does not answer, and this is what it said last."""

    model: str
    champion: int
    stale: bool
    arms: list[Arm]


class ToScore(rows.Row):
    unit: rows.Name
    key: rows.Name | None = None
    features: rows.Features


class Bar(rows.Row):
    """One bar of features, a row a unit."""

    event_time: rows.Instant
    known_at: rows.Instant
    matures_at: rows.Instant
    rows: Annotated[list[ToScore], Field(min_length=1, max_length=10_000)]


class UnitScore(BaseModel):
    unit: str
    version: int
    role: str
    probability: float


class Scores(BaseModel):
    model: str
    scores: list[UnitScore]


ERRORS: dict[int | str, dict[str, Any]] = {
    code: {"model": Problem, "description": text}
    for code, text in {
        400: "The body did not arrive whole.",
        401: "No valid key.",
        403: "The key lacks the scope.",
        413: "Too large.",
        415: "Neither JSON nor NDJSON, or encoded.",
        422: "Not what the contract says.",
        429: "Too many requests; see Retry-After.",
        503: "The ledger cannot take it now; nothing was stored. Send it again.",
    }.items()
}


def _takes(contract: type[BaseModel]) -> dict[str, Any]:
    """How OpenAPI describes a body that is read raw."""
    schema = contract.model_json_schema(ref_template="#/components/schemas/{model}")
    return {
        "requestBody": {
            "required": True,
            "content": {
                "application/json": {"schema": {"type": "array", "items": schema}},
                "application/x-ndjson": {"schema": {"type": "string", "description": "One such object a line."}},
            },
        },
        "security": [{"key": []}],
    }


def router(
    registry: Registry, settings: Settings, clock: Callable[[], datetime], meters: Meters, scorers: Scorers | None
) -> APIRouter:
    """All of /v1."""
    routes = APIRouter(prefix="/v1", responses=ERRORS)
    gate, ledger = Gate(registry.ledger, settings.service, clock), registry.ledger
    writer, lineups = Writer(ledger), Lineups(registry)

    async def taken(request: Request, kind: rows.Kind) -> Taken:
        key = await gate.enter(request, f"{kind.name}:write")
        lines = _lines(request.headers.get("content-type", ""))
        body = await gate.body(request)
        most, now = settings.service.max_rows, clock()
        found = await run_in_threadpool(_take, ledger, writer, kind, body, lines, most, key.label, now)
        meters.took(kind.name, found.stored, found.known, len(found.rejected))
        return found

    for kind in rows.KINDS.values():
        _post(routes, f"/{kind.name}", kind, taken)

    @routes.get("/rejections", tags=["rows"], openapi_extra={"security": [{"key": []}]})
    async def rejections(request: Request, kind: str = "", limit: Annotated[int, Query(ge=1, le=1000)] = 100) -> Any:
        """Rows that were refused, newest first."""
        await gate.enter(request, "admin")
        return await run_in_threadpool(_answered, ledger.rejections, kind or None, limit)

    @routes.get("/models/{model}/assignment", tags=["models"], openapi_extra={"security": [{"key": []}]})
    async def assignment(
        request: Request, model: str, key: Annotated[list[str], Query(min_length=1, max_length=MAX_KEYS)]
    ) -> Assigned:
        """Which version trades each key. The same key gets the same arm as long as a comparison runs."""
        await gate.enter(request, "score")
        found, stale = await run_in_threadpool(lineups.of, model)
        versions = found.deal(key).tolist()
        arms = [Arm(key=k, version=v, role=found.roles[v]) for k, v in zip(key, versions, strict=True)]
        return Assigned(model=model, champion=found.champion, stale=stale, arms=arms)

    @routes.post(
        "/models/{model}/score",
        tags=["models"],
        openapi_extra={
            "requestBody": {"required": True, "content": {"application/json": {"schema": Bar.model_json_schema()}}},
            "security": [{"key": []}],
        },
    )
    async def score(request: Request, model: str) -> Scores:
        """Score one bar with the arm that trades each unit; every arm's score is kept in the ledger."""
        await gate.enter(request, "score")
        body = await gate.body(request)
        return await run_in_threadpool(_score, scorers, model, body)

    return routes


class Lineups:
    """Who is dealt what, read every few seconds; the last answer stands in while MLflow or the ledger is away."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry
        self._known: dict[str, tuple[Lineup, float]] = {}

    def of(self, model: str) -> tuple[Lineup, bool]:
        """The lineup of a model, and whether it is stale; raises HTTPException 404 or 503."""
        known = self._known.get(model)
        if known is not None and time.monotonic() < known[1] + FRESH_S:
            return known[0], False
        try:
            found = lineup(self._registry, model)
        except (RegistryError, MlflowException, SQLAlchemyError) as error:
            if isinstance(error, RegistryError) or getattr(error, "error_code", "") == GONE:
                raise HTTPException(404, f"model must have a champion, got none of {model!r}.") from error
            if known is None:
                raise HTTPException(503, "registry must answer, got an error. Try again.", LATER) from error
            return known[0], True
        if len(self._known) >= MAX_MODELS:
            self._known.clear()
        self._known[model] = (found, time.monotonic())
        return found, False


def _post(routes: APIRouter, path: str, kind: rows.Kind, taken: Callable[..., Any]) -> None:
    async def door(request: Request) -> Taken:
        found: Taken = await taken(request, kind)
        return found

    door.__doc__ = f"{kind.contract.__doc__} Send a JSON list, or one object a line as NDJSON; safe to repeat."
    extra = _takes(kind.contract)
    routes.add_api_route(path, door, methods=["POST"], tags=["rows"], name=f"take_{kind.name}", openapi_extra=extra)


def _take(
    ledger: Ledger, writer: Writer, kind: rows.Kind, body: bytes, lines: bool, most: int, source: str, now: datetime
) -> Taken:
    """Check, store, set aside; returns when all of it is committed."""
    try:
        lots, refused = rows.read(kind, body, lines=lines, max_rows=most)
    except DataError as error:
        raise HTTPException(422, str(error)) from error
    try:
        waiting = [writer.submit(lot.rows) for lot in lots]
        stored, known = 0, 0
        for lot, future in zip(lots, waiting, strict=True):
            new = future.result(COMMIT_LIMIT_S)
            other = ledger.contradictions(lot.rows) if new < len(lot.rows) else []
            stored, known = stored + new, known + len(lot.rows) - new - len(other)
            refused += [rows.Refused(lot.places[i], CONTRADICTS, rows.shown(lot.rows, i)) for i in other]
        if refused:
            ledger.add_rejections(kind.name, source, [(one.body, one.reason) for one in refused], now)
    except (StorageError, SQLAlchemyError, Late) as error:
        log.error("rows not kept", kind=kind.name, error=str(error))
        raise HTTPException(503, ERRORS[503]["description"], LATER) from error
    told = [RefusedRow(row=one.row, reason=one.reason) for one in sorted(refused, key=lambda one: one.row)]
    return Taken(stored=stored, known=known, rejected=told)


def _score(scorers: Scorers | None, model: str, body: bytes) -> Scores:
    try:
        bar = Bar.model_validate_json(body)
    except ValidationError as error:
        raise HTTPException(422, rows.why(error)) from error
    try:
        scorer = scorers(model) if scorers is not None else None
    except MlopsError as error:
        raise HTTPException(503, str(error), LATER) from error
    if scorer is None:
        raise HTTPException(404, f"model must be one that this service scores, got {model!r}.")
    values = _matrix(bar, scorer.names)
    units, keys = [row.unit for row in bar.rows], [row.key or row.unit for row in bar.rows]
    times = {"event_time": bar.event_time, "known_at": bar.known_at, "matures_at": bar.matures_at}
    try:
        found = scorer.score(units, values, **times, keys=keys)
    except DataError as error:
        raise HTTPException(422, str(error)) from error
    except (MlopsError, SQLAlchemyError) as error:
        raise HTTPException(503, str(error), LATER) from error
    rated = zip(found.units, found.version.tolist(), found.probability.tolist(), strict=True)
    return Scores(
        model=model, scores=[UnitScore(unit=u, version=v, role=found.roles[v], probability=p) for u, v, p in rated]
    )


def _matrix(bar: Bar, names: Sequence[str]) -> NDArray[np.float32]:
    wanted = set(names)
    for i, row in enumerate(bar.rows):
        if row.features.keys() != wanted:
            off = sorted(wanted ^ row.features.keys())[:5]
            raise HTTPException(422, f"features of row {i} must be {list(names)}, got a difference in {off}.")
    plain = [[math.nan if (v := row.features[n]) is None else v for n in names] for row in bar.rows]
    with np.errstate(over="ignore"):
        return np.array(plain, dtype=np.float64).astype(np.float32)


def _lines(content_type: str) -> bool:
    plain = content_type.partition(";")[0].strip().lower()
    if plain in NDJSON:
        return True
    if plain in ("application/json", ""):
        return False
    raise HTTPException(415, f"content type must be application/json or {NDJSON[0]}, got {plain[:60]!r}.")


def _answered(read: Callable[..., Any], *arguments: Any) -> Any:
    try:
        return read(*arguments)
    except SQLAlchemyError as error:
        raise HTTPException(503, "ledger must answer, got an error. Try again.", LATER) from error
