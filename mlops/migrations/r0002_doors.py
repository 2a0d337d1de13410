"""What the doors need: durable jobs, outgoing hooks, API keys, rejected rows, quotes, archives, checksums."""

from alembic import op
from sqlalchemy import (
    BigInteger,
    Column,
    Float,
    Integer,
    PrimaryKeyConstraint,
    Text,
    UniqueConstraint,
    text,
)

revision = "0002"
down_revision = "0001"
NEW = ("trading_states", "dispatches", "endpoints", "events", "api_keys", "rejections", "quotes", "archives")
SUMMED = ("predictions", "outcomes", "fills", "bundles", "promotions")


def upgrade() -> None:
    _jobs()
    _hooks()
    _api()
    _quotes()
    _archives()
    op.add_column("experiments", Column("alias_at", BigInteger, nullable=True))
    for table in SUMMED:  # NULL: written by a release that had no checksums
        op.add_column(table, Column("checksum", BigInteger, nullable=True))
    op.add_column("predictions", Column("features_checksum", BigInteger, nullable=True))


def downgrade() -> None:
    for table in NEW:
        op.drop_table(table)
    op.drop_index("ix_deliveries_unsettled", "deliveries")
    op.drop_column("experiments", "alias_at")
    for table in SUMMED:
        op.drop_column(table, "checksum")
    op.drop_column("predictions", "features_checksum")
    op.drop_table("tallies")
    op.execute("DELETE FROM job_runs WHERE started_at IS NULL")
    op.drop_index(op.f("ix_job_runs_state_not_before"), "job_runs")
    with op.batch_alter_table("job_runs") as batch:
        for name in ("owner", "fence", "lease_until", "not_before", "error"):
            batch.drop_column(name)
        batch.alter_column("started_at", existing_type=BigInteger, nullable=False)


def _jobs() -> None:
    with op.batch_alter_table("job_runs") as batch:
        batch.alter_column("started_at", existing_type=BigInteger, nullable=True)
        batch.add_column(Column("owner", Text, nullable=False, server_default=text("''")))
        batch.add_column(Column("fence", Integer, nullable=False, server_default=text("0")))
        batch.add_column(Column("lease_until", BigInteger, nullable=True))
        batch.add_column(Column("not_before", BigInteger, nullable=True))
        batch.add_column(Column("error", Text, nullable=False, server_default=text("''")))
    op.create_index(op.f("ix_job_runs_state_not_before"), "job_runs", ["state", "not_before"])


def _hooks() -> None:
    op.create_index(
        "ix_deliveries_unsettled",
        "deliveries",
        ["source", "id"],
        sqlite_where=text("settled_at IS NULL"),
        postgresql_where=text("settled_at IS NULL"),
    )
    op.create_table(
        "events",
        Column("id", Integer, nullable=False),
        Column("seq", Integer, nullable=False),
        Column("event_id", Text, nullable=False),
        Column("kind", Text, nullable=False),
        Column("model", Text, nullable=False),
        Column("body", Text, nullable=False),
        Column("correlation_id", Text, nullable=False),
        Column("created_at", BigInteger, nullable=False),
        PrimaryKeyConstraint("id", name=op.f("pk_events")),
        UniqueConstraint("seq", name=op.f("uq_events_seq")),
        UniqueConstraint("event_id", name=op.f("uq_events_event_id")),
    )
    op.create_table(
        "endpoints",
        Column("name", Text, nullable=False),
        Column("since_seq", Integer, nullable=False),
        Column("seen_at", BigInteger, nullable=False),
        Column("fingerprint", Text, nullable=False),
        Column("disabled", Text, nullable=False),
        Column("failures", Integer, nullable=False),
        Column("probe_at", BigInteger, nullable=False),
        Column("owner", Text, nullable=False),
        Column("lease_until", BigInteger, nullable=False),
        PrimaryKeyConstraint("name", name=op.f("pk_endpoints")),
    )
    op.create_table(
        "dispatches",
        Column("id", Integer, nullable=False),
        Column("endpoint", Text, nullable=False),
        Column("seq", Integer, nullable=False),
        Column("state", Text, nullable=False),
        Column("attempts", Integer, nullable=False),
        Column("not_before", BigInteger, nullable=False),
        Column("last_status", Integer),
        Column("last_error", Text, nullable=False),
        Column("settled_at", BigInteger),
        PrimaryKeyConstraint("id", name=op.f("pk_dispatches")),
        UniqueConstraint("endpoint", "seq", name=op.f("uq_dispatches_endpoint_seq")),
    )
    op.create_index(op.f("ix_dispatches_state_not_before"), "dispatches", ["state", "not_before"])
    op.create_table(
        "trading_states",
        Column("id", Integer, nullable=False),
        Column("seq", Integer, nullable=False),
        Column("state", Text, nullable=False),
        Column("actor", Text, nullable=False),
        Column("reason", Text, nullable=False),
        Column("correlation_id", Text, nullable=False),
        Column("created_at", BigInteger, nullable=False),
        PrimaryKeyConstraint("id", name=op.f("pk_trading_states")),
        UniqueConstraint("seq", name=op.f("uq_trading_states_seq")),
    )


def _api() -> None:
    op.create_table(
        "api_keys",
        Column("id", Text, nullable=False),
        Column("label", Text, nullable=False),
        Column("digest", Text, nullable=False),
        Column("scopes", Text, nullable=False),
        Column("created_at", BigInteger, nullable=False),
        Column("expires_at", BigInteger),
        Column("revoked_at", BigInteger),
        PrimaryKeyConstraint("id", name=op.f("pk_api_keys")),
    )
    op.create_table(
        "rejections",
        Column("id", Integer, nullable=False),
        Column("kind", Text, nullable=False),
        Column("source", Text, nullable=False),
        Column("reason", Text, nullable=False),
        Column("body", Text, nullable=False),
        Column("digest", Text, nullable=False),
        Column("received_at", BigInteger, nullable=False),
        PrimaryKeyConstraint("id", name=op.f("pk_rejections")),
        UniqueConstraint("kind", "digest", name=op.f("uq_rejections_kind_digest")),
    )
    op.create_index(op.f("ix_rejections_received_at"), "rejections", ["received_at"])


def _quotes() -> None:
    op.create_table(
        "quotes",
        Column("unit", Text, nullable=False),
        Column("event_time", BigInteger, nullable=False),
        Column("known_at", BigInteger, nullable=False),
        Column("bid", Float(53), nullable=False),
        Column("ask", Float(53), nullable=False),
        Column("bid_size", Float(53), nullable=False),
        Column("ask_size", Float(53), nullable=False),
        Column("checksum", BigInteger, nullable=True),
        PrimaryKeyConstraint("unit", "event_time", name=op.f("pk_quotes")),
        sqlite_with_rowid=False,
    )


def _archives() -> None:
    op.create_table(
        "tallies",
        Column("table_name", Text, nullable=False),
        Column("scope", Text, nullable=False),
        Column("hour", BigInteger, nullable=False),
        Column("rows", Integer, nullable=False),
        PrimaryKeyConstraint("table_name", "scope", "hour", name=op.f("pk_tallies")),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "archives",
        Column("id", Integer, nullable=False),
        Column("table_name", Text, nullable=False),
        Column("hour", BigInteger, nullable=False),
        Column("path", Text, nullable=False),
        Column("sha256", Text, nullable=False),
        Column("rows", Integer, nullable=False),
        Column("written_at", BigInteger, nullable=False),
        PrimaryKeyConstraint("id", name=op.f("pk_archives")),
        UniqueConstraint("table_name", "hour", name=op.f("uq_archives_table_name_hour")),
    )
