"""A number that grows with each change of the tree, so that storages can know that they missed none."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("totals", sa.Column("changes", sa.BigInteger, nullable=False, server_default="0"))
