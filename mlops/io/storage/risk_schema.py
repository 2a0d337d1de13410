"""Tables of risk, beside those of `schema`."""

from __future__ import annotations

from sqlalchemy import BigInteger, Boolean, Column, Float, Index, Integer, LargeBinary, Table, Text

from mlops.io.storage.schema import metadata
from mlops.io.storage.utc_time import UtcTime

instruments = Table(  # what a unit is, where it is more than a share in the book's currency
    "instruments",
    metadata,
    Column("unit", Text, primary_key=True),
    Column("kind", Text, nullable=False),  # spot, future, call, put
    Column("currency", Text, nullable=False),
    Column("sector", Text, nullable=False),
    Column("multiplier", Float(53), nullable=False),
    Column("underlying", Text, nullable=False),
    Column("strike", Float(53)),
    Column("expiry", UtcTime),
    Column("american", Boolean, nullable=False),
    Column("daily_volume", Float(53)),  # units that trade on a usual day; NULL: unknown
    Column("told_at", UtcTime, nullable=False),
)
risk_states = Table(  # what a job computed for the page that shows it every second
    "risk_states",
    metadata,
    Column("kind", Text, primary_key=True),  # var, stress, correlation, monitor
    Column("scope", Text, primary_key=True),  # all, a strategy, or a model
    Column("as_of", UtcTime, primary_key=True),
    Column("body", LargeBinary, nullable=False),  # npz: one JSON document and the arrays that it speaks of
    Column("digest", Text, nullable=False),  # sha256 of `body`
)
risk_forecasts = Table(  # append-only: what was said of the coming bars before they came
    "risk_forecasts",
    metadata,
    Column("scope", Text, primary_key=True),
    Column("event_time", UtcTime, primary_key=True),  # the last bar that it knows
    Column("confidence", Float(53), primary_key=True),
    Column("horizon", Integer, primary_key=True, autoincrement=False),
    Column("model", Text, nullable=False),
    Column("var", Float(53), nullable=False),  # loss > 0, fraction of equity
    Column("es", Float(53), nullable=False),
    Column("equity", Float(53), nullable=False),
    Column("made_at", UtcTime, nullable=False),
    sqlite_with_rowid=False,
)
Index(None, risk_states.c.kind, risk_states.c.as_of)
balances = Table(  # append-only: what the account behind a book was worth, open positions included
    "balances",
    metadata,
    Column("model", Text, primary_key=True),
    Column("book", Text, primary_key=True),
    Column("event_time", UtcTime, primary_key=True),
    Column("known_at", UtcTime, nullable=False),
    Column("amount", Float(53), nullable=False),
    Column("flow", Float(53), nullable=False),  # paid in (> 0) or taken out since the balance before it
    Column("source", Text, nullable=False),  # setting, api, bot, freqtrade, or who told
    Column("checksum", BigInteger),
    sqlite_with_rowid=False,
)
confirmed_prices = Table(  # a person's word on what a unit is worth
    "confirmed_prices",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("unit", Text, nullable=False, index=True),
    Column("price", Float(53), nullable=False),
    Column("actor", Text, nullable=False),
    Column("reason", Text, nullable=False),
    Column("confirmed_at", UtcTime, nullable=False),
)
