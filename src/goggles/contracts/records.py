"""What is said about files, directories and storages.

Law: only values cross the wire (str, bytes, int, float, bool, None and tuples of them).  A record
crosses as a tuple of (key, value) pairs, so that `dict(answer)` works in a bare rpyc script; the keys
of the seed come first (path, type, size, hash / path, type, files / name, addr, free, capacity).
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any, Self, TypeAlias

Value: TypeAlias = Any  # str | bytes | int | float | bool | None | tuple["Value", ...]
Pairs: TypeAlias = tuple[tuple[str, Value], ...]

FILE = "FILE"
DIRECTORY = "DIRECTORY"


_NAMES: dict[Any, dict[str, None]] = {}


def keys_of(record: Any) -> dict[str, None]:
    """The keys of a record, in their order; looked up once for each kind."""
    if record not in _NAMES:
        _NAMES[record] = dict.fromkeys(field.name for field in fields(record))
    return _NAMES[record]


class Record:
    """A frozen dataclass that crosses the wire as pairs.  Unknown keys from a newer peer are ignored."""

    def to_wire(self) -> Pairs:
        return tuple([(name, getattr(self, name)) for name in keys_of(type(self))])

    @classmethod
    def from_wire(cls, pairs: Pairs) -> Self:
        known = keys_of(cls)
        return cls(**{key: value for key, value in pairs if key in known})


@dataclass(frozen=True, slots=True)
class FileInfo(Record):
    """A file of the tree.  Times are seconds since 1970, UTC; `hash` is the SHA-256 in hexadecimal."""

    path: str
    type: str
    size: int
    hash: str
    generation: int  # rises by one with each overwrite
    copies: int  # copies wanted
    live: int  # copies on storages that count now
    storages: tuple[str, ...]  # names of the storages that hold a copy, active ones first
    created: float
    modified: float
    uploader: str
    source: str  # name of the site or path that it came from
    offsite: bool = False  # no copy here, but other librarians hold it
    version: str = ""  # names these very bytes; another after each overwrite
    elsewhere: tuple[tuple[str, str], ...] = ()  # (librarian, its storage) of copies at other sites
    unavailable: tuple[str, ...] = ()  # storages here whose copy was let go

    @property
    def held(self) -> str:
        """Who has it: "here", "here and elsewhere", "offsite" or "nowhere"."""
        if self.storages:
            return "here and elsewhere" if self.elsewhere else "here"
        return "offsite" if self.elsewhere else "nowhere"

    @property
    def owed(self) -> int:
        """Copies that this file should have and has not."""
        return max(0, self.copies - self.live)


@dataclass(frozen=True, slots=True)
class DirInfo(Record):
    """A directory of the tree.  `files` (names of its entries) is filled by `stat`, empty in a listing."""

    path: str
    type: str
    files: tuple[str, ...]
    entries: int
    copies: int | None  # copies for new files in it; None: as in the directory above
    created: float
    modified: float


@dataclass(frozen=True, slots=True)
class StorageInfo(Record):
    """A storage as the nameserver sees it.  Sizes are bytes."""

    name: str
    addr: tuple[str, int]
    free: int
    capacity: int
    state: str  # active, checking, held (safe mode), grace (just lost), down
    used: int
    reserved: int
    files: int
    zone: str
    since: float  # when it came into this state
    held_because: str = ""
    certificate_expires: float = 0.0
    scrub_days: float = 0.0  # in which all its files are to be read again; 0: switched off, or not known yet
    scrub_began: float = 0.0  # the round under way, or the last one
    scrub_ended: float = 0.0  # the last round that came to its end
    scrub_files: int = 0  # read since scrub_began
    scrub_size: int = 0
    scrub_bad: int = 0  # of them were not what they should be


@dataclass(frozen=True, slots=True)
class SiteInfo(Record):
    """The state of the whole site, for the head of `du`."""

    site: str
    files: int
    directories: int
    size: int  # bytes of all files, each counted once
    owed: int  # files that have fewer copies than they should
    uploads: int  # in flight now
    orders: int  # that storages have not carried out yet
    epoch: int
    warnings: tuple[str, ...] = ()
    reviews: int = 0  # files whose copies are being counted or read again, before some are made or let go


@dataclass(frozen=True, slots=True)
class BalanceState(Record):
    """How far storages are being balanced, or how the last time ended.  Times are seconds since 1970, UTC."""

    running: bool = False
    began: float = 0.0  # 0: never, since this nameserver started
    ended: float = 0.0
    moved: int = 0  # copies
    size: int = 0  # bytes of them
    failed: int = 0  # copies that could not be moved
    under_way: int = 0
    gap: float = 0.0  # how far the fullest and the emptiest storage are apart, as shares of their room
    result: str = ""  # even, as even as it gets, stopped


Entry: TypeAlias = FileInfo | DirInfo


def entry_from_wire(pairs: Pairs) -> Entry:
    """FileInfo or DirInfo, as the record's `type` says."""
    kind = dict(pairs)["type"]
    return FileInfo.from_wire(pairs) if kind == FILE else DirInfo.from_wire(pairs)
