"""Books: every event, and the state at each bar."""

from alembic import op
from sqlalchemy import BigInteger, Column, Float, Integer, PrimaryKeyConstraint, Text, text

revision = "0003"
down_revision = "0002"
AMOUNTS = ("start", "cash", "equity", "peak", "realised", "unrealised", "fees", "slippage", "funding", "traded")


def upgrade() -> None:
    _events()
    _states()
    op.create_index(op.f("ix_fills_model_book_id"), "fills", ["model", "book", "id"])


def downgrade() -> None:
    op.drop_index(op.f("ix_fills_model_book_id"), "fills")
    op.drop_table("book_events")
    op.drop_table("book_states")
    op.execute("DELETE FROM tallies WHERE table_name IN ('book_events', 'book_states')")


def _events() -> None:
    op.create_table(
        "book_events",
        Column("model", Text, nullable=False),
        Column("book", Text, nullable=False),
        Column("version", Integer, autoincrement=False, nullable=False),
        Column("seq", Integer, autoincrement=False, nullable=False),
        Column("event_time", BigInteger, nullable=False),
        Column("happened_at", BigInteger, nullable=False),
        Column("kind", Text, nullable=False),
        Column("unit", Text, nullable=False),
        Column("quantity", BigInteger, nullable=False),
        Column("price", Float(53), nullable=False),
        Column("fee", BigInteger, nullable=False),
        Column("slippage", BigInteger, nullable=False),
        Column("funding", BigInteger, nullable=False),
        Column("fill", BigInteger, nullable=False),
        Column("checksum", BigInteger, nullable=False),
        PrimaryKeyConstraint("model", "book", "version", "seq", name=op.f("pk_book_events")),
        sqlite_with_rowid=False,
    )
    key = ["model", "book", "version"]
    op.create_index(op.f("ix_book_events_model_book_version_event_time"), "book_events", [*key, "event_time"])
    op.create_index(
        "uq_book_events_fill",
        "book_events",
        [*key, "fill"],
        unique=True,
        sqlite_where=text("fill > 0"),
        postgresql_where=text("fill > 0"),
    )


def _states() -> None:
    op.create_table(
        "book_states",
        Column("model", Text, nullable=False),
        Column("book", Text, nullable=False),
        Column("version", Integer, autoincrement=False, nullable=False),
        Column("event_time", BigInteger, nullable=False),
        Column("known_at", BigInteger, nullable=False),
        Column("seq", Integer, nullable=False),
        *(Column(name, BigInteger, nullable=False) for name in AMOUNTS),
        Column("gross", BigInteger, nullable=False),
        Column("net", BigInteger, nullable=False),
        Column("positions", Text, nullable=False),
        Column("checksum", BigInteger, nullable=False),
        PrimaryKeyConstraint("model", "book", "version", "event_time", name=op.f("pk_book_states")),
        sqlite_with_rowid=False,
    )
