"""Bytes in flight: staged under the id of their upload, durable when finished.

Law: `finish` returns when the bytes, the note on them, and their name in the staging folder are on disk.  Threads
that finish at the same moment share the fsync of the folder.  What is suspended is believed of nobody: who goes on with
it reads it again.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import stat
import threading
from collections.abc import Callable

from goggles import checksums, failpoints
from goggles.bulk import BulkWriter
from goggles.errors import BadRequest, Conflict, UploadLost
from goggles.storage import notes
from goggles.storage.containment import explained, to_disk

UPLOAD = re.compile(r"[0-9a-f]{32}\Z")
Fsync = Callable[[int], None]
PART = ".part"  # what an upload's name ends with until it is finished


def check_upload(upload: object) -> str:
    """`upload` if it has the form of an upload id."""
    if isinstance(upload, str) and UPLOAD.match(upload):
        return upload
    raise BadRequest("an upload id has 32 hexadecimal digits")


def leave_to_system(fd: int) -> None:
    """In the place of fsync, for those who chose --durability os: a power cut may take what was answered."""


class SharedFsync:
    """fsync of one directory, shared by those who ask for it at the same moment.

    A caller is served by a round that began after it asked."""

    def __init__(self, fd: int, fsync: Fsync = to_disk) -> None:
        self._fd = fd
        self._fsync = fsync
        self._counting = threading.Lock()
        self._running = threading.Lock()
        self._asked = self._served = 0

    def __call__(self) -> None:
        with self._counting:
            self._asked += 1
            ticket = self._asked
        with self._running:
            if self._served < ticket:
                with self._counting:
                    upto = self._asked
                self._fsync(self._fd)
                self._served = upto


def part_size(folder: int, upload: str) -> int:
    """Bytes that are here of an upload that is not finished; 0 where there is none."""
    with explained("staging"):
        try:
            found = os.stat(check_upload(upload) + PART, dir_fd=folder, follow_symlinks=False)
        except FileNotFoundError:
            return 0
    return found.st_size if stat.S_ISREG(found.st_mode) else 0


def open_part(folder: int, upload: str, offset: int) -> int:
    """The file of an upload: new, or behind the `offset` bytes that are here of it; UploadLost where they are not."""
    name, flags = upload + PART, os.O_WRONLY | os.O_NOFOLLOW | os.O_CLOEXEC
    with explained(f"upload {upload}"):
        if not offset:
            return _open_new(name, flags | os.O_CREAT | os.O_EXCL, folder)
        if part_size(folder, upload) < offset:
            raise UploadLost(f"of upload {upload} there are no {offset} bytes here", "put again")
        fd = os.open(name, flags, dir_fd=folder)
        try:
            os.ftruncate(fd, offset)
            os.lseek(fd, offset, os.SEEK_SET)
        except BaseException:
            os.close(fd)
            raise
        return fd


def _open_new(name: str, flags: int, folder: int) -> int:
    """A new file, whatever had this name."""
    with contextlib.suppress(FileExistsError):
        return os.open(name, flags, 0o644, dir_fd=folder)
    with contextlib.suppress(FileNotFoundError):
        os.unlink(name, dir_fd=folder)
    return os.open(name, flags, 0o644, dir_fd=folder)


class StagedWrite:
    """One upload on its way to the disk, of which `size` bytes are there.  Use it from one thread."""

    def __init__(
        self,
        fd: int,
        folder: int,
        name: str,
        limit: int | None,
        grow: Callable[[int], None],
        give_back: Callable[[], None],
        settle: Callable[[], None],
        sync: SharedFsync,
        fsync: Fsync,
        size: int = 0,
    ) -> None:
        self._fd: int | None = fd
        self._fsync = fsync
        self._folder = folder
        self._name = name
        self._limit = limit
        self._grow = grow
        self._give_back = give_back
        self._settle = settle
        self._sync = sync
        self._writer = BulkWriter(fd, limit or 0)
        self.size = size

    def digest(self) -> hashlib._Hash:
        """The sha256 so far of what is there, as it is read from the disk now."""
        digest, left = hashlib.sha256(), self.size
        with explained("staging"):
            fd = os.open(self._name, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=self._folder)
            with open(fd, "rb", buffering=0) as file:
                while left and (data := file.read(min(left, checksums.CHUNK))):
                    digest.update(data)
                    left -= len(data)
        return digest

    def write(self, data: memoryview | bytes) -> None:
        """Append `data`; NoSpace, StorageFailure, or BadRequest where it is more than was announced."""
        if self._fd is None:
            raise BadRequest("this upload is over")
        view = memoryview(data)
        if self._limit is not None and self.size + len(view) > self._limit:
            raise BadRequest(f"more than the {self._limit} bytes that were announced")
        self._grow(len(view))
        with explained("staging"):
            self._writer.write(view)
        self.size += len(view)

    def finish(self, sha256: str, version: str) -> None:
        """Make it durable."""
        self.flush(sha256, version)
        self.name()
        failpoints.hit("storage.stage.before_sync")
        with explained("staging"):
            self._sync()
        self.settle()

    def flush(self, sha256: str, version: str) -> None:
        """Its bytes and the note on them are on disk afterwards; first of the three steps of `finish`."""
        if self._fd is None:
            raise BadRequest("this upload is over")
        with explained("staging"):
            notes.write(self._fd, sha256, version, 0)
            failpoints.hit("storage.stage.before_fsync")
            self._fsync(self._fd)

    def name(self) -> None:
        """Its name is the one of a finished upload, on disk once the folder is fsynced."""
        with explained("staging"):
            if not self._is_mine():
                raise Conflict("another writer has begun this upload anew")
            os.rename(self._name, self._name.removesuffix(PART), src_dir_fd=self._folder, dst_dir_fd=self._folder)

    def settle(self) -> None:
        """The folder was fsynced: the upload is finished."""
        failpoints.hit("storage.stage.after_fsync")
        self._close()
        self._settle()

    def suspend(self) -> None:
        """Leave what has come, to be gone on with until the nameserver has it discarded."""
        if self._fd is not None:
            self._close()
            self._give_back()

    def abort(self) -> None:
        """Forget it, unless it was finished."""
        if self._fd is None:
            return
        with contextlib.suppress(FileNotFoundError):
            if self._is_mine():
                os.unlink(self._name, dir_fd=self._folder)
        self._close()
        self._give_back()

    def _is_mine(self) -> bool:
        """Whether the name still stands for the file that this writer opened."""
        assert self._fd is not None
        with contextlib.suppress(FileNotFoundError):
            named, mine = os.stat(self._name, dir_fd=self._folder, follow_symlinks=False), os.fstat(self._fd)
            return (named.st_dev, named.st_ino) == (mine.st_dev, mine.st_ino)
        return False

    def _close(self) -> None:
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None
