"""The SQL of the tree, each statement made once.

Law: nothing here decides; `tree` does.  Statements have bound parameters only.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import String, bindparam, case, cast, delete, exists, func, insert, literal_column, select, update

from goggles.meta.quick import remember
from goggles.meta.tables import accounts, entries, instances, owed, receipts, storages, tombstones, totals

E, I = entries.c, instances.c  # noqa: E741 - columns of entries and of instances

CHILD = select(entries).where(E.parent_id == bindparam("parent"), E.name == bindparam("child"))
_COMMA: Any = literal_column("','")  # a text would become a parameter
_HOLDERS = func.aggregate_strings(cast(I.storage_id, String), _COMMA)
HELD_BY = select(_HOLDERS).where(I.entry_id == E.id).scalar_subquery()
CHILD_HELD = select(entries, HELD_BY).where(E.parent_id == bindparam("parent"), E.name == bindparam("child"))
CHILD_DIR = select(E.id, E.kind).where(E.parent_id == bindparam("parent"), E.name == bindparam("child"))
BY_ID = select(entries).where(E.id == bindparam("id"))
BY_VERSIONS = select(entries).where(E.version.in_(bindparam("versions", expanding=True)))
PAGE = (
    select(entries)
    .where(E.parent_id == bindparam("parent"), E.name > bindparam("after"))
    .order_by(E.name)
    .limit(bindparam("most"))
)
CHILDREN = (
    select(E.parent_id, func.count()).where(E.parent_id.in_(bindparam("ids", expanding=True))).group_by(E.parent_id)
)
HAS_CHILD = select(E.id).where(E.parent_id == bindparam("parent")).limit(1)
UP = select(E.parent_id, E.name, E.copies).where(E.id == bindparam("id"))

ADD_ENTRY = insert(entries)
DELETE_ENTRY = delete(entries).where(E.id == bindparam("entry"))
RENAME = (
    update(entries)
    .where(E.id == bindparam("entry"))
    .values(parent_id=bindparam("to_parent"), name=bindparam("to_name"))
)
OVERWRITE = (
    update(entries)
    .where(E.id == bindparam("entry"))
    .values(
        size=bindparam("new_size"),
        sha256=bindparam("new_sha256"),
        generation=bindparam("new_generation"),
        version=bindparam("new_version"),
        modified_at=bindparam("now"),
        uploader=bindparam("new_uploader"),
        source=bindparam("new_source"),
        copies=bindparam("new_copies"),
    )
)
SET_CREATED = update(entries).where(E.id == bindparam("entry")).values(created_at=bindparam("created"))
SET_COPIES = update(entries).where(E.id == bindparam("entry")).values(copies=bindparam("new_copies"))

VERIFIED_ON = select(I.storage_id).where(
    I.entry_id == bindparam("entry"),
    I.verified_at.between(bindparam("since"), bindparam("until")),
    I.verified_at > I.created_at,
)
SET_VERIFIED = (
    update(instances)
    .where(I.entry_id == bindparam("entry"), I.storage_id == bindparam("storage"))
    # A copy that was made later than now was made before the clock was set back.
    .values(
        verified_at=bindparam("now"),
        created_at=case((I.created_at >= bindparam("now"), bindparam("before")), else_=I.created_at),
    )
)
UNREAD_ON = (
    select(E.id, E.version)
    .join(instances, I.entry_id == E.id)
    .where(I.storage_id == bindparam("storage"), I.verified_at < bindparam("before"))
    .order_by(I.verified_at)
    .limit(bindparam("most"))
)
HOLDERS = select(I.entry_id, I.storage_id).where(I.entry_id.in_(bindparam("ids", expanding=True)))
ADD_INSTANCE = insert(instances)
DROP_INSTANCES = delete(instances).where(I.entry_id == bindparam("entry"))
DROP_ON = delete(instances).where(
    I.storage_id == bindparam("storage"), I.entry_id.in_(bindparam("ids", expanding=True))
)
ON_STORAGE = (
    select(I.entry_id)
    .where(I.storage_id == bindparam("storage"), I.entry_id > bindparam("after"))
    .order_by(I.entry_id)
    .limit(bindparam("most"))
)
_OTHER = instances.alias("other")
ONLY_ON = (
    select(I.entry_id)
    .where(I.storage_id == bindparam("storage"))
    .where(~exists().where(_OTHER.c.entry_id == I.entry_id, _OTHER.c.storage_id != I.storage_id))
    .order_by(I.entry_id)
)
USED = select(I.storage_id, func.count(), func.sum(I.size)).group_by(I.storage_id)

FILES = select(entries).where(E.id.in_(bindparam("ids", expanding=True)), E.kind == "f")
OWED_AMONG = select(owed.c.entry_id, owed.c.live).where(owed.c.entry_id.in_(bindparam("ids", expanding=True)))
OWED_FIRST = select(owed.c.entry_id).order_by(owed.c.live, owed.c.since, owed.c.entry_id).limit(bindparam("most"))
OWED_COUNT = select(func.count()).select_from(owed)
CLEAR_OWED = delete(owed).where(owed.c.entry_id == bindparam("entry"))
ADD_OWED = insert(owed)

ADD_TOMBSTONE = insert(tombstones)
TOMBSTONE = select(tombstones.c.version).where(tombstones.c.version == bindparam("v"))
TOMBSTONE_BY_CONTENT = (
    select(tombstones.c.version)
    .where(tombstones.c.sha256 == bindparam("digest"), tombstones.c.size == bindparam("length"))
    .limit(1)
)
PRUNE_TOMBSTONES = delete(tombstones).where(tombstones.c.removed_at < bindparam("before"))

RECEIPT = select(receipts.c.answer).where(receipts.c.request == bindparam("asked"))
ADD_RECEIPT = insert(receipts)
PRUNE_RECEIPTS = delete(receipts).where(receipts.c.made_at < bindparam("before"))

TOTALS = select(totals.c.files, totals.c.directories, totals.c.size)
ADD_TOTALS = update(totals).values(
    files=totals.c.files + bindparam("add_files"),
    directories=totals.c.directories + bindparam("add_directories"),
    size=totals.c.size + bindparam("add_size"),
)

CHANGES = select(totals.c.changes)
ADD_CHANGE = update(totals).values(changes=totals.c.changes + 1)

DIRECTORIES = select(E.id).where(E.kind == "d", E.id > bindparam("after")).order_by(E.id).limit(bindparam("most"))

STORAGES = select(storages).order_by(storages.c.id)
STORAGE = select(storages).where(storages.c.name == bindparam("called"))
ADD_STORAGE = insert(storages)
UPDATE_STORAGE = (
    update(storages)
    .where(storages.c.id == bindparam("storage"))
    .values(
        storage_id=bindparam("new_storage_id"),
        host=bindparam("new_host"),
        port=bindparam("new_port"),
        capacity=bindparam("new_capacity"),
        zone=bindparam("new_zone"),
        ingestable=bindparam("new_ingestable"),
    )
)
RETIRE_STORAGE = (
    update(storages)
    .where(storages.c.id == bindparam("storage"))
    .values(name=bindparam("gone"), storage_id="", counted=False, draining=False, enabled=False)
)
SET_ENABLED = update(storages).where(storages.c.id == bindparam("storage")).values(enabled=bindparam("on"))
SET_COUNTED = update(storages).where(storages.c.id == bindparam("storage")).values(counted=bindparam("on"))
SET_DRAINING = update(storages).where(storages.c.id == bindparam("storage")).values(draining=bindparam("on"))

ACCOUNTS = select(accounts.c.name, accounts.c.level, accounts.c.password_hash)
DELETE_ACCOUNT = delete(accounts).where(accounts.c.name == bindparam("called"))
ADD_ACCOUNT = insert(accounts)
remember(globals())
