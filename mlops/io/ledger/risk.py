"""What risk said: states that jobs computed for the page, forecasts as they were made."""

from __future__ import annotations

import hashlib
import io
import math
from collections.abc import Mapping, Sequence
from dataclasses import astuple, dataclass, fields
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np
import orjson
from numpy.typing import NDArray
from sqlalchemy import JSON, BigInteger, Select, Text, bindparam, cast, delete, func, select, type_coerce

from mlops.errors import CorruptionError, DataError
from mlops.io.ledger.registry import added
from mlops.io.storage.book_schema import is_void
from mlops.io.storage.database import Tables
from mlops.io.storage.risk_schema import risk_forecasts, risk_states
from mlops.io.storage.schema import fills, quotes
from mlops.io.storage.windows import microseconds

if TYPE_CHECKING:
    import pandas as pd

DOCUMENT = "document"  # the array that holds the JSON
KEPT = 5  # states of a kind and scope: the page reads the newest, the runs in MLflow keep the evidence


@dataclass(frozen=True, slots=True)
class RiskState:
    """What a job computed: a JSON document and arrays."""

    as_of: datetime
    body: Mapping[str, Any]
    arrays: Mapping[str, NDArray[Any]]

    @property
    def bars(self) -> NDArray[np.datetime64]:
        """Ends of the bars (UTC, oldest first) that a state of the VaR was estimated from.

        Of a state from before they were kept, the ends of what was judged; none of one without either.
        """
        ends = self.arrays.get("bars", self.arrays.get("times", np.empty(0)))
        return np.asarray(ends, dtype=np.int64).astype("datetime64[us]")


@dataclass(frozen=True, slots=True)
class Forecast:
    """A VaR and an ES (loss > 0, fractions of `equity`) of the `horizon` bars after `event_time`."""

    scope: str
    event_time: datetime
    confidence: float
    horizon: int
    model: str
    var: float
    es: float
    equity: float
    made_at: datetime


FORECAST = tuple(field.name for field in fields(Forecast))


class RiskRows(Tables):
    """States and forecasts."""

    def put_state(
        self, kind: str, scope: str, as_of: datetime, body: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]]
    ) -> bool:
        """Keep what a job computed for the page; False where that instant has one. The last KEPT of a kind stay."""
        row = {"kind": kind, "scope": scope, "as_of": as_of, **_packed(body, arrays)}
        c = risk_states.c
        rules = (c.kind == kind, c.scope == scope)
        last = select(c.as_of).where(*rules).order_by(c.as_of.desc()).offset(KEPT - 1).limit(1)
        with self._writing() as connection:
            new = added(connection, risk_states, row)
            oldest = connection.scalar(last)
            if oldest is not None:
                connection.execute(delete(risk_states).where(*rules, c.as_of < oldest))
        return new

    def state(self, kind: str, scope: str, *, as_of: datetime) -> RiskState | None:
        """The newest state of a kind until `as_of`; None where there is none.

        Raises
        ------
        CorruptionError
            It is not what was written.
        """
        c = risk_states.c
        query = select(c.as_of, c.body, c.digest).where(c.kind == kind, c.scope == scope, c.as_of <= as_of)
        with self._reading() as connection:
            row = connection.execute(query.order_by(c.as_of.desc()).limit(1)).one_or_none()
        return None if row is None else _unpacked(row, kind, scope)

    def state_at(self, kind: str, scope: str, *, as_of: datetime) -> datetime | None:
        """Instant of the newest state; a cheap way to ask whether there is a newer one."""
        c = risk_states.c
        with self._reading() as connection:
            at: datetime | None = connection.scalar(
                select(func.max(c.as_of)).where(c.kind == kind, c.scope == scope, c.as_of <= as_of)
            )
        return at

    def newest_state(self, kinds: Sequence[str]) -> datetime | None:
        """Instant of the newest state of these kinds, in any scope, whatever the clock says."""
        with self._reading() as connection:
            at: datetime | None = connection.scalar(
                select(func.max(risk_states.c.as_of)).where(risk_states.c.kind.in_(kinds))
            )
        return at

    def redate_states(self, kinds: Sequence[str], now: datetime) -> int:
        """Date the newest states of these kinds that are of after `now` to `now`, with every instant in them, and
        drop the others; how many were after it. One commit.

        Raises
        ------
        CorruptionError
            One of them is not what was written.
        """
        c = risk_states.c
        ahead = (c.kind.in_(kinds), c.as_of > now)
        query = select(c.kind, c.scope, c.as_of, c.body, c.digest).where(*ahead).order_by(c.as_of)
        with self._writing() as connection:
            rows = connection.execute(query).all()
            for (kind, scope), row in {(row.kind, row.scope): row for row in rows}.items():
                state = _unpacked(row, kind, scope)
                new = {"kind": kind, "scope": scope, "as_of": now, **_packed(_until(state.body, now), state.arrays)}
                connection.execute(delete(risk_states).where(c.kind == kind, c.scope == scope, c.as_of == now))
                connection.execute(risk_states.insert().values(new))
            connection.execute(delete(risk_states).where(*ahead))
        return len(rows)

    def add_forecasts(self, forecasts: Sequence[Forecast]) -> int:
        """Append forecasts; how many were new: what was said of a bar stands."""
        for f in forecasts:
            if not (f.es >= f.var and math.isfinite(f.es) and math.isfinite(f.var)):
                raise DataError(f"forecast of {f.scope} must have ES >= VaR, got {f.es} and {f.var}. Fit anew.")
        with self._writing() as connection:
            return sum(
                added(connection, risk_forecasts, dict(zip(FORECAST, astuple(row), strict=True))) for row in forecasts
            )

    def forecasts(self, scope: str, *, confidence: float, horizon: int, as_of: datetime) -> pd.DataFrame:
        """What was said until `as_of`, by time: the fields of `Forecast`."""
        import pandas as pd

        c = risk_forecasts.c
        keys = (c.scope == scope, c.confidence == confidence, c.horizon == horizon, c.event_time <= as_of)
        with self._reading() as connection:
            rows = connection.execute(select(*(c[name] for name in FORECAST)).where(*keys).order_by(c.event_time)).all()
        frame = pd.DataFrame(rows, columns=list(FORECAST))
        for name in ("event_time", "made_at"):
            frame[name] = pd.to_datetime(frame[name], utc=True)
        return frame

    def traded_models(self) -> list[str]:
        """The models that fills were told of; one look into the index a model."""
        c, models, model = fills.c, list[str](), ""
        with self._reading() as connection:
            while (model := connection.scalar(select(func.min(c.model)).where(c.model > model))) is not None:
                models.append(model)
        return models

    def fills_since(self, model: str, at: datetime) -> int:
        """How many trades a model made from an instant on."""
        c = fills.c
        rules = (c.model == model, type_coerce(c.event_time, BigInteger) >= microseconds(at), ~is_void(c.fill_id))
        with self._reading() as connection:
            return int(connection.scalar(select(func.count()).select_from(fills).where(*rules)) or 0)

    def first_traded(self, model: str, book: str) -> datetime | None:
        """When a book's first trade was; None of one that never traded."""
        c = fills.c
        first = select(func.min(type_coerce(c.event_time, BigInteger)))
        with self._reading() as connection:
            at = connection.scalar(first.where(c.model == model, c.book == book, ~is_void(c.fill_id)))
        return None if at is None else datetime.fromtimestamp(0, UTC) + timedelta(microseconds=int(at))

    def last_fill(self) -> int:
        """Number of the newest fill: while it stays nobody has traded."""
        with self._reading() as connection:
            return int(connection.scalar(select(func.max(fills.c.id))) or 0)

    def latest_quotes(self, units: Sequence[str], *, as_of: datetime) -> pd.DataFrame:
        """The newest quote of each unit that was known at `as_of`: unit, event_time, bid, ask; one seek a unit.

        For a look: it is not held against checksums.
        """
        import pandas as pd

        with self._reading() as connection:
            given = {"asked": orjson.dumps(list(units)).decode(), "until": microseconds(as_of)}
            rows = connection.execute(_latest(connection.dialect.name), given).all()
        frame = pd.DataFrame(rows, columns=["unit", "event_time", "bid", "ask"])
        frame["event_time"] = pd.to_datetime(frame["event_time"], utc=True)
        return frame.astype({"bid": float, "ask": float})


@lru_cache
def _latest(dialect: str) -> Select[Any]:
    """The newest quote of each unit of the JSON list `:asked` until `:until`."""
    if dialect == "sqlite":
        asked = func.json_each(bindparam("asked")).table_valued("value")
    else:
        asked = func.json_array_elements_text(cast(bindparam("asked", type_=Text), JSON)).table_valued("value")
    c, newest, until = quotes.c, quotes.alias(), bindparam("until", type_=BigInteger)
    at, known = (type_coerce(newest.c[name], BigInteger) for name in ("event_time", "known_at"))
    rules = newest.c.unit == asked.c.value, at <= until, known <= until
    last = select(newest.c.event_time).where(*rules).order_by(newest.c.event_time.desc()).limit(1).scalar_subquery()
    return select(c.unit, c.event_time, c.bid, c.ask).join(asked, (c.unit == asked.c.value) & (c.event_time == last))


def _packed(body: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]]) -> dict[str, Any]:
    """Columns of a state as they are stored."""
    packed = io.BytesIO()
    document = np.frombuffer(orjson.dumps(body, option=orjson.OPT_SERIALIZE_NUMPY), dtype=np.uint8)
    np.savez_compressed(packed, allow_pickle=False, **{DOCUMENT: document, **arrays})
    data = packed.getvalue()
    return {"body": data, "digest": hashlib.sha256(data).hexdigest()}


def _unpacked(row: Any, kind: str, scope: str) -> RiskState:
    if hashlib.sha256(row.body).hexdigest() != row.digest:
        raise CorruptionError(f"risk state {kind} of {scope} at {row.as_of} must be as written, got other bytes.")
    with np.load(io.BytesIO(row.body), allow_pickle=False) as packed:
        arrays = {name: packed[name] for name in packed.files if name != DOCUMENT}
        return RiskState(row.as_of, orjson.loads(packed[DOCUMENT].tobytes()), arrays)


def _until(value: Any, now: datetime) -> Any:
    """JSON with no instant in its values after `now`."""
    if isinstance(value, dict):
        return {name: _until(instant, now) for name, instant in value.items()}
    if isinstance(value, list):
        return [_until(instant, now) for instant in value]
    try:
        at = datetime.fromisoformat(value) if isinstance(value, str) else now
    except ValueError:
        return value
    return now.isoformat() if at.tzinfo is not None and at > now else value
