"""Risk: what a unit is, what a job computed for the live page, and every forecast of a loss as it was made."""

from alembic import op
from sqlalchemy import BigInteger, Boolean, Column, Float, Integer, LargeBinary, PrimaryKeyConstraint, Text

revision = "0005"
down_revision = "0004"
NEW = ("risk_forecasts", "risk_states", "instruments")


def upgrade() -> None:
    op.create_table(
        "instruments",
        Column("unit", Text, nullable=False),
        Column("kind", Text, nullable=False),
        Column("currency", Text, nullable=False),
        Column("sector", Text, nullable=False),
        Column("multiplier", Float(53), nullable=False),
        Column("underlying", Text, nullable=False),
        Column("strike", Float(53), nullable=True),
        Column("expiry", BigInteger, nullable=True),
        Column("american", Boolean, nullable=False),
        Column("daily_volume", Float(53), nullable=True),
        Column("told_at", BigInteger, nullable=False),
        PrimaryKeyConstraint("unit", name=op.f("pk_instruments")),
    )
    op.create_table(
        "risk_states",
        Column("kind", Text, nullable=False),
        Column("scope", Text, nullable=False),
        Column("as_of", BigInteger, nullable=False),
        Column("body", LargeBinary, nullable=False),
        Column("digest", Text, nullable=False),
        PrimaryKeyConstraint("kind", "scope", "as_of", name=op.f("pk_risk_states")),
    )
    op.create_index(op.f("ix_risk_states_kind_as_of"), "risk_states", ["kind", "as_of"])
    op.create_table(
        "risk_forecasts",
        Column("scope", Text, nullable=False),
        Column("event_time", BigInteger, nullable=False),
        Column("confidence", Float(53), nullable=False),
        Column("horizon", Integer, nullable=False),
        Column("model", Text, nullable=False),
        Column("var", Float(53), nullable=False),
        Column("es", Float(53), nullable=False),
        Column("equity", Float(53), nullable=False),
        Column("made_at", BigInteger, nullable=False),
        PrimaryKeyConstraint("scope", "event_time", "confidence", "horizon", name=op.f("pk_risk_forecasts")),
        sqlite_with_rowid=False,
    )


def downgrade() -> None:
    for table in NEW:
        op.drop_table(table)
