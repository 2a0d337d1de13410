"""Digests of models from before their upload."""

from alembic import op
from sqlalchemy import BigInteger, Column, PrimaryKeyConstraint, Text

revision = "0007"
down_revision = "0006"


def upgrade() -> None:
    op.create_table(
        "uploads",
        Column("model", Text, nullable=False),
        Column("model_id", Text, nullable=False),
        Column("digest", Text, nullable=False),
        Column("size", BigInteger, nullable=False),
        Column("run_id", Text, nullable=False),
        Column("job_run", Text, nullable=False),
        Column("uploaded_at", BigInteger, nullable=False),
        PrimaryKeyConstraint("model", "model_id", name=op.f("pk_uploads")),
    )


def downgrade() -> None:
    op.drop_table("uploads")
