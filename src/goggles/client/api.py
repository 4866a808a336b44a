"""What a session offers to those who use it: the surface that the shell is written against.

Law: paths are absolute text, sizes bytes; every call blocks, may be made from any thread, and raises only errors of
goggles.errors.  `goggles.client.session.Session` keeps it over the wire, `goggles.testing.memory_files` in memory.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol, TypeAlias, runtime_checkable

from goggles.contracts.data import Committed
from goggles.contracts.records import Entry, FileInfo, SiteInfo, StorageInfo


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a transfer is: bytes of `path` or of the whole tree, and files."""

    path: str
    done: int
    total: int
    files_done: int
    files_total: int


OnProgress: TypeAlias = Callable[[Progress], None]


@dataclass(frozen=True, slots=True)
class Summary:
    """What a transfer of a whole tree came to."""

    files: int
    directories: int
    bytes: int
    failed: list[tuple[str, str]] = field(default_factory=list)
    seconds: float = 0.0


class Looks(Protocol):
    """Calls that change nothing."""

    @property
    def connected(self) -> bool: ...

    def ls(self, path: str) -> list[Entry]: ...

    def scan(self, path: str, after: str = "", limit: int = 1_000) -> list[Entry]: ...

    def stat(self, path: str) -> Entry: ...

    def exists(self, path: str) -> bool: ...

    def isdir(self, path: str) -> bool: ...

    def isfile(self, path: str) -> bool: ...

    def listdir(self, path: str) -> list[str]: ...

    def locations(self, path: str) -> list[str]: ...

    def du(self) -> tuple[SiteInfo, list[StorageInfo]]: ...

    def find(self, path: str, pattern: str | None = None, type: str | None = None) -> Iterator[Entry]: ...  # noqa: A002 - a record's own word

    def tree_size(self, path: str) -> tuple[int, int, int]:
        """(files, directories, bytes) below a directory."""
        ...

    def read(self, path: str, offset: int = 0, length: int | None = None) -> Iterator[bytes]: ...

    def verify(self, path: str) -> list[tuple[str, str]]:
        """(storage, verdict) for each copy."""
        ...


class Changes(Protocol):
    """Calls that change the tree or the site."""

    def mkdir(self, path: str, *, parents: bool = False, exist_ok: bool = False) -> None: ...

    def rmdir(self, path: str, *, recursive: bool = False) -> None: ...

    def rm(self, path: str) -> None: ...

    def mv(self, source: str, target: str) -> None:
        """Rename to exactly `target`."""
        ...

    def setrep(self, path: str, copies: int) -> int:
        """The number of files changed."""
        ...

    def accept(self, name: str) -> None: ...

    def restoretree(self, name: str) -> None: ...

    def drain(self, name: str, on: bool = True) -> None: ...


class Transfers(Protocol):
    """Calls that move bytes.  `cancel` stops them: they clean up, then raise Cancelled."""

    def cp(
        self, source: str, target: str, *, progress: OnProgress | None = None, cancel: threading.Event | None = None
    ) -> None: ...

    def put(
        self,
        local: Path,
        path: str,
        *,
        overwrite: bool = True,
        progress: OnProgress | None = None,
        cancel: threading.Event | None = None,
    ) -> Committed: ...

    def put_tree(
        self, local: Path, path: str, *, progress: OnProgress | None = None, cancel: threading.Event | None = None
    ) -> Summary: ...

    def get(
        self,
        path: str,
        local: Path,
        *,
        overwrite: bool = False,
        progress: OnProgress | None = None,
        cancel: threading.Event | None = None,
    ) -> FileInfo: ...

    def get_tree(
        self,
        path: str,
        local: Path,
        *,
        overwrite: bool = False,
        progress: OnProgress | None = None,
        cancel: threading.Event | None = None,
    ) -> Summary: ...


class Files(Looks, Changes, Transfers, Protocol):
    """One user's view of a site."""

    identity: str
    site: str
    address: str

    def close(self) -> None: ...


@runtime_checkable
class Balances(Protocol):
    """What a session can do beside `Files` where its site evens out the fill of its storages."""

    def balance(self) -> None: ...
