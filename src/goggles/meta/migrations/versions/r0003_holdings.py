"""Which copies here may be let go, which were, and which storages take new files; transfers by peer and by path."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

ID = sa.BigInteger().with_variant(sa.Integer, "sqlite")


def upgrade() -> None:
    """Written out, not taken from peering.py: a migration must mean the same for ever."""
    op.create_table(
        "marks",
        sa.Column("entry_id", ID, primary_key=True, autoincrement=False),
        sa.Column("deletable", sa.Boolean, nullable=False),
        sa.Column("copies", sa.Integer),
        sa.Column("evicted_at", sa.Float),
    )
    op.create_table(
        "unavailable",
        sa.Column("entry_id", ID, primary_key=True, autoincrement=False),
        sa.Column("storage_id", sa.Integer, sa.ForeignKey("storages.id"), primary_key=True, autoincrement=False),
        sa.Column("size", sa.BigInteger, nullable=False),
        sa.Column("created_at", sa.Float, nullable=False),
        sa.Column("verified_at", sa.Float, nullable=False),
        sa.Column("since", sa.Float, nullable=False),
    )
    op.create_index("ix_unavailable_storage", "unavailable", ["storage_id", "entry_id"])
    op.add_column("storages", sa.Column("enabled", sa.Boolean, nullable=False, server_default=sa.true()))
    op.add_column("storages", sa.Column("ingestable", sa.Boolean, nullable=False, server_default=sa.true()))
    op.create_index("ix_instances_verified", "instances", ["storage_id", "verified_at"])
    op.create_index("ix_entries_created", "entries", ["created_at", "id"])
    _transfers()


def _transfers() -> None:
    """What is asked of transfers every second is found without looking at all of them."""
    op.create_index("ix_outgoing_peer", "outgoing", ["peer_id", "state", "remote_id"])
    op.create_index("ix_incoming_peer", "incoming", ["peer_id", "state", "id"])
    op.drop_index("ix_incoming_told", table_name="incoming")
    op.create_index("ix_incoming_told", "incoming", ["peer_id", "told", "state"])
    op.create_index("ix_incoming_path", "incoming", ["path"], postgresql_using="hash")
