"""Paths of the tree, resolved below one directory and nowhere else.

Law: every step is taken relative to an open directory and follows no symbolic link, so that neither `..`, nor a link
planted below the root, nor a race can lead outside; and paths of 4,096 bytes work however deep the root is.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import stat
from collections.abc import Callable, Iterator
from pathlib import Path

from goggles.errors import GogglesError, IsADirectory, NoSpace, NotADirectory, NotEmpty, NotFound, StorageFailure
from goggles.paths import DfsPath, parts, show, split

DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
LIBC = ctypes.CDLL(None, use_errno=True)
FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


def explain(error: OSError, what: str) -> GogglesError:
    """An error of the file system as one of ours."""
    reason = f"{what}: {os.strerror(error.errno or errno.EIO)}"
    match error.errno:
        case errno.ENOENT:
            return NotFound(reason)
        case errno.ENOSPC | errno.EDQUOT:
            return NoSpace(reason, "the disk of the storage is full")
        case errno.ENOTDIR | errno.ELOOP:
            return NotADirectory(reason)
        case errno.EISDIR:
            return IsADirectory(reason)
        case errno.ENOTEMPTY | errno.EEXIST:
            return NotEmpty(reason)
    return StorageFailure(reason, "look at the disk and the log of the storage")


@contextlib.contextmanager
def explained(what: str) -> Iterator[None]:
    """Errors of the file system in this block leave it as ours."""
    try:
        yield
    except OSError as error:
        raise explain(error, what) from error


def to_disk(fd: int) -> None:
    """What was written to this file, or the names in this directory, are on disk afterwards."""
    os.fsync(fd)


def sync_folder(folder: Path) -> None:
    """The names in this directory are on disk afterwards."""
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        to_disk(fd)
    finally:
        os.close(fd)


def sync_file_system(fd: int) -> None:
    """Whatever was done on the file system of `fd`, by whomever, is on disk afterwards."""
    if LIBC.syncfs(fd):
        raise OSError(ctypes.get_errno(), "the file system can not be synced")


class Root:
    """The directory that everything is below.

    `made(fd)` is called for each directory in which another was made; it sees to it that this reaches the disk."""

    def __init__(self, path: Path, made: Callable[[int], None] = to_disk) -> None:
        self.path = path
        self.made = made
        self.fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)

    def close(self) -> None:
        os.close(self.fd)

    @contextlib.contextmanager
    def directory(self, path: DfsPath, create: bool = False) -> Iterator[int]:
        """A descriptor of the directory at `path`; made with those above it where `create` says so."""
        fd = self.open_directory(path, create)
        try:
            yield fd
        finally:
            os.close(fd)

    def open_directory(self, path: DfsPath, create: bool = False) -> int:
        """The same, to be closed by the caller."""
        try:
            return self._descend(parts(path), create)
        except OSError as error:
            raise explain(error, f"directory {show(path)}") from error

    @contextlib.contextmanager
    def parent(self, path: DfsPath, create: bool = False) -> Iterator[tuple[int, str]]:
        """(descriptor of the directory that `path` is in, name in it)."""
        above, name = split(path)
        with self.directory(above, create) as fd:
            yield fd, name

    def _descend(self, names: list[str], create: bool) -> int:
        fd = self.fd
        for name in names:
            try:
                below = self._step(fd, name, create)
            finally:
                if fd != self.fd:
                    os.close(fd)
            fd = below
        return fd if names else os.dup(fd)

    def _step(self, fd: int, name: str, create: bool) -> int:
        try:
            return os.open(name, DIRECTORY, dir_fd=fd)
        except FileNotFoundError:
            if not create:
                raise
        with contextlib.suppress(FileExistsError):
            os.mkdir(name, dir_fd=fd)
            self.made(fd)
        return os.open(name, DIRECTORY, dir_fd=fd)

    def open_file(self, path: DfsPath) -> int:
        """A descriptor of the regular file at `path`, for reading."""
        with self.parent(path) as (fd, name), explained(show(path)):
            return open_regular(name, fd)


def open_regular(name: str, fd: int) -> int:
    """Open a regular file for reading; anything else is NotFound or IsADirectory."""
    found = os.open(name, FILE, dir_fd=fd)
    kind = os.fstat(found).st_mode
    if stat.S_ISREG(kind):
        return found
    os.close(found)
    if stat.S_ISDIR(kind):
        raise IsADirectory(f"{show(name)} is a directory")
    raise NotFound(f"{show(name)} is not a regular file")


def kind_of(name: str, fd: int) -> str:
    """ "file", "directory", "other", or "" where nothing is there."""
    try:
        mode = os.stat(name, dir_fd=fd, follow_symlinks=False).st_mode
    except FileNotFoundError:
        return ""
    return "file" if stat.S_ISREG(mode) else "directory" if stat.S_ISDIR(mode) else "other"
