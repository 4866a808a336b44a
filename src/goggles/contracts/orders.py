"""What a nameserver tells a storage to do, and what a storage tells of itself.

Law: orders of one session are numbered one by one and carried out in that order, each at most once; each is
idempotent and names the version it means, so that an order that comes late can not hit newer bytes.
An order crosses as a plain tuple (kind, arguments...).
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from typing import TypeAlias

from goggles.contracts.records import Record, Value

Order: TypeAlias = tuple[Value, ...]
FILE, STAGED, DIRECTORY, ARRIVING = "file", "staged", "directory", "arriving"  # kinds of things held
NONE = 0  # the number of no order
SPAN = 32  # bits


def before_first(session: str) -> int:
    """The number before that of the session's first order.

    Each session has 2**32 numbers of its own: who knows of an order of one must not wait for it in another."""
    return zlib.crc32(session.encode()) >> 1 << SPAN


def is_of(number: int, session: str) -> bool:
    """Whether an order of this session has the number."""
    return number >> SPAN == before_first(session) >> SPAN


def mkdir(path: str) -> Order:
    """Make the directory and those above it."""
    return ("mkdir", path)


def rmdir(path: str) -> Order:
    """Remove the directory if it is there and empty."""
    return ("rmdir", path)


def remove_tree(path: str, versions_gone: bool = True) -> Order:
    """Remove a directory with all that is in it: the nameserver has removed it from the tree."""
    return ("remove_tree", path, versions_gone)


def move(source: str, target: str) -> Order:
    """Rename a directory (merging into one that is there already)."""
    return ("move", source, target)


def move_file(source: str, target: str, version: str) -> Order:
    """Rename a file, if `version` stands at `source`."""
    return ("move_file", source, target, version)


def publish(upload: str, path: str, version: str, generation: int, replaces: str | None = None) -> Order:
    """Rename the staged bytes of `upload` to `path`.

    What stands there and is `replaces` (None: any version) is overwritten; anything else is put aside, not lost."""
    return ("publish", upload, path, version, generation, replaces)


def stamp(path: str, version: str, generation: int, sha256: str) -> Order:
    """Write down that the bytes at `path` (checked by digest) are this version from now on."""
    return ("stamp", path, version, generation, sha256)


def remove(path: str, version: str) -> Order:
    """Remove the file if it is this version."""
    return ("remove", path, version)


def discard(upload: str) -> Order:
    """Drop what is staged for this upload."""
    return ("discard", upload)


def quarantine(path: str, version: str) -> Order:
    """Move the file to quarantine if it is this version ('' means: without a known version)."""
    return ("quarantine", path, version)


def quarantine_staged(upload: str) -> Order:
    """Move what is staged under this name to quarantine."""
    return ("quarantine_staged", upload)


def check(path: str, version: str, job: str) -> Order:
    """Read the bytes again and compare them with their digest; done beside the others, reported under `job`."""
    return ("check", path, version, job)


def expect(arrivals: tuple[str, ...]) -> Order:
    """Make places for files that come from another site."""
    return ("expect", arrivals)


def drop_arrival(arrival: str) -> Order:
    """Remove the place of a file that does not come any more, with what is in it."""
    return ("drop_arrival", arrival)


def ingest(arrival: str, size: int, sha256: str, version: str) -> Order:
    """Read an arrival, compare it, and move it to the staging area; done beside the others, reported as ingested."""
    return ("ingest", arrival, size, sha256, version)


def push(job: PushOrder) -> Order:
    """Send files to a storage of another site (see PushOrder); done beside the others, reported one by one."""
    return ("push", job.to_wire())


def recheck() -> Order:
    """Start the self-check again, from `upgrade` on."""
    return ("recheck",)


def pull(order: PullOrder) -> Order:
    """Fetch a copy from another storage (see PullOrder); carried out beside the others."""
    return ("pull", order.to_wire())


@dataclass(frozen=True, slots=True)
class StorageHello(Record):
    """What a storage says of itself in `upgrade`.  `epoch` and `epoch_token` are those it last saw."""

    name: str
    host: str
    port: int
    capacity: int
    zone: str
    storage_id: str
    site_id: str  # '' when its folder has never belonged to a site
    epoch: int
    epoch_token: str
    disk_free: int
    program: str  # version of the program
    certificate_expires: float  # seconds since 1970, UTC
    facilities: str = "{}"  # JSON: by transfer manager, how other sites reach the folder
    ingestable: bool = True  # False: a drive, which is filled by local clones alone
    settled: int = -1  # change of the tree up to which it has carried out all orders, in that epoch; -1: not known


@dataclass(frozen=True, slots=True)
class Welcome(Record):
    """The nameserver's answer to `upgrade`.  Orders come under `session`; grants are checked with `grant_key`."""

    session: str
    site_id: str
    site_name: str
    storage_id: str
    epoch: int
    epoch_token: str
    grant_key: bytes
    heartbeat: float  # seconds between heartbeats
    unchanged: bool = False  # the storage has what it should have: only what is staged is to be told


@dataclass(frozen=True, slots=True)
class Held(Record):
    """One thing found on a storage.  `kind`: file, staged, directory, arriving (from another site).

    For a file, `path` is its path; for staged bytes, `path` is the upload id, for arriving ones the arrival.
    `version` is '' and `generation` 0 where the storage has no note of them.  `modified`: when its bytes were
    written there, nanoseconds since 1970 by the storage's clock; 0 where it is not known.  `was`: of staged bytes that
    were a file and had to make way, the path at which they stood; else ''."""

    kind: str
    path: str
    size: int
    hash: str
    version: str
    generation: int
    modified: int = 0
    was: str = ""


@dataclass(frozen=True, slots=True)
class Kept(Record):
    """One file in the quarantine of a storage.  `entry` names it there, `path` is where it was, `why` may be ''."""

    entry: str
    size: int
    when: float  # seconds since 1970, UTC
    why: str
    path: str


@dataclass(frozen=True, slots=True)
class ScrubState(Record):
    """How far a storage is with reading all its files again.  Times are seconds since 1970, UTC; 0: never.

    `files`, `size` (bytes) and `bad` (copies that were not what they should be) are of the round under way, or of the
    last one where none is."""

    began: float = 0.0
    ended: float = 0.0  # of the last round that came to its end
    files: int = 0
    size: int = 0
    bad: int = 0
    days: float = 0.0  # in which everything is to be read once; 0: it is switched off


@dataclass(frozen=True, slots=True)
class PullOrder(Record):
    """Fetch a copy from another storage, verify it, stage it under `upload`, and notify."""

    upload: str
    path: str
    version: str
    size: int
    hash: str
    source: str
    host: str
    port: int
    grant: bytes
    after: int
    rate: int = 0  # bytes a second of all copies that this storage fetches, together; 0: no limit


@dataclass(frozen=True, slots=True)
class PushOrder(Record):
    """Send one file to a storage of another site.

    `manager` says how: goggles (`host`, `port`, `grant`), local (`place` in a file system that both see), rsync
    (`host` for ssh, `place` there)."""

    transfer: str
    manager: str
    path: str
    version: str
    size: int
    storage: str  # its name there
    host: str
    port: int
    place: str
    grant: bytes
    rate: int  # bytes a second at most; 0: no limit
