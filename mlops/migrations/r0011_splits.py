"""Splits that a person told."""

from alembic import op
from sqlalchemy import BigInteger, Column, Float, Integer, PrimaryKeyConstraint, Text, UniqueConstraint

revision = "0011"
down_revision = "0010"


def upgrade() -> None:
    op.create_table(
        "splits",
        Column("id", Integer, nullable=False),
        Column("split_id", Text, nullable=False),
        Column("unit", Text, nullable=False),
        Column("new", BigInteger, nullable=False),
        Column("old", BigInteger, nullable=False),
        Column("event_time", BigInteger, nullable=False),
        Column("price", Float(53), nullable=False),
        Column("actor", Text, nullable=False),
        Column("reason", Text, nullable=False),
        Column("created_at", BigInteger, nullable=False),
        Column("checksum", BigInteger, nullable=False),
        PrimaryKeyConstraint("id", name=op.f("pk_splits")),
        UniqueConstraint("split_id", name=op.f("uq_splits_split_id")),
    )


def downgrade() -> None:
    op.drop_table("splits")
