"""Digests of bars that were read, and changed ones that a person accepted."""

from alembic import op
from sqlalchemy import BigInteger, Column, Integer, PrimaryKeyConstraint, Text

revision = "0010"
down_revision = "0009"


def upgrade() -> None:
    op.create_table(
        "bars_digests",
        Column("source", Text, nullable=False),
        Column("symbol", Text, nullable=False),
        Column("bars", BigInteger, nullable=False),
        Column("until", BigInteger, nullable=False),
        Column("digest", Text, nullable=False),
        Column("noted_at", BigInteger, nullable=False),
        PrimaryKeyConstraint("source", "symbol", name=op.f("pk_bars_digests")),
    )
    op.create_table(
        "bars_accepted",
        Column("id", Integer, nullable=False),
        Column("source", Text, nullable=False),
        Column("symbol", Text, nullable=False),
        Column("before", Text, nullable=False),
        Column("after", Text, nullable=False),
        Column("actor", Text, nullable=False),
        Column("reason", Text, nullable=False),
        Column("accepted_at", BigInteger, nullable=False),
        PrimaryKeyConstraint("id", name=op.f("pk_bars_accepted")),
    )


def downgrade() -> None:
    op.drop_table("bars_accepted")
    op.drop_table("bars_digests")
