"""Books hold any amount, count multipliers, and let a person take a fill back."""

from alembic import op
from sqlalchemy import BigInteger, Column, Float, Integer, PrimaryKeyConstraint, Text, UniqueConstraint, text

revision = "0009"
down_revision = "0008"
WIDE = ("book_events", "book_states")


def upgrade() -> None:
    for table in WIDE:
        op.add_column(table, Column("wide", Text, nullable=False, server_default=text("''")))
    op.add_column("book_events", Column("multiplier", Float(53), nullable=False, server_default=text("1")))
    op.create_table(
        "voids",
        Column("id", Integer, nullable=False),
        Column("fill_id", Text, nullable=False),
        Column("actor", Text, nullable=False),
        Column("reason", Text, nullable=False),
        Column("created_at", BigInteger, nullable=False),
        Column("checksum", BigInteger, nullable=False),
        PrimaryKeyConstraint("id", name=op.f("pk_voids")),
        UniqueConstraint("fill_id", name=op.f("uq_voids_fill_id")),
    )


def downgrade() -> None:
    op.drop_table("voids")
    op.drop_column("book_events", "multiplier")
    for table in WIDE:
        op.drop_column(table, "wide")
