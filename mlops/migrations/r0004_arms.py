"""Arms that trade by weight: what was assigned to whom, by which weights, and what each arm cost to ask."""

from alembic import op
from sqlalchemy import BigInteger, Column, Float, Integer, PrimaryKeyConstraint, Text

revision = "0004"
down_revision = "0003"
NEW = ("assignments", "weights", "scorings")


def upgrade() -> None:
    op.create_table(
        "weights",
        Column("model", Text, nullable=False),
        Column("salt", Text, nullable=False),
        Column("epoch", Integer, nullable=False),
        Column("version", Integer, nullable=False),
        Column("weight", Float(53), nullable=False),
        Column("at", BigInteger, nullable=False),
        Column("actor", Text, nullable=False),
        Column("reason", Text, nullable=False),
        PrimaryKeyConstraint("model", "salt", "epoch", "version", name=op.f("pk_weights")),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "assignments",
        Column("model", Text, nullable=False),
        Column("salt", Text, nullable=False),
        Column("key", Text, nullable=False),
        Column("version", Integer, nullable=False),
        Column("epoch", Integer, nullable=False),
        Column("assigned_at", BigInteger, nullable=False),
        PrimaryKeyConstraint("model", "salt", "key", name=op.f("pk_assignments")),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "scorings",
        Column("model", Text, nullable=False),
        Column("event_time", BigInteger, nullable=False),
        Column("version", Integer, nullable=False),
        Column("batch", Text, nullable=False),
        Column("failed", Integer, nullable=False),
        Column("rows", Integer, nullable=False),
        Column("seconds", Float(53), nullable=False),
        Column("checksum", BigInteger, nullable=True),
        PrimaryKeyConstraint("model", "event_time", "version", "batch", "failed", name=op.f("pk_scorings")),
        sqlite_with_rowid=False,
    )


def downgrade() -> None:
    for table in NEW:
        op.drop_table(table)
