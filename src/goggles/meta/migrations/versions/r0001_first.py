"""The first schema: tree, instances, storages, and what is owed."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

ID = sa.BigInteger().with_variant(sa.Integer, "sqlite")
NAME = sa.String(255).with_variant(sa.String(255, collation="C"), "postgresql")


def upgrade() -> None:
    """Written out, not taken from tables.py: a migration must mean the same for ever."""
    _site()
    _tree()
    _copies()
    _memory()


def _site() -> None:
    op.create_table(
        "site",
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("site_id", sa.String(32), nullable=False),
        sa.Column("name", sa.String(255), nullable=False),
        sa.Column("created_at", sa.Float, nullable=False),
    )
    op.create_table(
        "epochs",
        sa.Column("number", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("token", sa.String(32), nullable=False),
        sa.Column("started_at", sa.Float, nullable=False),
    )
    op.create_table(
        "storages",
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("name", sa.String(64), nullable=False, unique=True),
        sa.Column("storage_id", sa.String(32), nullable=False),
        sa.Column("host", sa.String(255), nullable=False),
        sa.Column("port", sa.Integer, nullable=False),
        sa.Column("capacity", sa.BigInteger, nullable=False),
        sa.Column("zone", sa.String(64), nullable=False),
        sa.Column("counted", sa.Boolean, nullable=False),
        sa.Column("draining", sa.Boolean, nullable=False),
        sa.Column("added_at", sa.Float, nullable=False),
    )


def _tree() -> None:
    op.create_table(
        "entries",
        sa.Column("id", ID, primary_key=True, autoincrement=True),
        sa.Column("parent_id", ID, sa.ForeignKey("entries.id")),
        sa.Column("name", NAME, nullable=False),
        sa.Column("kind", sa.String(1), nullable=False),
        sa.Column("copies", sa.Integer),
        sa.Column("created_at", sa.Float, nullable=False),
        sa.Column("modified_at", sa.Float, nullable=False),
        sa.Column("size", sa.BigInteger, nullable=False),
        sa.Column("sha256", sa.String(64), nullable=False),
        sa.Column("generation", sa.Integer, nullable=False),
        sa.Column("version", sa.String(32)),
        sa.Column("uploader", sa.String(255), nullable=False),
        sa.Column("source", sa.String(255), nullable=False),
        sa.UniqueConstraint("parent_id", "name", name="uq_entries_parent_name"),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_entries_version", "entries", ["version"], unique=True)
    op.create_table(
        "totals",
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("files", sa.BigInteger, nullable=False),
        sa.Column("directories", sa.BigInteger, nullable=False),
        sa.Column("size", sa.BigInteger, nullable=False),
    )


def _copies() -> None:
    op.create_table(
        "instances",
        sa.Column("entry_id", ID, sa.ForeignKey("entries.id"), primary_key=True, autoincrement=False),
        sa.Column("storage_id", sa.Integer, sa.ForeignKey("storages.id"), primary_key=True, autoincrement=False),
        sa.Column("size", sa.BigInteger, nullable=False),
        sa.Column("created_at", sa.Float, nullable=False),
        sa.Column("verified_at", sa.Float, nullable=False),
    )
    op.create_index("ix_instances_storage", "instances", ["storage_id", "entry_id"])
    op.create_table(
        "owed",
        sa.Column("entry_id", ID, sa.ForeignKey("entries.id"), primary_key=True, autoincrement=False),
        sa.Column("live", sa.Integer, nullable=False),
        sa.Column("since", sa.Float, nullable=False),
    )
    op.create_index("ix_owed_live", "owed", ["live", "since", "entry_id"])


def _memory() -> None:
    op.create_table(
        "tombstones",
        sa.Column("version", sa.String(32), primary_key=True),
        sa.Column("sha256", sa.String(64), nullable=False),
        sa.Column("size", sa.BigInteger, nullable=False),
        sa.Column("removed_at", sa.Float, nullable=False),
    )
    op.create_index("ix_tombstones_removed", "tombstones", ["removed_at"])
    op.create_index("ix_tombstones_sha256", "tombstones", ["sha256"])
    op.create_table(
        "receipts",
        sa.Column("request", sa.String(32), primary_key=True),
        sa.Column("answer", sa.Text, nullable=False),
        sa.Column("made_at", sa.Float, nullable=False),
    )
    op.create_index("ix_receipts_made", "receipts", ["made_at"])
    op.create_table(
        "accounts",
        sa.Column("name", sa.String(64), primary_key=True),
        sa.Column("level", sa.Integer, nullable=False),
        sa.Column("password_hash", sa.LargeBinary),
        sa.Column("created_at", sa.Float, nullable=False),
    )
