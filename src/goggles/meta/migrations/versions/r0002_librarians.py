"""The network of librarians: peers, copies elsewhere, transfers, errors, background tasks."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

ID = sa.BigInteger().with_variant(sa.Integer, "sqlite")


def upgrade() -> None:
    """Written out, not taken from peering.py: a migration must mean the same for ever."""
    _peers()
    _remote_instances()
    _shared()
    _outgoing()
    _send_queue()
    _incoming()
    _corruptions()
    _errors()
    _task_runs()


def _peers() -> None:
    op.create_table(
        "peers",
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("name", sa.String(64), nullable=False, unique=True),
        sa.Column("url", sa.String(512), nullable=False),
        sa.Column("port", sa.Integer, nullable=False),
        sa.Column("certificate_name", sa.String(64), nullable=False),
        sa.Column("authenticator", sa.LargeBinary, nullable=False),
        sa.Column("enabled", sa.Boolean, nullable=False),
        sa.Column("managers", sa.String(255), nullable=False),
        sa.Column("added_at", sa.Float, nullable=False),
        sa.Column("last_seen", sa.Float, nullable=False),
        sa.Column("last_heard", sa.Float, nullable=False),
    )


def _remote_instances() -> None:
    op.create_table(
        "remote_instances",
        sa.Column("entry_id", ID, sa.ForeignKey("entries.id"), primary_key=True, autoincrement=False),
        sa.Column("peer_id", sa.Integer, sa.ForeignKey("peers.id"), primary_key=True, autoincrement=False),
        sa.Column("store", sa.String(64), primary_key=True),
        sa.Column("copied_at", sa.Float, nullable=False),
        sa.Column("verified_at", sa.Float, nullable=False),
        sa.Column("sender", sa.String(64), nullable=False),
    )
    op.create_index("ix_remote_instances_peer", "remote_instances", ["peer_id", "entry_id"])


def _shared() -> None:
    op.create_table(
        "shared",
        sa.Column("entry_id", ID, primary_key=True, autoincrement=False),
        sa.Column("count", sa.Integer, nullable=False),
    )


def _outgoing() -> None:
    op.create_table(
        "outgoing",
        sa.Column("id", sa.String(32), primary_key=True),
        sa.Column("peer_id", sa.Integer, sa.ForeignKey("peers.id"), nullable=False),
        sa.Column("entry_id", ID, nullable=False),
        sa.Column("path", sa.Text, nullable=False),
        sa.Column("version", sa.String(32), nullable=False),
        sa.Column("size", sa.BigInteger, nullable=False),
        sa.Column("sha256", sa.String(64), nullable=False),
        sa.Column("state", sa.Integer, nullable=False),
        sa.Column("remote_id", sa.String(32), nullable=False),
        sa.Column("place", sa.Text, nullable=False),
        sa.Column("batch_id", sa.String(32), nullable=False),
        sa.Column("error", sa.Text, nullable=False),
        sa.Column("created_at", sa.Float, nullable=False),
        sa.Column("updated_at", sa.Float, nullable=False),
    )
    op.create_index("ix_outgoing_state", "outgoing", ["state", "updated_at"])
    op.create_index("ix_outgoing_entry", "outgoing", ["entry_id", "peer_id"])
    op.create_index("ix_outgoing_batch", "outgoing", ["batch_id"])


def _send_queue() -> None:
    op.create_table(
        "send_queue",
        sa.Column("id", sa.String(32), primary_key=True),
        sa.Column("peer_id", sa.Integer, sa.ForeignKey("peers.id"), nullable=False),
        sa.Column("store", sa.String(64), nullable=False),
        sa.Column("facilities", sa.Text, nullable=False),
        sa.Column("manager", sa.String(32), nullable=False),
        sa.Column("handle", sa.Text, nullable=False),
        sa.Column("state", sa.String(8), nullable=False),
        sa.Column("priority", sa.Integer, nullable=False),
        sa.Column("tries", sa.Integer, nullable=False),
        sa.Column("not_before", sa.Float, nullable=False),
        sa.Column("created_at", sa.Float, nullable=False),
        sa.Column("updated_at", sa.Float, nullable=False),
    )
    op.create_index("ix_send_queue_state", "send_queue", ["state", "priority", "created_at"])
    op.create_index("ix_send_queue_peer", "send_queue", ["peer_id", "state"])


def _incoming() -> None:
    op.create_table(
        "incoming",
        sa.Column("id", sa.String(32), primary_key=True),
        sa.Column("peer_id", sa.Integer, sa.ForeignKey("peers.id"), nullable=False),
        sa.Column("remote_id", sa.String(32), nullable=False),
        sa.Column("path", sa.Text, nullable=False),
        sa.Column("size", sa.BigInteger, nullable=False),
        sa.Column("sha256", sa.String(64), nullable=False),
        sa.Column("uploader", sa.String(255), nullable=False),
        sa.Column("source", sa.String(255), nullable=False),
        sa.Column("made_at", sa.Float, nullable=False),
        sa.Column("storage_id", sa.Integer, sa.ForeignKey("storages.id"), nullable=False),
        sa.Column("state", sa.Integer, nullable=False),
        sa.Column("told", sa.Boolean, nullable=False),
        sa.Column("error", sa.Text, nullable=False),
        sa.Column("created_at", sa.Float, nullable=False),
        sa.Column("updated_at", sa.Float, nullable=False),
        sa.UniqueConstraint("peer_id", "remote_id", name="uq_incoming_peer_remote"),
    )
    op.create_index("ix_incoming_state", "incoming", ["state", "updated_at"])
    op.create_index("ix_incoming_told", "incoming", ["told", "updated_at"])


def _corruptions() -> None:
    op.create_table(
        "corruptions",
        sa.Column("entry_id", ID, primary_key=True, autoincrement=False),
        sa.Column("found_at", sa.Float, nullable=False),
        sa.Column("found_by", sa.String(64), nullable=False),
        sa.Column("detail", sa.Text, nullable=False),
    )


def _errors() -> None:
    op.create_table(
        "errors",
        sa.Column("id", ID, primary_key=True, autoincrement=True),
        sa.Column("severity", sa.String(8), nullable=False),
        sa.Column("category", sa.String(32), nullable=False),
        sa.Column("message", sa.Text, nullable=False),
        sa.Column("caller", sa.String(255), nullable=False),
        sa.Column("raised_at", sa.Float, nullable=False),
        sa.Column("cleared_at", sa.Float),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_errors_raised", "errors", ["raised_at"])


def _task_runs() -> None:
    op.create_table(
        "task_runs",
        sa.Column("name", sa.String(128), primary_key=True),
        sa.Column("began_at", sa.Float, nullable=False),
        sa.Column("ended_at", sa.Float, nullable=False),
        sa.Column("result", sa.String(8), nullable=False),
        sa.Column("message", sa.Text, nullable=False),
    )
