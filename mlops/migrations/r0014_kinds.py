"""What each registered model is for. All that were registered before are strategies."""

from alembic import op
from sqlalchemy import Column, Text

revision = "0014"
down_revision = "0013"


def upgrade() -> None:
    op.add_column("bundles", Column("kind", Text, nullable=False, server_default="strategy"))


def downgrade() -> None:
    op.drop_column("bundles", "kind")
