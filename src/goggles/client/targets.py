"""Local files in the making.

Law: nothing appears under its name before it is whole.  Until then the bytes lie beside it: under a name by chance, or,
where a get may go on with them later, as `.NAME.VERSION.partial`, which one get at a time writes to.  What lies there
is of that version by its name alone: whoever goes on with it reads it again and compares the digest of the whole.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import os
import re
import secrets
import stat
import threading
from pathlib import Path
from typing import BinaryIO

from goggles import failpoints
from goggles.bulk import BulkWriter
from goggles.contracts.data import LARGE, STEP
from goggles.errors import AlreadyExists, Cancelled, GogglesError, LocalFileError, NoSpace
from goggles.paths import show

LONGEST = 255  # bytes in the name of a file
PARTIAL = re.compile(r"\.(.*)\.[0-9a-f]{32}\.partial\Z", re.DOTALL)


class Target:
    """A local file in the making: bytes go to a hidden name beside it, `finish` renames.

    A symbolic link is followed; what is neither a file nor missing is refused, never replaced.  `resume`: what comes
    of a large file is left for another get by `leave`, and gone on with.  `alone`: what was left of other versions is
    looked for with small files too (many in one folder would look for long)."""

    def __init__(self, path: Path, resume: bool = False, *, alone: bool = False) -> None:
        self.path = path = Path(os.path.realpath(path))
        need_regular(path)
        self.kept = 0  # bytes that were there when `begin` was called
        self._resume = resume
        self._alone = alone
        self._version: str | None = None
        self._hidden = path
        self._lasting = False
        self._file: BinaryIO | None = None

    def begin(self, version: str, size: int) -> None:
        """`size` bytes of this version are coming, of which `kept` are there; LocalFileError."""
        if version != self._version or self._file is None:
            self.drop()
            self._open(version, size)
            self._version = version
        there = self._length()
        self._go_on(there - there % STEP if there <= size else 0, size)

    def restart(self, size: int) -> None:
        """Begin again from the first byte."""
        self._go_on(0, size)

    def digest(self, cancel: threading.Event | None = None) -> hashlib._Hash:
        """The sha256 so far of the bytes that are kept, as they are read from the disk now."""
        digest, left = hashlib.sha256(), self.kept
        if not left:
            return digest
        try:
            with open(self._hidden, "rb", buffering=0) as file:
                while left and (data := file.read(min(left, STEP))):
                    if cancel is not None and cancel.is_set():
                        raise Cancelled("get was cancelled")
                    digest.update(data)
                    left -= len(data)
        except OSError as error:
            raise local_error(error, self.path) from error
        return digest

    def write(self, data: memoryview | bytes) -> None:
        try:
            self._writer.write(data)
        except OSError as error:
            raise local_error(error, self.path) from error

    def finish(self) -> None:
        assert self._file is not None
        try:
            with contextlib.suppress(FileNotFoundError):
                os.chmod(self._hidden, os.stat(self.path).st_mode & 0o7777)
            failpoints.hit("client.get.before_rename")
            os.replace(self._hidden, self.path)
            failpoints.hit("client.get.after_rename")
            self._file.close()
        except OSError as error:
            raise local_error(error, self.path) from error
        self._file = None

    def leave(self) -> None:
        """Leave what has come for another get of this version, where it is worth it."""
        if self._file is not None and self._lasting and self._length() >= STEP:
            self._file.close()
            self._file = None
        self.drop()

    def drop(self) -> None:
        """Forget it."""
        if self._file is None:
            return
        with contextlib.suppress(OSError):
            os.unlink(self._hidden)
        self._file.close()
        self._file = None

    def _length(self) -> int:
        assert self._file is not None
        return os.fstat(self._file.fileno()).st_size

    def _open(self, version: str, size: int) -> None:
        wanted = partial_of(self.path, version) if self._resume and size >= LARGE else None
        for other in partials_of(self.path) if self._alone or size >= LARGE else ():
            if other != wanted:
                _remove(other)
        self._file = None
        if wanted is not None:
            self._file, self._hidden = _take(wanted), wanted
        self._lasting = self._file is not None
        if self._file is None:
            self._hidden = self.path.with_name(f".{secrets.token_hex(8)}.goggles")
            try:
                self._file = open(self._hidden, "xb", buffering=0)  # noqa: SIM115 - closed by finish, leave or drop
            except OSError as error:
                raise local_error(error, self.path) from error

    def _go_on(self, kept: int, size: int) -> None:
        assert self._file is not None
        try:
            self._file.truncate(kept)
            self._file.seek(kept)
        except OSError as error:
            raise local_error(error, self.path) from error
        self.kept = kept
        self._writer = BulkWriter(self._file.fileno(), size)


def partial_of(path: Path, version: str) -> Path:
    """Where the unfinished bytes of this version lie; a long name is cut."""
    ending = f".{version}.partial".encode()
    return path.with_name(os.fsdecode(b"." + os.fsencode(path.name)[: LONGEST - 1 - len(ending)] + ending))


def partials_of(path: Path) -> list[Path]:
    """Unfinished bytes of any version of this file."""
    named = PARTIAL.match(partial_of(path, "0" * 32).name)
    assert named is not None
    found: list[Path] = []
    with contextlib.suppress(OSError), os.scandir(path.parent) as entries:
        for entry in entries:
            match = PARTIAL.match(entry.name)
            if match is not None and match[1] == named[1]:
                found.append(path.with_name(entry.name))
    return found


def _take(partial: Path) -> BinaryIO | None:
    """The file, new or as it was left, for this process alone; None where it is another's."""
    flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    try:
        file = open(partial, "r+b", buffering=0, opener=lambda name, _: os.open(name, flags, 0o666))  # noqa: SIM115 - the caller's
    except OSError:
        return None
    if _is_mine(file, partial):
        return file
    file.close()
    return None


def _is_mine(file: BinaryIO, path: Path) -> bool:
    """Whether it is a plain file of this user's, that nobody else is at work on and that still has this name."""
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        opened, named = os.fstat(file.fileno()), os.lstat(path)
    except OSError:
        return False
    plain = stat.S_ISREG(opened.st_mode) and opened.st_nlink == 1 and opened.st_uid == os.geteuid()
    return plain and (opened.st_dev, opened.st_ino) == (named.st_dev, named.st_ino)


def _remove(partial: Path) -> None:
    """Remove what a get left, unless one is at work on it."""
    file = _take(partial)
    if file is not None:
        with file, contextlib.suppress(OSError):
            os.unlink(partial)


def same(path: Path, size: int, sha256: str, cancel: threading.Event) -> bool:
    """Whether these bytes are in the local file already; it is read for that."""
    digest = hashlib.sha256()
    try:
        with open(path, "rb", buffering=0) as file:
            found = os.fstat(file.fileno())
            if not stat.S_ISREG(found.st_mode) or found.st_size != size:
                return False
            while not cancel.is_set() and (data := file.read(STEP)):
                digest.update(data)
    except OSError:
        return False
    return digest.hexdigest() == sha256


def need_regular(path: Path) -> None:
    """Raise where something stands at `path` that is no regular file."""
    try:
        mode = os.stat(path).st_mode
    except FileNotFoundError:
        return
    except OSError as error:
        raise local_error(error, path) from error
    if not stat.S_ISREG(mode):
        raise LocalFileError(f"{show(str(path))} is not a regular file", "cat writes to devices and pipes")


def may_write(path: Path, overwrite: bool) -> None:
    """Raise where a file can not be written to `path`, or may not without `overwrite`."""
    try:
        is_dir, is_there = path.is_dir(), path.exists()
    except OSError as error:
        raise local_error(error, path) from error
    if is_dir:
        raise LocalFileError(f"{show(str(path))} is a directory", "name the file")
    need_regular(path)
    if is_there and not overwrite:
        raise AlreadyExists(f"{show(str(path))} exists already", "get -f overwrites it")


def local_error(error: OSError, path: Path) -> GogglesError:
    """What a failed local write means to the user."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return NoSpace(f"the local disk is full: {show(str(path))} was not written")
    return LocalFileError(f"{show(str(path))} can not be written: {os.strerror(error.errno or errno.EIO)}")
