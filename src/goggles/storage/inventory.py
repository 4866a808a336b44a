"""What there is on a storage, told in no more memory than its directories take.

Law: a walk reports and changes nothing (but the note of a file that was only touched).  What is no plain file or
directory, or has a name that the tree can not hold, is foreign: never followed, never told, only counted and logged.
"""

from __future__ import annotations

import logging
import os
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace

from goggles import checksums, paths
from goggles.contracts.orders import Held
from goggles.errors import BadPath, GogglesError, NotADirectory, NotFound
from goggles.paths import RESERVED, ROOT, DfsPath, show
from goggles.storage import notes
from goggles.storage.containment import Root, explained, open_regular
from goggles.storage.notes import Note
from goggles.storage.quarantine import was_at
from goggles.storage.staging import PART, UPLOAD

log = logging.getLogger(__name__)
READERS = 2  # files read at the same moment
AHEAD = 4  # files open and waiting to be read
NAMED = 20  # foreign things that a walk logs by name


@dataclass(slots=True)
class Count:
    """What a walk came by.  `used`: bytes published and staged; `hashed`: files that had to be read; `left_out`:
    directories that could not be."""

    used: int = 0
    foreign: int = 0
    hashed: int = 0
    unreadable: int = 0
    left_out: int = 0


@dataclass(frozen=True, slots=True)
class _Unread:
    """An open file without a note that can be believed."""

    held: Held
    fd: int


def digest_of(fd: int) -> str:
    """The sha256 of the whole file, read now; the descriptor is at the start afterwards.  OSError."""
    os.lseek(fd, 0, os.SEEK_SET)
    with open(fd, "rb", buffering=0, closefd=False) as file:
        _, digest = checksums.of_file(file)
    os.lseek(fd, 0, os.SEEK_SET)
    return digest


class Walk:
    """One walk over all files, then all that is staged or arriving, then all directories (each after those inside it).

    A file that an order puts aside meanwhile goes to where the walk comes later, so that it is not missed.
    `count` is complete when the walk is.  Errors: whatever keeps the root itself from being read."""

    def __init__(self, root: Root, staging: int) -> None:
        self._root = root
        self._staging = staging
        self.count = Count()

    def __iter__(self) -> Iterator[Held]:
        yield from self._files()
        yield from self.staged()
        yield from self._directories()
        if self.count.foreign:
            log.warning("%d things in the folder do not belong to the tree", self.count.foreign)

    # --- staged ----------------------------------------------------------------------------

    def staged(self) -> Iterator[Held]:
        """Uploads, complete or not."""
        for name in os.listdir(self._staging):
            upload = name.removesuffix(PART)
            if not UPLOAD.match(upload):
                continue
            if name != upload:
                yield Held("staged", upload, 0, "", "", 0)
                continue
            found = self._look("staged", name, name, self._staging)
            if isinstance(found, _Unread):
                found = self._read(found)
            if found is not None and found.hash:  # what can not be read is not told of: nobody may throw it away
                yield replace(found, was=was_at(name, self._staging)) if found.generation else found

    # --- files -----------------------------------------------------------------------------

    def _files(self) -> Iterator[Held]:
        """Up to READERS files are read at the same moment; at most AHEAD are open for it."""
        waiting: deque[Future[Held]] = deque()
        with ThreadPoolExecutor(READERS, "inventory") as readers:
            for path, fd, name in self._plain_files():
                found = self._look("file", path, name, fd)
                if isinstance(found, _Unread):
                    waiting.append(readers.submit(self._read, found))
                elif found is not None:
                    yield found
                if len(waiting) > AHEAD:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()

    def _plain_files(self) -> Iterator[tuple[DfsPath, int, str]]:
        pending = [ROOT]
        while pending:
            directory = pending.pop()
            for fd, entry in self._listing(directory):
                if self._is_system(directory, entry):
                    continue
                path = self._path(directory, entry)
                if path is None:
                    continue
                if entry.is_dir(follow_symlinks=False):
                    pending.append(path)
                elif entry.is_file(follow_symlinks=False):
                    yield path, fd, entry.name
                else:
                    self._alien(f"{path} is no plain file")

    def _look(self, kind: str, path: str, name: str, fd: int) -> Held | _Unread | None:
        """What `name` of directory `fd` is, or the open file where it must be read for that; None if it has gone."""
        try:
            file = open_regular(name, fd)
        except (FileNotFoundError, NotFound):
            return None
        except (OSError, GogglesError) as error:
            return self._unreadable(Held(kind, path, _size(name, fd), "", "", 0), error)
        note, status = notes.as_written(file), os.fstat(file)
        self.count.used += status.st_size
        if note is None or not note.fits(status):
            return _Unread(Held(kind, path, status.st_size, "", "", 0), file)
        os.close(file)
        return _known(kind, path, note)

    def _read(self, unread: _Unread) -> Held:
        try:
            self.count.hashed += 1
            found = _known(unread.held.kind, unread.held.path, _examined(unread.fd))
            if found.kind == "staged" and not found.version:
                return replace(found, version=found.path)  # an upload is called like the version it will be
            return found
        except OSError as error:
            return self._unreadable(unread.held, error)
        finally:
            os.close(unread.fd)

    def _unreadable(self, held: Held, error: Exception) -> Held:
        self.count.unreadable += 1
        log.error("%s can not be read: %s", show(held.path), error)
        return held

    # --- directories -----------------------------------------------------------------------

    def _directories(self) -> Iterator[Held]:
        pending = [(ROOT, False)]
        while pending:
            directory, inside_done = pending.pop()
            if inside_done:
                yield Held("directory", directory, 0, "", "", 0)
                continue
            if directory != ROOT:
                pending.append((directory, True))
            for _, entry in self._listing(directory):
                if entry.is_dir(follow_symlinks=False) and not self._is_system(directory, entry):
                    below = _joined(directory, entry.name)
                    if below is not None:
                        pending.append((below, False))

    def _listing(self, directory: DfsPath) -> Iterator[tuple[int, os.DirEntry[str]]]:
        try:
            with (
                explained(f"listing {show(directory)}"),
                self._root.directory(directory) as fd,
                os.scandir(fd) as found,
            ):
                for entry in found:
                    yield fd, entry
        except GogglesError as error:
            if directory == ROOT:
                raise
            if not isinstance(error, (NotFound, NotADirectory)):
                self.count.left_out += 1
                log.error("left out: %s", error)

    def _is_system(self, directory: DfsPath, entry: os.DirEntry[str]) -> bool:
        return directory == ROOT and entry.name == RESERVED

    def _path(self, directory: DfsPath, entry: os.DirEntry[str]) -> DfsPath | None:
        path = _joined(directory, entry.name)
        if path is None:
            self._alien(f"{show(entry.name)} in {show(directory)} is no name that the tree can hold")
        return path

    def _alien(self, what: str) -> None:
        self.count.foreign += 1
        if self.count.foreign <= NAMED:
            log.warning("%s: left alone", what)


def _joined(directory: DfsPath, name: str) -> DfsPath | None:
    try:
        return paths.parse(paths.join(directory, name))
    except BadPath:
        return None


def _size(name: str, fd: int) -> int:
    try:
        return os.stat(name, dir_fd=fd, follow_symlinks=False).st_size
    except FileNotFoundError:
        return 0


def _known(kind: str, path: str, note: Note) -> Held:
    return Held(kind, path, note.size, note.sha256, note.version, note.generation, note.mtime_ns)


def _examined(fd: int) -> Note:
    """What the file holds, by reading it.  Bytes that are what their note says are that version still."""
    found = os.fstat(fd)
    note = Note(digest_of(fd), found.st_size, found.st_mtime_ns, "", 0)
    before = notes.as_written(fd)
    if before is None or (before.sha256, before.size) != (note.sha256, note.size):
        return note
    note = replace(note, version=before.version, generation=before.generation)
    if note.fits(os.fstat(fd)):
        notes.write(fd, note.sha256, note.version, note.generation)
    return note
