"""The plan of a comparison beside it. Those that run already get theirs at their next look."""

from alembic import op
from sqlalchemy import Column, Text

revision = "0013"
down_revision = "0012"


def upgrade() -> None:
    op.add_column("experiments", Column("plan", Text, nullable=True))


def downgrade() -> None:
    op.drop_column("experiments", "plan")
