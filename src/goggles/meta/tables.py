"""What the nameserver remembers: columns and constraints, no verbs.

Law: times are seconds since 1970, UTC; sizes are bytes; ids of entries are never used twice; names compare byte by
byte.  Any change here needs a migration.
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
    MetaData,
    String,
    Table,
    Text,
    UniqueConstraint,
    true,
)

metadata = MetaData()

ROOT_ID = 1
TRASH_ID = 2

# SQLite only counts on its own with a plain INTEGER PRIMARY KEY.
Id = BigInteger().with_variant(Integer, "sqlite")
Name = String(255).with_variant(String(255, collation="C"), "postgresql")

site = Table(
    "site",
    metadata,
    Column("id", Integer, primary_key=True, comment="always 1"),
    Column("site_id", String(32), nullable=False, comment="random, made at first start; storages remember it"),
    Column("name", String(255), nullable=False, comment="what people call it"),
    Column("created_at", Float, nullable=False),
)

epochs = Table(
    "epochs",
    metadata,
    Column("number", Integer, primary_key=True, autoincrement=False, comment="rises by one with each start"),
    Column("token", String(32), nullable=False, comment="random: tells a restored database from its original"),
    Column("started_at", Float, nullable=False),
)

storages = Table(
    "storages",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("name", String(64), nullable=False, unique=True),
    Column("storage_id", String(32), nullable=False, comment="random, written in the storage's folder"),
    Column("host", String(255), nullable=False),
    Column("port", Integer, nullable=False),
    Column("capacity", BigInteger, nullable=False),
    Column("zone", String(64), nullable=False),
    Column("counted", Boolean, nullable=False, comment="its copies count: it is up, or was a moment ago"),
    Column("draining", Boolean, nullable=False, comment="being emptied for retirement"),
    Column("enabled", Boolean, nullable=False, server_default=true(), comment="takes new files"),
    Column(
        "ingestable", Boolean, nullable=False, server_default=true(), comment="false: a drive, filled by clones alone"
    ),
    Column("added_at", Float, nullable=False),
)

entries = Table(
    "entries",
    metadata,
    Column("id", Id, primary_key=True, autoincrement=True),
    Column("parent_id", Id, ForeignKey("entries.id"), comment="null for the root (1) and the trash (2)"),
    Column("name", Name, nullable=False),
    Column("kind", String(1), nullable=False, comment="d directory, f file"),
    Column("copies", Integer, comment="wanted; null for directories that do as the one above"),
    Column("created_at", Float, nullable=False),
    Column("modified_at", Float, nullable=False),
    Column("size", BigInteger, nullable=False),
    Column("sha256", String(64), nullable=False, comment="'' for directories"),
    Column("generation", Integer, nullable=False, comment="rises by one with each overwrite"),
    Column("version", String(32), comment="names these very bytes for ever; null for directories"),
    Column("uploader", String(255), nullable=False),
    Column("source", String(255), nullable=False),
    UniqueConstraint("parent_id", "name", name="uq_entries_parent_name"),
    Index("ix_entries_version", "version", unique=True),
    Index("ix_entries_created", "created_at", "id"),
    sqlite_autoincrement=True,
)

instances = Table(
    "instances",
    metadata,
    Column("entry_id", Id, ForeignKey("entries.id"), primary_key=True, autoincrement=False),
    Column("storage_id", Integer, ForeignKey("storages.id"), primary_key=True, autoincrement=False),
    Column("size", BigInteger, nullable=False),
    Column("created_at", Float, nullable=False),
    Column("verified_at", Float, nullable=False, comment="when its digest was last known to be right"),
    Index("ix_instances_storage", "storage_id", "entry_id"),
    Index("ix_instances_verified", "storage_id", "verified_at"),
)

owed = Table(
    "owed",
    metadata,
    Column("entry_id", Id, ForeignKey("entries.id"), primary_key=True, autoincrement=False),
    Column("live", Integer, nullable=False, comment="copies that counted when this was written"),
    Column("since", Float, nullable=False),
    Index("ix_owed_live", "live", "since", "entry_id"),
)

tombstones = Table(
    "tombstones",
    metadata,
    Column("version", String(32), primary_key=True, comment="removed or replaced"),
    Column("sha256", String(64), nullable=False),
    Column("size", BigInteger, nullable=False),
    Column("removed_at", Float, nullable=False),
    Index("ix_tombstones_removed", "removed_at"),
    Index("ix_tombstones_sha256", "sha256"),
)

receipts = Table(
    "receipts",
    metadata,
    Column("request", String(32), primary_key=True, comment="request or upload id that was answered"),
    Column("answer", Text, nullable=False, comment="JSON"),
    Column("made_at", Float, nullable=False),
    Index("ix_receipts_made", "made_at"),
)

accounts = Table(
    "accounts",
    metadata,
    Column("name", String(64), primary_key=True, comment="as in the certificate"),
    Column("level", Integer, nullable=False, comment="goggles.roles.Level"),
    Column("password_hash", LargeBinary, comment="argon2; for librarians"),
    Column("created_at", Float, nullable=False),
)

totals = Table(
    "totals",
    metadata,
    Column("id", Integer, primary_key=True, comment="always 1"),
    Column("files", BigInteger, nullable=False),
    Column("directories", BigInteger, nullable=False),
    Column("size", BigInteger, nullable=False),
    Column("changes", BigInteger, nullable=False, server_default="0", comment="groups of decisions that changed it"),
)
