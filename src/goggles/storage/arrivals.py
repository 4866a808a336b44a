"""Files that come from other sites: a place for each, filled from outside, believed only after it was read.

Format: `.goggles/incoming/<id>/data`, a plain file; whoever carries it (our own data plane, cp, rsync, Globus) writes
there.  Law: nothing that lies there is part of the tree.  `ingest` reads the whole file, compares size and SHA-256,
makes it durable with its note, and moves it to the staging area, where it is like any upload.  What is dropped while
somebody writes or reads it goes when that ends.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import stat
import threading
from collections.abc import Callable, Iterator
from io import FileIO
from pathlib import Path

from goggles import failpoints
from goggles.contracts.orders import ARRIVING, Held
from goggles.errors import BadRequest, ChecksumMismatch, Conflict, NotFound, Stale
from goggles.storage import notes
from goggles.storage.containment import DIRECTORY, explained, open_regular, to_disk
from goggles.storage.inventory import digest_of
from goggles.storage.staging import SharedFsync, check_upload

FOLDER, DATA = "incoming", "data"


def place_of(arrival: str) -> str:
    """Where the bytes go, below the root of the storage."""
    return f".goggles/{FOLDER}/{check_upload(arrival)}/{DATA}"


class Arrivals:
    """The places.  `settle(size)` is told of bytes that have come to the staging area."""

    def __init__(self, own: Path, staging: int, sync: SharedFsync, settle: Callable[[int], None]) -> None:
        self._path = own / FOLDER
        self._path.mkdir(exist_ok=True)
        self._fd = os.open(self._path, DIRECTORY)
        self._staging = staging
        self._sync = sync
        self._settle = settle
        self._lock = threading.Lock()
        self._busy: set[str] = set()  # arrivals that somebody writes to or reads; guarded by _lock
        self._doomed: set[str] = set()  # those of them that are to be dropped; guarded by _lock

    def close(self) -> None:
        os.close(self._fd)

    def make(self, arrivals: tuple[str, ...]) -> None:
        """Places for these; those that are there stay as they are."""
        with explained("places for incoming files"):
            for arrival in arrivals:
                with contextlib.suppress(FileExistsError):
                    os.mkdir(check_upload(arrival), 0o777, dir_fd=self._fd)
            to_disk(self._fd)

    def drop(self, arrival: str) -> None:
        """Remove a place with what is in it, now or when it is not in use any more."""
        check_upload(arrival)
        with self._lock:
            if arrival in self._busy:
                self._doomed.add(arrival)
                return
            self._remove(arrival)

    def _remove(self, arrival: str) -> None:
        shutil.rmtree(self._path / arrival, ignore_errors=True)

    def size(self, arrival: str) -> int:
        """Bytes that are there."""
        try:
            with self._open(arrival) as file:
                return os.fstat(file.fileno()).st_size
        except NotFound:
            return 0

    @contextlib.contextmanager
    def append(self, arrival: str, offset: int) -> Iterator[FileIO]:
        """The file of an arrival, open for writing at `offset`, which must not be beyond its end."""
        flags = os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
        with (
            self._alone(arrival),
            explained(f"arrival {arrival}"),
            self._folder(arrival) as folder,
            open(os.open(DATA, flags, 0o666, dir_fd=folder), "wb", buffering=0) as file,
        ):
            have = os.fstat(file.fileno()).st_size
            if offset > have:
                raise BadRequest(f"only {have} bytes are here", "ask for the size first")
            file.truncate(offset)
            file.seek(offset)
            yield file

    def need_wanted(self, arrival: str) -> None:
        """Raise Stale where this arrival was dropped meanwhile."""
        with self._lock:
            if arrival in self._doomed:
                raise Stale(f"arrival {arrival} is not wanted any more")

    def ingest(self, arrival: str, size: int, sha256: str, version: str) -> None:
        """Move an arrival to the staging area; ChecksumMismatch where it is not what was announced.

        Done again after a crash, it is done already."""
        with self._alone(arrival), explained(f"arrival {arrival}"):
            if self._is_staged(arrival):
                self._sync()
                self._remove(arrival)
                return
            with self._open(arrival) as file:
                self._compare(arrival, file, size, sha256)
                _ours(file.fileno())
                notes.write(file.fileno(), sha256, version, 0)
                failpoints.hit("storage.ingest.before_fsync")
                to_disk(file.fileno())
            with self._folder(arrival) as folder:
                os.rename(DATA, arrival, src_dir_fd=folder, dst_dir_fd=self._staging)
            failpoints.hit("storage.ingest.before_sync")
            self._sync()
            failpoints.hit("storage.ingest.after_rename")
            self._settle(size)
            self._remove(arrival)

    def walk(self) -> Iterator[Held]:
        """Every place, with what has come so far."""
        for name in os.listdir(self._fd):
            with contextlib.suppress(BadRequest):
                yield Held(ARRIVING, check_upload(name), self.size(name), "", "", 0)

    def _compare(self, arrival: str, file: FileIO, size: int, sha256: str) -> None:
        there = os.fstat(file.fileno()).st_size
        if there != size:
            raise ChecksumMismatch(f"arrival {arrival} has {there} bytes, {size} were announced")
        if digest_of(file.fileno()) != sha256:
            raise ChecksumMismatch(f"arrival {arrival} has other bytes than were announced")

    def _is_staged(self, arrival: str) -> bool:
        try:
            os.close(open_regular(arrival, self._staging))
        except (FileNotFoundError, NotFound):
            return False
        return True

    def _open(self, arrival: str) -> FileIO:
        with explained(f"arrival {arrival}"), self._folder(arrival) as folder:
            return open(open_regular(DATA, folder), "rb", buffering=0)

    @contextlib.contextmanager
    def _folder(self, arrival: str) -> Iterator[int]:
        fd = os.open(check_upload(arrival), DIRECTORY, dir_fd=self._fd)
        try:
            yield fd
        finally:
            os.close(fd)

    @contextlib.contextmanager
    def _alone(self, arrival: str) -> Iterator[None]:
        with self._lock:
            if arrival in self._busy:
                raise Conflict(f"arrival {arrival} is in use", "somebody else is sending it; try again")
            self._busy.add(arrival)
        try:
            yield
        finally:
            with self._lock:
                self._busy.discard(arrival)
                if arrival in self._doomed:
                    self._doomed.discard(arrival)
                    self._remove(arrival)


def _ours(file: int) -> None:
    """Whatever umask it was carried here with, nobody else may change a file of a storage."""
    mode = stat.S_IMODE(os.fstat(file).st_mode)
    if mode & 0o7022:
        os.fchmod(file, mode & ~0o7022)
