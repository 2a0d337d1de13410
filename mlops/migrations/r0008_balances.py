"""Balances: what the account behind a book was worth, and what was paid in or taken out."""

from alembic import op
from sqlalchemy import BigInteger, Column, Float, PrimaryKeyConstraint, Text

revision = "0008"
down_revision = "0007"


def upgrade() -> None:
    op.create_table(
        "balances",
        Column("model", Text, nullable=False),
        Column("book", Text, nullable=False),
        Column("event_time", BigInteger, nullable=False),
        Column("known_at", BigInteger, nullable=False),
        Column("amount", Float(53), nullable=False),
        Column("flow", Float(53), nullable=False),
        Column("source", Text, nullable=False),
        Column("checksum", BigInteger, nullable=True),
        PrimaryKeyConstraint("model", "book", "event_time", name=op.f("pk_balances")),
        sqlite_with_rowid=False,
    )


def downgrade() -> None:
    op.drop_table("balances")
