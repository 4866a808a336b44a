"""A storage's folder: plain files at their own paths, and beside them what is in flight.

Law: nothing is removed or replaced here but by an order of the nameserver; a file appears at its path whole; what was
said to be durable is.  Layout: docs/on-disk.md.

Locks: `_orders` is held while orders are carried out (one batch at a time); `_books` for the moment it takes to count
bytes; readers and writers of file bytes take neither.
"""

from __future__ import annotations

import contextlib
import fcntl
import itertools
import json
import logging
import os
import secrets
import threading
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from io import FileIO
from pathlib import Path

from goggles import failpoints
from goggles.clock import Clock
from goggles.contracts.orders import Held, Order
from goggles.errors import Conflict, NoSpace, Stale, StorageFailure
from goggles.paths import parse
from goggles.storage import containment, notes
from goggles.storage.arrivals import Arrivals
from goggles.storage.carrying import Carrier, Result
from goggles.storage.containment import DIRECTORY, Root, explained, kind_of, sync_folder, to_disk
from goggles.storage.inventory import Count, Walk, digest_of
from goggles.storage.quarantine import Quarantine
from goggles.storage.staging import (
    PART,
    Fsync,
    SharedFsync,
    StagedWrite,
    check_upload,
    leave_to_system,
    open_part,
    part_size,
)
from goggles.storage.trash import Trash

log = logging.getLogger(__name__)
OWN = ".goggles"
FORMAT = 1


@dataclass(frozen=True, slots=True)
class SiteNote:
    """Whom this folder belongs to.  `site_id` is '' until a nameserver has taken it."""

    storage_id: str
    site_id: str = ""
    epoch: int = 0
    epoch_token: str = ""
    format: int = FORMAT


class Vault:
    """One storage's folder, open.  Sizes are bytes.  `fsync` is `leave_to_system` where that is wanted."""

    def __init__(self, root: Path, capacity: int, clock: Clock, fsync: Fsync = to_disk) -> None:
        self.capacity = capacity
        self.syncs = fsync is not leave_to_system
        self._fsync = fsync
        self.own = root / OWN
        self._lock_fd = _lock(self.own)
        try:
            self.root = Root(root)
            self._staging = os.open(self.own / "staging", DIRECTORY)
            self.site = self._read_site()
        except BaseException:
            os.close(self._lock_fd)
            raise
        self.quarantine = Quarantine(self.own / "quarantine", clock)
        self._orders = threading.Lock()
        self._books = threading.Lock()
        self._used = self._reserved = 0  # guarded by _books
        self._sync = SharedFsync(self._staging, fsync)
        trash = Trash(self.own / "trash", self.quarantine, self._free)
        self._carrier = Carrier(self.root, self._staging, self.quarantine, trash.take, self._free, fsync)
        self._carrier.add("expect", lambda arrivals: self.arrivals.make(arrivals))
        self._carrier.add("drop_arrival", lambda arrival: self.arrivals.drop(arrival))
        always = SharedFsync(self._staging)  # other sites may let go of theirs
        self.arrivals = Arrivals(self.own, self._staging, always, lambda size: self._settle(0, size))
        self._counted = Count()
        trash.empty()

    @classmethod
    def open(cls, root: Path, capacity: int, clock: Clock, fsync: Fsync = to_disk) -> Vault:
        """Open the folder, making what is missing in it; clear errors where it can not be used."""
        root = Path(root).absolute()
        try:
            root.mkdir(exist_ok=True)
            root = root.resolve(strict=True)
            for name in ("", "staging", "quarantine", "trash"):
                (root / OWN / name).mkdir(exist_ok=True)
            _probe(root)
            _sync_all(root)
        except OSError as error:
            raise StorageFailure(
                f"the folder {root} can not be used: {os.strerror(error.errno or 0)}",
                "give a folder with --rootpath that exists (or whose parent does) and can be written to",
            ) from error
        return cls(root, capacity, clock, fsync)

    def close(self) -> None:
        self.root.close()
        self.arrivals.close()
        os.close(self._staging)
        os.close(self._lock_fd)

    # --- whom it belongs to ----------------------------------------------------------------

    def adopt(self, site_id: str, storage_id: str, epoch: int, epoch_token: str) -> None:
        """Write down whom this folder belongs to, and the nameserver's epoch."""
        note = replace(self.site, site_id=site_id, storage_id=storage_id, epoch=epoch, epoch_token=epoch_token)
        if note != self.site:
            self._write_site(note)
            self.site = note

    def need_folder(self) -> None:
        """StorageFailure where the folder was removed while it is open: what is written to it now goes nowhere."""
        if not os.fstat(self._staging).st_nlink:
            raise StorageFailure(
                f"the folder {self.own.parent} was removed while this storage ran", "start the storage again"
            )

    def _read_site(self) -> SiteNote:
        path = self.own / "site.json"
        try:
            known = json.loads(path.read_text())
            if known.get("format", 0) > FORMAT:
                raise StorageFailure(f"{path} was written by a newer program", "upgrade this storage")
            return SiteNote(**known)
        except FileNotFoundError:
            note = SiteNote(secrets.token_hex(16))
            self._write_site(note)
            return note
        except (OSError, ValueError, TypeError, AttributeError) as error:
            raise StorageFailure(
                f"{path} can not be read: {error}", "restore it, or move it aside to begin anew"
            ) from error

    def _write_site(self, note: SiteNote) -> None:
        path, hidden = self.own / "site.json", self.own / "site.json.new"
        with explained(str(path)):
            with open(hidden, "w") as file:
                json.dump(asdict(note), file)
                file.flush()
                failpoints.hit("storage.adopt.before_fsync")
                to_disk(file.fileno())
            failpoints.hit("storage.adopt.before_rename")
            os.replace(hidden, path)
            failpoints.hit("storage.adopt.after_rename")
            sync_folder(self.own)

    # --- room ------------------------------------------------------------------------------

    @property
    def used(self) -> int:
        """Published and staged bytes."""
        return self._used

    @property
    def disk_free(self) -> int:
        """What the file system has left for us."""
        status = os.statvfs(self.root.fd)
        return status.f_bavail * status.f_frsize

    @property
    def free(self) -> int:
        """Bytes that a new upload may have."""
        return max(0, min(self.capacity - self._used - self._reserved, self.disk_free - self._reserved))

    def _reserve(self, size: int) -> None:
        with self._books:
            if size > self.free:
                raise NoSpace(
                    f"no room for {size} bytes, {self.free} are free", "remove files, or give it more --capacity"
                )
            self._reserved += size

    def _release(self, size: int) -> None:
        with self._books:
            self._reserved -= size

    def _free(self, size: int) -> None:
        with self._books:
            self._used -= size

    # --- staging ---------------------------------------------------------------------------

    def staged_part(self, upload: str) -> int:
        """Bytes that are here of an upload that was suspended."""
        return part_size(self._staging, upload)

    def stage(self, upload: str, size: int | None, offset: int = 0) -> StagedWrite:
        """Begin to write an upload of (at most) `size` bytes; None: as many as there is room for.

        `offset`: go on behind so many bytes of it that are here; UploadLost where they are not."""
        name = check_upload(upload)
        reserved = [(size or 0) - offset]
        self._reserve(reserved[0])

        def grow(count: int) -> None:
            if size is None:
                self._reserve(count)
                reserved[0] += count

        def give_back() -> None:
            self._release(reserved[0])

        try:
            fd = open_part(self._staging, name, offset)
        except BaseException:
            give_back()
            raise
        staged = StagedWrite(
            fd,
            self._staging,
            name + PART,
            size,
            grow,
            give_back,
            lambda: self._settle(reserved[0], staged.size),
            self._sync,
            self._fsync,
            offset,
        )
        return staged

    def is_given_up(self, upload: str) -> bool:
        """Whether the nameserver has had this upload discarded."""
        return upload in self._carrier.given_up

    def is_staged(self, upload: str) -> bool:
        """Whether all bytes of this upload are here, and not yet published."""
        return bool(kind_of(check_upload(upload), self._staging))

    def sync_staging(self) -> None:
        """The names in the staging folder are on disk afterwards."""
        with explained("staging"):
            self._sync()

    def _settle(self, reserved: int, size: int) -> None:
        with self._books:
            self._reserved -= reserved
            self._used += size

    def temporary_file(self) -> FileIO:
        """An unnamed file on the same disk; gone when it is closed."""
        with explained("a temporary file"):
            fd = os.open(self.own / "staging", os.O_TMPFILE | os.O_RDWR | os.O_CLOEXEC, 0o600)
        return open(fd, "w+b", buffering=0)

    # --- orders ----------------------------------------------------------------------------

    def begin(self) -> None:
        """A new session of orders."""
        with self._orders:
            self._carrier.begin()

    def apply(self, orders: Sequence[Order]) -> list[Result]:
        """Carry out orders in sequence; one result each: ("ok",) or ("error", code, message)."""
        if not orders:
            return []
        with self._orders:
            results = [self._carrier.carry(order) for order in orders]
            self._carrier.settle()
        return results

    # --- reading ---------------------------------------------------------------------------

    def read(self, path: str, version: str) -> FileIO:
        """The file at `path`, open for reading; Stale where another version stands there, NotFound where none."""
        fd = self.root.open_file(parse(path))
        try:
            note = notes.read(fd)
            if version and note is not None and note.version != version:
                raise Stale(f"another version stands at {path} now", "ask the nameserver again")
            return open(fd, "rb", buffering=0)
        except BaseException:
            os.close(fd)
            raise

    def check(self, path: str, version: str) -> str:
        """Read the file again from the disk: good, bad (other bytes than its note says) or unsure (no note to compare
        with), then its sha256 and its size."""
        with self.read(path, version) as file:
            fd = file.fileno()
            note = self._raw_note(fd)
            os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
            with explained(path):
                digest = digest_of(fd)
            size = os.fstat(fd).st_size
        word = "unsure" if note is None else "good" if digest == note else "bad"
        if word == "bad":
            self._carrier.bad.add(version)
        return f"{word} {digest} {size}"

    @staticmethod
    def _raw_note(fd: int) -> str | None:
        """The digest in the note, whether or not the note fits the file."""
        try:
            return str(json.loads(os.getxattr(fd, notes.NAME))["sha256"])
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def walk(self, batch: int = 1000) -> Iterator[list[Held]]:
        """Everything that is here, in batches: staged uploads, files, directories after what is in them."""
        walk = Walk(self.root, self._staging)
        page: list[Held] = []
        with contextlib.suppress(FileNotFoundError):
            for held in itertools.chain(walk, self.arrivals.walk()):
                page.append(held)
                if len(page) >= batch:
                    yield page
                    page = []
        if page:
            yield page
        with self._books:
            self._counted, self._used = walk.count, walk.count.used

    def walk_staged(self, batch: int = 1000) -> Iterator[list[Held]]:
        """Of `walk` what is no part of the tree yet: staged and arriving."""
        found = itertools.chain(Walk(self.root, self._staging).staged(), self.arrivals.walk())
        while page := list(itertools.islice(found, batch)):
            yield page

    @property
    def counted(self) -> Count:
        """What the last walk came by."""
        return self._counted


def _lock(own: Path) -> int:
    """The folder is for one process at a time."""
    fd = os.open(own / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(fd)
        raise Conflict(
            f"another storage uses {own.parent}", "give each storage a folder of its own with --rootpath"
        ) from None
    return fd


def _probe(root: Path) -> None:
    """Write, fsync, rename, remove: what will be needed must work now."""
    first, second = root / OWN / "probe.new", root / OWN / "probe"
    with open(first, "wb") as file:
        file.write(b"probe")
        file.flush()
        to_disk(file.fileno())
    os.replace(first, second)
    os.unlink(second)
    sync_folder(root / OWN)


def _sync_all(root: Path) -> None:
    """What a process that was killed had done here, and not yet synced, is on disk before anybody relies on it; so
    are the names of the folder itself and of what is new in it."""
    fd = os.open(root, DIRECTORY)
    try:
        containment.sync_file_system(fd)
    finally:
        os.close(fd)
