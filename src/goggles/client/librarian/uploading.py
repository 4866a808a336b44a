"""A file or a folder into the tree of a librarian.

Law: nothing that stands there is replaced.  In a folder, a file that is there byte by byte is as good as uploaded, so
that what was interrupted can be done again.
"""

from __future__ import annotations

import os
import threading
from io import FileIO
from pathlib import Path
from typing import Any

from goggles import checksums
from goggles.client.api import OnProgress
from goggles.client.calls import Calls
from goggles.client.librarian.answers import Answer
from goggles.client.puttree import PutTree
from goggles.client.session import Session
from goggles.client.trees import Job
from goggles.contracts.records import FileInfo
from goggles.errors import AlreadyExists, GogglesError, LocalFileError
from goggles.exceptions import LibrarianPartialError
from goggles.paths import DfsPath, parse, show, split
from goggles.wire.links import Links


class Uploads:
    """Uploads of one user."""

    def __init__(self, session: Session, calls: Calls, links: Links) -> None:
        self._session = session
        self._calls = calls
        self._links = links

    def upload(
        self,
        local: Path,
        path: str,
        deletable: bool = False,
        progress: OnProgress | None = None,
        cancel: threading.Event | None = None,
    ) -> Answer:
        """Write `local` to `path`; the directories above it are made."""
        target = parse(path)
        if not os.path.exists(local):
            raise LocalFileError(f"{show(str(local))} is not there")
        self._session.mkdir(split(target)[0], parents=True, exist_ok=True)
        if os.path.isdir(local):
            return self._folder(local, target, deletable, progress, cancel)
        self._session.put(local, target, overwrite=False, progress=progress, cancel=cancel)
        if deletable:
            self._calls("set_deletion", target, True)
        return Answer(path=str(target), files=1, bytes=local.stat().st_size, already_there=0)

    def _folder(
        self,
        local: Path,
        target: DfsPath,
        deletable: bool,
        progress: OnProgress | None,
        cancel: threading.Event | None,
    ) -> Answer:
        tree = _NewFiles(self._session, self._calls, self._links, progress, cancel)
        tree.fresh = not self._session.exists(target)
        summary = tree.run(local, target)
        failed = [*summary.failed]
        if deletable:
            failed += self._let_go(sorted(tree.meant - {path for path, _ in failed}))
        made = Answer(path=str(target), files=summary.files, bytes=summary.bytes, already_there=tree.there)
        if failed:
            count = summary.files + tree.there + len(summary.failed)
            raise LibrarianPartialError(
                f"{len(failed)} of {count} files were not uploaded as they should",
                failed,
                made,
                "uploading it again leaves what is there as it is",
            )
        return made

    def _let_go(self, paths: list[str]) -> list[tuple[str, str]]:
        """Say of each file that it may be deleted; (path, why) where that failed."""
        answers = self._calls.each("set_deletion", [(path, True) for path in paths])
        return [(path, str(said)) for path, said in zip(paths, answers, strict=True) if isinstance(said, Exception)]


class _NewFiles(PutTree):
    """A folder without what is there already."""

    fresh = True  # nothing is there yet
    there = 0

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.meant: set[str] = set()  # the files of the folder, there already or not

    def _job(self, here: DfsPath, name: str, local: str) -> Job | None:
        job = super()._job(here, name, local)
        if job is not None:
            self.meant.add(job.path)
        if job is None or self.fresh:
            return job
        try:
            if not is_there(self.session, job.path, job.local, job.size):
                return job
            self.there += 1
        except GogglesError as error:
            self.tally.fail(job.path, error)
        return None


def is_there(session: Session, path: DfsPath, local: Path, size: int) -> bool:
    """True where the local file is at `path` already, byte by byte; AlreadyExists where something else is."""
    if not session.exists(path):
        return False
    entry = session.stat(path)
    if isinstance(entry, FileInfo) and entry.size == size and entry.hash == digest(local)[1]:
        return True
    raise AlreadyExists(f"{path} exists already, with other content", "nothing is replaced: choose another name")


def digest(local: Path) -> tuple[int, str]:
    """Size and SHA-256 of a local file."""
    try:
        with FileIO(local) as file:
            return checksums.of_file(file)
    except OSError as error:
        raise LocalFileError(f"{show(str(local))} can not be read: {error.strerror}") from error
