"""All tables of the first release."""

from alembic import op
from sqlalchemy import (
    BigInteger,
    Column,
    Float,
    ForeignKeyConstraint,
    Integer,
    LargeBinary,
    PrimaryKeyConstraint,
    Text,
    UniqueConstraint,
    text,
)

revision = "0001"
down_revision = None


def upgrade() -> None:
    _telemetry()
    _trading()
    _history()
    _inbox()
    _clock()


def downgrade() -> None:
    """Drop everything, children first."""
    tables = (
        "predictions",
        "outcomes",
        "fills",
        "bundles",
        "promotions",
        "experiments",
        "alerts",
        "deliveries",
        "job_runs",
        "feature_sets",
    )
    for table in tables:
        op.drop_table(table)


def _telemetry() -> None:
    op.create_table(
        "feature_sets",
        Column("id", Integer, nullable=False),
        Column("names", Text, nullable=False),
        Column("digest", Text, nullable=False),
        PrimaryKeyConstraint("id", name=op.f("pk_feature_sets")),
        UniqueConstraint("digest", name=op.f("uq_feature_sets_digest")),
    )
    op.create_table(
        "predictions",
        Column("model", Text, nullable=False),
        Column("event_time", BigInteger, nullable=False),
        Column("version", Integer, autoincrement=False, nullable=False),
        Column("unit", Text, nullable=False),
        Column("known_at", BigInteger, nullable=False),
        Column("matures_at", BigInteger, nullable=False),
        Column("role", Text, nullable=False),
        Column("probability", Float(53), nullable=False),
        Column("feature_set_id", Integer, nullable=False),
        Column("features", LargeBinary, nullable=False),
        Column("correlation_id", Text, nullable=False),
        ForeignKeyConstraint(["feature_set_id"], ["feature_sets.id"], name=op.f("fk_predictions_feature_set_id")),
        PrimaryKeyConstraint("model", "event_time", "version", "unit", name=op.f("pk_predictions")),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "outcomes",
        Column("model", Text, nullable=False),
        Column("event_time", BigInteger, nullable=False),
        Column("unit", Text, nullable=False),
        Column("known_at", BigInteger, nullable=False),
        Column("label", Float(53), nullable=False),
        Column("value", Float(53), nullable=False),
        PrimaryKeyConstraint("model", "event_time", "unit", name=op.f("pk_outcomes")),
        sqlite_with_rowid=False,
    )


def _trading() -> None:
    op.create_table(
        "fills",
        Column("id", Integer, nullable=False),
        Column("fill_id", Text, nullable=False),
        Column("model", Text, nullable=False),
        Column("version", Integer, nullable=False),
        Column("book", Text, nullable=False),
        Column("unit", Text, nullable=False),
        Column("event_time", BigInteger, nullable=False),
        Column("quantity", Float(53), nullable=False),
        Column("price", Float(53), nullable=False),
        Column("fee", Float(53), nullable=False),
        PrimaryKeyConstraint("id", name=op.f("pk_fills")),
        UniqueConstraint("fill_id", name=op.f("uq_fills_fill_id")),
    )
    op.create_index(op.f("ix_fills_model_book_unit"), "fills", ["model", "book", "unit"])
    op.create_table(
        "bundles",
        Column("model", Text, nullable=False),
        Column("version", Integer, autoincrement=False, nullable=False),
        Column("digest", Text, nullable=False),
        Column("run_id", Text, nullable=False),
        Column("model_id", Text, nullable=False),
        Column("train_start", BigInteger, nullable=False),
        Column("train_end", BigInteger, nullable=False),
        Column("horizon_bars", Integer, nullable=False),
        Column("registered_at", BigInteger, nullable=False),
        PrimaryKeyConstraint("model", "version", name=op.f("pk_bundles")),
    )


def _history() -> None:
    op.create_table(
        "promotions",
        Column("id", Integer, nullable=False),
        Column("model", Text, nullable=False),
        Column("seq", Integer, nullable=False),
        Column("from_version", Integer),
        Column("to_version", Integer, nullable=False),
        Column("kind", Text, nullable=False),
        Column("actor", Text, nullable=False),
        Column("reason", Text, nullable=False),
        Column("evidence_run", Text, nullable=False),
        Column("correlation_id", Text, nullable=False),
        Column("state", Text, nullable=False),
        Column("created_at", BigInteger, nullable=False),
        Column("settled_at", BigInteger),
        PrimaryKeyConstraint("id", name=op.f("pk_promotions")),
        UniqueConstraint("model", "seq", name=op.f("uq_promotions_model_seq")),
    )
    op.create_table(
        "experiments",
        Column("id", Integer, nullable=False),
        Column("model", Text, nullable=False),
        Column("kind", Text, nullable=False),
        Column("champion", Integer, nullable=False),
        Column("challenger", Integer, nullable=False),
        Column("salt", Text, nullable=False),
        Column("split", Float(53), nullable=False),
        Column("started_at", BigInteger, nullable=False),
        Column("verdict", Text),
        Column("ended_at", BigInteger),
        PrimaryKeyConstraint("id", name=op.f("pk_experiments")),
    )
    op.create_index(
        "uq_experiments_open",
        "experiments",
        ["model", "kind", "champion", "challenger"],
        unique=True,
        sqlite_where=text("ended_at IS NULL"),
        postgresql_where=text("ended_at IS NULL"),
    )


def _inbox() -> None:
    op.create_table(
        "alerts",
        Column("id", Integer, nullable=False),
        Column("key", Text, nullable=False),
        Column("priority", Text, nullable=False),
        Column("model", Text, nullable=False),
        Column("title", Text, nullable=False),
        Column("as_of", BigInteger, nullable=False),
        Column("details", Text, nullable=False),
        Column("resolved_at", BigInteger),
        PrimaryKeyConstraint("id", name=op.f("pk_alerts")),
        UniqueConstraint("key", name=op.f("uq_alerts_key")),
    )
    op.create_table(
        "deliveries",
        Column("id", Integer, nullable=False),
        Column("delivery_id", Text, nullable=False),
        Column("source", Text, nullable=False),
        Column("body", LargeBinary, nullable=False),
        Column("received_at", BigInteger, nullable=False),
        Column("model", Text),
        Column("alias", Text),
        Column("version", Integer),
        Column("settled_at", BigInteger),
        Column("settled_seq", Integer),
        PrimaryKeyConstraint("id", name=op.f("pk_deliveries")),
        UniqueConstraint("delivery_id", name=op.f("uq_deliveries_delivery_id")),
        UniqueConstraint("settled_seq", name=op.f("uq_deliveries_settled_seq")),
    )
    op.create_index(op.f("ix_deliveries_model_settled_seq"), "deliveries", ["model", "settled_seq"])


def _clock() -> None:
    op.create_table(
        "job_runs",
        Column("id", Integer, nullable=False),
        Column("job", Text, nullable=False),
        Column("scheduled_for", BigInteger, nullable=False),
        Column("state", Text, nullable=False),
        Column("attempts", Integer, nullable=False),
        Column("run_id", Text, nullable=False),
        Column("started_at", BigInteger, nullable=False),
        Column("ended_at", BigInteger),
        PrimaryKeyConstraint("id", name=op.f("pk_job_runs")),
        UniqueConstraint("job", "scheduled_for", name=op.f("uq_job_runs_job_scheduled_for")),
    )
