"""Prices: those that a person confirmed, and the breaches that a person accepted with a change of the trading state."""

from alembic import op
from sqlalchemy import BigInteger, Column, Float, Integer, PrimaryKeyConstraint, Text

revision = "0006"
down_revision = "0005"


def upgrade() -> None:
    op.create_table(
        "confirmed_prices",
        Column("id", Integer, nullable=False),
        Column("unit", Text, nullable=False),
        Column("price", Float(53), nullable=False),
        Column("actor", Text, nullable=False),
        Column("reason", Text, nullable=False),
        Column("confirmed_at", BigInteger, nullable=False),
        PrimaryKeyConstraint("id", name=op.f("pk_confirmed_prices")),
    )
    op.create_index(op.f("ix_confirmed_prices_unit"), "confirmed_prices", ["unit"])
    op.add_column("trading_states", Column("accepted", Text, nullable=False, server_default="{}"))


def downgrade() -> None:
    op.drop_column("trading_states", "accepted")
    op.drop_table("confirmed_prices")
