"""Tables of books, beside those of `schema`."""

from __future__ import annotations

from sqlalchemy import BigInteger, Column, ColumnElement, Float, Index, Integer, Table, Text, exists, text

from mlops.io.storage.schema import metadata
from mlops.io.storage.utc_time import UtcTime

book_events = Table(  # what moved a book; amounts are whole 1e-8
    "book_events",
    metadata,
    Column("model", Text, primary_key=True),
    Column("book", Text, primary_key=True),
    Column("version", Integer, primary_key=True, autoincrement=False),  # 0: a book that is of no one version
    Column("seq", Integer, primary_key=True, autoincrement=False),  # 1, 2, 3, ...
    Column("event_time", UtcTime, nullable=False),  # the bar at which the book took it
    Column("happened_at", UtcTime, nullable=False),
    Column("kind", Text, nullable=False),  # mark, funding, fill, void (a person took it back), split
    Column("unit", Text, nullable=False),
    Column("quantity", BigInteger, nullable=False),
    Column("price", Float(53), nullable=False),
    Column("fee", BigInteger, nullable=False),
    Column("slippage", BigInteger, nullable=False),
    Column("funding", BigInteger, nullable=False),
    Column("fill", BigInteger, nullable=False),  # id of the fill, 0: virtual; < 0: of a split
    Column("multiplier", Float(53), nullable=False, server_default=text("1")),
    Column("wide", Text, nullable=False, server_default=text("''")),  # JSON: amounts past 64 bits, 0 in their columns
    Column("checksum", BigInteger, nullable=False),
    sqlite_with_rowid=False,
)
Index(None, book_events.c.model, book_events.c.book, book_events.c.version, book_events.c.event_time)
Index(  # a fill is booked once
    "uq_book_events_fill",
    book_events.c.model,
    book_events.c.book,
    book_events.c.version,
    book_events.c.fill,
    unique=True,
    sqlite_where=text("fill > 0"),
    postgresql_where=text("fill > 0"),
)
book_states = Table(  # a book at the end of each bar, in one commit with its events; amounts are whole 1e-8
    "book_states",
    metadata,
    Column("model", Text, primary_key=True),
    Column("book", Text, primary_key=True),
    Column("version", Integer, primary_key=True, autoincrement=False),
    Column("event_time", UtcTime, primary_key=True),
    Column("known_at", UtcTime, nullable=False),
    Column("seq", Integer, nullable=False),  # of its last event
    *(
        Column(name, BigInteger, nullable=False)
        for name in ("start", "cash", "equity", "peak", "realised", "unrealised", "fees", "slippage", "funding")
    ),
    *(Column(name, BigInteger, nullable=False) for name in ("traded", "gross", "net")),
    Column("positions", Text, nullable=False),  # JSON: unit -> quantity, cost, mark, and multiplier if not 1
    Column("wide", Text, nullable=False, server_default=text("''")),
    Column("checksum", BigInteger, nullable=False),
    sqlite_with_rowid=False,
)
voids = Table(  # append-only: a fill that a person took back; the fill itself stays
    "voids",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("fill_id", Text, nullable=False, unique=True),
    Column("actor", Text, nullable=False),
    Column("reason", Text, nullable=False),
    Column("created_at", UtcTime, nullable=False),
    Column("checksum", BigInteger, nullable=False),
)
splits = Table(  # append-only: what a person said of a unit; taken back by a void of its name
    "splits",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("split_id", Text, nullable=False, unique=True),
    Column("unit", Text, nullable=False),
    Column("new", BigInteger, nullable=False),  # units for each `old` ones
    Column("old", BigInteger, nullable=False),
    Column("event_time", UtcTime, nullable=False),  # from then on trades and prices are of new units
    Column("price", Float(53), nullable=False),  # of a new unit, confirmed with it
    Column("actor", Text, nullable=False),
    Column("reason", Text, nullable=False),
    Column("created_at", UtcTime, nullable=False),
    Column("checksum", BigInteger, nullable=False),
)


def is_void(fill_id: ColumnElement[str]) -> ColumnElement[bool]:
    """The condition that a fill was taken back."""
    return exists().where(voids.c.fill_id == fill_id)
