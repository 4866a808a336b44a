"""What a librarian remembers: peers, who holds what elsewhere, transfers in both directions, errors.

Law: as in `tables`.  A transfer is a row on each side; each side writes only its own.  States are the numbers of
`goggles.contracts.peering.State`.  Nothing here is deleted while it lives, or while the other side has yet to be told.
"""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Float,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    String,
    Table,
    Text,
    UniqueConstraint,
)

from goggles.meta.tables import Id, metadata

peers = Table(
    "peers",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("name", String(64), nullable=False, unique=True, comment="of the librarian, and of its account here"),
    Column("url", String(512), nullable=False, comment="as given"),
    Column("port", Integer, nullable=False),
    Column("certificate_name", String(64), nullable=False, comment="name in its certificate; '' for any"),
    Column("authenticator", LargeBinary, nullable=False, comment="user:password there, encrypted"),
    Column("enabled", Boolean, nullable=False, comment="files may be pushed to it"),
    Column("managers", String(255), nullable=False, comment="transfer managers, best first, with commas"),
    Column("added_at", Float, nullable=False),
    Column("last_seen", Float, nullable=False, comment="it answered us"),
    Column("last_heard", Float, nullable=False, comment="it called us"),
)

remote_instances = Table(
    "remote_instances",
    metadata,
    Column("entry_id", Id, ForeignKey("entries.id"), primary_key=True, autoincrement=False),
    Column("peer_id", Integer, ForeignKey("peers.id"), primary_key=True, autoincrement=False),
    Column("store", String(64), primary_key=True, comment="name of the storage there"),
    Column("copied_at", Float, nullable=False),
    Column("verified_at", Float, nullable=False, comment="when it last said that its bytes are right"),
    Column("sender", String(64), nullable=False, comment="the librarian that sent it"),
    Index("ix_remote_instances_peer", "peer_id", "entry_id"),
)

shared = Table(
    "shared",
    metadata,
    Column("entry_id", Id, primary_key=True, autoincrement=False),
    Column(
        "count", Integer, nullable=False, comment="files: copies elsewhere or on their way; else shared files below"
    ),
)

outgoing = Table(
    "outgoing",
    metadata,
    Column("id", String(32), primary_key=True),
    Column("peer_id", Integer, ForeignKey("peers.id"), nullable=False),
    Column("entry_id", Id, nullable=False, comment="may be gone by now"),
    Column("path", Text, nullable=False),
    Column("version", String(32), nullable=False),
    Column("size", BigInteger, nullable=False),
    Column("sha256", String(64), nullable=False),
    Column("state", Integer, nullable=False),
    Column("remote_id", String(32), nullable=False, comment="its id there; '' until the other side has answered"),
    Column("place", Text, nullable=False, comment="where the bytes go, below the root of the storage there"),
    Column("batch_id", String(32), nullable=False, comment="in the send queue; '' before"),
    Column("error", Text, nullable=False),
    Column("created_at", Float, nullable=False),
    Column("updated_at", Float, nullable=False),
    Index("ix_outgoing_state", "state", "updated_at"),
    Index("ix_outgoing_entry", "entry_id", "peer_id"),
    Index("ix_outgoing_batch", "batch_id"),
    Index("ix_outgoing_peer", "peer_id", "state", "remote_id"),
)

send_queue = Table(
    "send_queue",
    metadata,
    Column("id", String(32), primary_key=True),
    Column("peer_id", Integer, ForeignKey("peers.id"), nullable=False),
    Column("store", String(64), nullable=False, comment="the storage there"),
    Column("facilities", Text, nullable=False, comment="JSON: by manager, how that storage is reached"),
    Column("manager", String(32), nullable=False, comment="the one in use; '' before the first try"),
    Column("handle", Text, nullable=False, comment="JSON: what the manager needs to find its work again"),
    Column("state", String(8), nullable=False, comment="waiting, sent, done, failed"),
    Column("priority", Integer, nullable=False),
    Column("tries", Integer, nullable=False),
    Column("not_before", Float, nullable=False),
    Column("created_at", Float, nullable=False),
    Column("updated_at", Float, nullable=False),
    Index("ix_send_queue_state", "state", "priority", "created_at"),
    Index("ix_send_queue_peer", "peer_id", "state"),
)

incoming = Table(
    "incoming",
    metadata,
    Column("id", String(32), primary_key=True, comment="also the version that the file will have here"),
    Column("peer_id", Integer, ForeignKey("peers.id"), nullable=False),
    Column("remote_id", String(32), nullable=False, comment="its id there"),
    Column("path", Text, nullable=False),
    Column("size", BigInteger, nullable=False),
    Column("sha256", String(64), nullable=False),
    Column("uploader", String(255), nullable=False),
    Column("source", String(255), nullable=False),
    Column("made_at", Float, nullable=False, comment="when the file was made at its source"),
    Column("storage_id", Integer, ForeignKey("storages.id"), nullable=False),
    Column("state", Integer, nullable=False),
    Column("told", Boolean, nullable=False, comment="the other side knows how it ended"),
    Column("error", Text, nullable=False),
    Column("created_at", Float, nullable=False),
    Column("updated_at", Float, nullable=False),
    UniqueConstraint("peer_id", "remote_id", name="uq_incoming_peer_remote"),
    Index("ix_incoming_state", "state", "updated_at"),
    Index("ix_incoming_peer", "peer_id", "state", "id"),
    Index("ix_incoming_told", "peer_id", "told", "state"),
    Index("ix_incoming_path", "path", postgresql_using="hash"),  # a path may be too long for a B-tree of PostgreSQL
)

marks = Table(
    "marks",
    metadata,
    Column("entry_id", Id, primary_key=True, autoincrement=False),
    Column("deletable", Boolean, nullable=False, comment="its copies here may be let go when others hold it"),
    Column("copies", Integer, comment="that were wanted here before some were let go; null: none were"),
    Column("evicted_at", Float, comment="when the last copy here was let go; null: it was not"),
)

unavailable = Table(
    "unavailable",
    metadata,
    Column("entry_id", Id, primary_key=True, autoincrement=False),
    Column("storage_id", Integer, ForeignKey("storages.id"), primary_key=True, autoincrement=False),
    Column("size", BigInteger, nullable=False),
    Column("created_at", Float, nullable=False),
    Column("verified_at", Float, nullable=False),
    Column("since", Float, nullable=False, comment="when the copy was let go"),
    Index("ix_unavailable_storage", "storage_id", "entry_id"),
)

corruptions = Table(
    "corruptions",
    metadata,
    Column("entry_id", Id, primary_key=True, autoincrement=False),
    Column("found_at", Float, nullable=False),
    Column("found_by", String(64), nullable=False, comment="task, or librarian that noticed it"),
    Column("detail", Text, nullable=False),
)

errors = Table(
    "errors",
    metadata,
    Column("id", Id, primary_key=True, autoincrement=True),
    Column("severity", String(8), nullable=False, comment="critical, error, warning, info"),
    Column("category", String(32), nullable=False),
    Column("message", Text, nullable=False),
    Column("caller", String(255), nullable=False),
    Column("raised_at", Float, nullable=False),
    Column("cleared_at", Float, comment="null while it stands"),
    Index("ix_errors_raised", "raised_at"),
    sqlite_autoincrement=True,
)

task_runs = Table(
    "task_runs",
    metadata,
    Column("name", String(128), primary_key=True),
    Column("began_at", Float, nullable=False),
    Column("ended_at", Float, nullable=False),
    Column("result", String(8), nullable=False, comment="done, failed, late"),
    Column("message", Text, nullable=False),
)
