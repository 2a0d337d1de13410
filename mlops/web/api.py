"""The bot API: rows in, scores and assignments out. It computes nothing that a bot could not see for itself."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from concurrent.futures import TimeoutError as Late
from datetime import datetime, timedelta
from typing import Annotated, Any, Literal

import structlog
from fastapi import APIRouter, Depends, HTTPException, Query, Request
from pydantic import BaseModel, ConfigDict, Field
from sqlalchemy.exc import SQLAlchemyError

from mlops.errors import DataError, RegistryError, StorageError
from mlops.io.ledger import Ledger
from mlops.io.ledger.group_commit import Writer
from mlops.io.ledger.rejections import Rejection
from mlops.io.storage.windows import microseconds
from mlops.settings import Settings
from mlops.types import TradingState
from mlops.web import rows, scoring
from mlops.web.access import LATER, Gate
from mlops.web.contracts import DIGITS, Bar, Name
from mlops.web.json_outline import Outline
from mlops.web.lanes import Lanes
from mlops.web.metrics import Meters
from mlops.web.scoring import Scorers, Scores
from registry_hooks.aliases import Lineup, traded
from registry_hooks.assignment import Assigner
from registry_hooks.refused_fills import refuse_fills
from registry_hooks.unknown_models import UnknownModels

log = structlog.get_logger()
COMMIT_LIMIT_S = 30.0  # as long as a SQLite writer waits for another
LARGE = 2**20  # bytes of a body from which on it waits for others of its size
MOVING = ("fills", "quotes", "balances")  # rows that change what is held, or what it is worth
OF_BOOKS = ("fills", "balances")  # rows that name the model whose book they move
MAX_KEYS, MAX_SHOWN, MAX_MODELS = 1_000, 1_000, 1_000
FRESH_S = 5.0  # a lineup is read anew after so long
CONTRADICTS = "a row of the same key is stored with other values; that one stays"
AHEAD = timedelta(minutes=5)  # that a bot's clock may be ahead of ours
NOT_YET = f"known_at must not lie after now (by more than {AHEAD}). Correct the clock, or send it when it is known."
AGAIN = "The ledger cannot take it now. Send it again later: no row is stored twice."
NDJSON = ("application/x-ndjson", "application/jsonl", "application/x-jsonlines")
Kinds = Literal["predictions", "scorings", "outcomes", "fills", "quotes", "balances"]


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
    """Which arm trades each key. `stale`: the ledger does not answer, and this is what it said last."""

    model: str
    champion: int
    stale: bool
    arms: list[Arm]


class MayTrade(BaseModel):
    """What bots may do now, in words too; `seq` counts the changes, 0: there was none."""

    state: TradingState
    meaning: str
    seq: int
    reason: str


ERRORS: dict[int | str, dict[str, Any]] = {
    code: {"model": Problem, "description": text}
    for code, text in {
        400: "The body did not arrive whole.",
        408: "The body took too long to arrive.",
        401: "No valid key.",
        403: "The key lacks the scope.",
        413: "Too large.",
        415: "Neither JSON nor NDJSON, or encoded.",
        422: "Not what the contract says.",
        429: "Too many requests; see Retry-After.",
        503: AGAIN,
    }.items()
}
UNKNOWN: dict[int | str, dict[str, Any]] = {404: {"model": Problem, "description": "No such model here."}}
BODIES: tuple[type[BaseModel], ...] = (
    *(kind.contract for kind in rows.KINDS.values()),
    Bar,
)  # read raw, so FastAPI does not describe them
KEYED: dict[str, Any] = {"security": [{"key": []}]}


def _takes(contract: type[BaseModel], *, many: bool = False) -> dict[str, Any]:
    """How OpenAPI describes a body that is read raw."""
    item: dict[str, Any] = {"$ref": f"#/components/schemas/{contract.__name__}"}
    listed = {"type": "array", "items": item}
    content: dict[str, Any] = {"application/json": {"schema": listed if many else item}}
    if many:
        lines = {"description": "Each item on a line of its own, without brackets and commas around them."}
        content[NDJSON[0]] = {"schema": listed | lines}
    return KEYED | {"requestBody": {"required": True, "content": content}}


def router(
    ledger: Ledger,
    settings: Settings,
    clock: Callable[[], datetime],
    meters: Meters,
    scorers: Scorers | None,
    moved: Callable[[], None],
    gate: Gate,
    lanes: Lanes,
) -> APIRouter:
    """All of /v1. A key is asked for before anything else is looked at. `moved` is told of new prices and trades."""
    routes, lineups = APIRouter(prefix="/v1", responses=ERRORS), Lineups(ledger)
    # Fills have a writer of their own: no flood of predictions stands before them.
    most = (settings.service.max_books, settings.service.max_books_all)
    fills, others = (Intake(ledger, settings.service.max_rows, most) for _ in range(2))
    may_score, may_read = [Depends(gate.asks("score"))], [Depends(gate.asks("admin"))]

    async def taken(request: Request, kind: rows.Kind) -> Taken:
        key = await gate.enter(request, kind.scope or f"{kind.name}:write")
        lines = _lines(request)
        intake, lane = (fills, lanes.fills) if kind.name == "fills" else (others, lanes.rows)

        def take(body: bytes) -> Taken:
            return intake.take(kind, gate.outlined(body, lines=lines), lines=lines, source=key.label, now=clock())

        async with gate.body(request) as body:
            answer = await (lanes.large if len(body) > LARGE else lane).run(take, body)
        meters.took(kind.name, answer.stored, answer.known, len(answer.rejected))
        if answer.stored and kind.name in MOVING:
            moved()
        return answer

    for kind in rows.KINDS.values():
        _post(routes, kind, taken)

    @routes.get("/rejections", tags=["rows"], dependencies=may_read, openapi_extra=KEYED)
    async def rejections(
        kind: Kinds | None = None, limit: Annotated[int, Field(ge=1, le=MAX_SHOWN), DIGITS, Query()] = 100
    ) -> list[Rejection]:
        """Rows that were refused, newest first."""
        return await lanes.rows.run(ledger.rejections.newest, kind, limit)

    @routes.get("/trading-state", tags=["trading"], dependencies=may_score, openapi_extra=KEYED)
    async def trading_state() -> MayTrade:
        """What bots may do: no state closes a position."""
        log = await lanes.trading.run(ledger.trading.log)
        state = log[-1].state if log else TradingState.ACTIVE
        last = {"seq": log[-1].seq, "reason": log[-1].reason} if log else {"seq": 0, "reason": ""}
        return MayTrade(state=state, meaning=state.meaning, **last)

    @routes.get(
        "/models/{model}/assignment", tags=["models"], responses=UNKNOWN, dependencies=may_score, openapi_extra=KEYED
    )
    async def assignment(model: Name, key: Annotated[list[Name], Query(min_length=1, max_length=MAX_KEYS)]) -> Assigned:
        """Which version trades each key. The same key gets the same arm as long as a comparison runs."""
        lineup, stale, versions = await lanes.assignments.run(lineups.assign, model, key, clock())
        arms = [Arm(key=k, version=v, role=lineup.roles[v]) for k, v in zip(key, versions, strict=True)]
        return Assigned(model=model, champion=lineup.champion, stale=stale, arms=arms)

    @routes.post(
        "/models/{model}/score",
        tags=["models"],
        responses=UNKNOWN,
        dependencies=may_score,
        openapi_extra=_takes(Bar),
    )
    async def score(request: Request, model: Name) -> Scores:
        """Score one bar with the arm that trades each unit; every arm's score is kept in the ledger."""
        if _lines(request):
            raise HTTPException(415, f"content type must be application/json, got {NDJSON[0]}.")
        async with gate.body(request) as body:
            lane = lanes.large if len(body) > LARGE else lanes.scores
            return await lane.run(lambda: scoring.score(scorers, model, gate.outlined(body)))

    return routes


class Intake:
    """Takes rows for the ledger: checks, stores, sets aside. Usable from several threads."""

    def __init__(self, ledger: Ledger, max_rows: int, max_books: tuple[int, int]) -> None:
        self._max_books = max_books  # of a model, of all
        self._ledger, self._writer, self._max_rows = ledger, Writer(ledger), max_rows
        self._unknown = UnknownModels(ledger)

    def take(self, kind: rows.Kind, body: Outline, *, lines: bool, source: str, now: datetime) -> Taken:
        """What became of the rows of a body, when all of it is committed; raises HTTPException 422 or 503."""
        try:
            lots, refused = rows.read(kind, body, lines=lines, max_rows=self._max_rows)
        except DataError as error:
            raise HTTPException(422, str(error)) from error
        waiting: list[Future[int]] = []
        try:
            lots = [_timely(lot, refused, now) for lot in lots]
            lots = [good for lot in lots if (good := self._bookable(lot, refused, now)).places]
            waiting += [self._writer.submit(lot.rows) for lot in lots]
            stored, known = 0, 0
            for lot, future in zip(lots, waiting, strict=True):
                new = future.result(COMMIT_LIMIT_S)
                other = self._ledger.quotes.contradictions(lot.rows) if new < len(lot.rows) else []
                stored, known = stored + new, known + len(lot.rows) - new - len(other)
                refused += [rows.Refused(lot.places[i], CONTRADICTS, rows.shown(lot.rows, i)) for i in other]
                if kind.name in OF_BOOKS:
                    self._unknown.tell(lot.rows.columns, source, now)
            if refused:
                self._set_aside(kind.name, source, [(refusal.body, refusal.reason) for refusal in refused], now)
        except (StorageError, SQLAlchemyError, Late) as error:
            for future in waiting:
                future.cancel()
            log.error("rows not kept", kind=kind.name, error=str(error))
            raise HTTPException(503, AGAIN, LATER) from error
        rejected = [RefusedRow(row=bad.row, reason=bad.reason) for bad in sorted(refused, key=lambda bad: bad.row)]
        return Taken(stored=stored, known=known, rejected=rejected)

    def _bookable(self, lot: rows.Lot, refused: list[rows.Refused], now: datetime) -> rows.Lot:
        """The lot without rows that no book or price can take; those are refused."""
        bad = self._ledger.telemetry.unbookable(lot.rows, now, self._max_books)
        refused += [rows.Refused(lot.places[i], why, rows.shown(lot.rows, i)) for i, why in bad.items()]
        return lot.without(bad)

    def _set_aside(self, kind: str, source: str, pairs: Sequence[tuple[str, str]], now: datetime) -> None:
        if kind == "fills":
            refuse_fills(self._ledger, source, pairs, now)
        else:
            self._ledger.rejections.add(kind, source, pairs, now)


def _timely(lot: rows.Lot, refused: list[rows.Refused], now: datetime) -> rows.Lot:
    """The lot without rows that nobody can know yet; sent ahead they would stand for a bot that is dead by then."""
    latest, instants = microseconds(now + AHEAD), lot.rows.columns.get("known_at", ())
    if max(instants, default=latest) <= latest:
        return lot
    bad = [i for i, at in enumerate(instants) if at > latest]
    refused += [rows.Refused(lot.places[i], NOT_YET, rows.shown(lot.rows, i)) for i in bad]
    return lot.without(set(bad))


class Lineups:
    """Lineups of models, read every few seconds from the ledger; the last answer stands in while that is away.

    MLflow is never asked: what decides who trades is in the promotion log and in the comparisons.
    """

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._known: dict[str, tuple[Lineup, float]] = {}
        self._assigners: dict[str, Assigner] = {}

    def assign(self, model: str, keys: Sequence[str], at: datetime) -> tuple[Lineup, bool, list[int]]:
        """The lineup, whether it is stale, and the version that trades each key; raises as `of` does."""
        lineup, stale = self.of(model)
        assigner = self._assigners.setdefault(model, Assigner(model, self._ledger))
        try:
            return lineup, stale, assigner.assign_now(lineup, keys, at).tolist()
        except (StorageError, SQLAlchemyError) as error:  # what was assigned is told later
            log.warning("assigned without the ledger", model=model, error=str(error))
            return lineup, True, assigner.assign(lineup, keys, at).tolist()

    def of(self, model: str) -> tuple[Lineup, bool]:
        """The lineup of a model, and whether it is stale; raises HTTPException 404 or 503."""
        known = self._known.get(model)
        if known is not None and time.monotonic() < known[1] + FRESH_S:
            return known[0], False
        try:
            lineup = traded(self._ledger, model)
            assigner = self._assigners.get(model) or Assigner(model, self._ledger)
            if known is None or (known[0].salt, known[0].epoch) != (lineup.salt, lineup.epoch):
                assigner.learn(lineup)
        except RegistryError as error:
            raise HTTPException(404, f"model must have a champion, got none of {model!r}.") from error
        except (StorageError, SQLAlchemyError) as error:
            if known is None:
                raise HTTPException(503, "ledger must answer, got an error. Try again.", LATER) from error
            return known[0], True
        if len(self._known) >= MAX_MODELS:
            self._known.clear()
            self._assigners.clear()
        self._assigners[model], self._known[model] = assigner, (lineup, time.monotonic())
        return lineup, False


def _post(routes: APIRouter, kind: rows.Kind, taken: Callable[..., Any]) -> None:
    async def door(request: Request) -> Taken:
        answer: Taken = await taken(request, kind)
        return answer

    door.__doc__ = f"{kind.contract.__doc__} Send a JSON list, or one object a line as NDJSON; safe to repeat."
    routes.add_api_route(
        f"/{kind.name}",
        door,
        methods=["POST"],
        tags=["rows"],
        name=f"take_{kind.name}",
        openapi_extra=_takes(kind.contract, many=True),
    )


def _lines(request: Request) -> bool:
    """Whether the body has a JSON text a line."""
    plain = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if plain in NDJSON:
        return True
    if plain in ("application/json", ""):
        return False
    raise HTTPException(415, f"content type must be application/json or {NDJSON[0]}, got {plain[:60]!r}.")
