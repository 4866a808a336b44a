"""The Python API: one user's view of a site.

    fs = goggles.connect("nameserver", 8000, ca_cert=..., certfile=..., keyfile=...)
    fs.put(Path("report.pdf"), "/reports/report.pdf")
    for entry in fs.ls("/reports"): ...

Law: paths are absolute and checked before anything is sent; all errors are of goggles.errors; a call returns when
what it promises is durable.  A Session may be used by several threads.
"""

from __future__ import annotations

import fnmatch
import io
import secrets
import tempfile
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, BinaryIO

from goggles.client.administering import Administering
from goggles.client.api import OnProgress, Summary
from goggles.client.calls import Calls
from goggles.client.getting import Getting, open_read
from goggles.client.gettree import GetTree
from goggles.client.listings import need_entries_of
from goggles.client.putting import Putting
from goggles.client.puttree import PutTree
from goggles.client.ranges import RangeReader, Reading
from goggles.client.retrying import Meter
from goggles.client.sending import Source
from goggles.client.targets import Target, may_write
from goggles.contracts.data import Committed, ReadTicket
from goggles.contracts.packed import Packed, entries_of, unpack
from goggles.contracts.records import DirInfo, Entry, FileInfo, SiteInfo, StorageInfo
from goggles.errors import (
    AlreadyExists,
    BadRequest,
    GogglesError,
    IsADirectory,
    NotFound,
    ProtocolError,
)
from goggles.paths import DfsPath, join, parse
from goggles.pki.context import Contexts, PkiFiles
from goggles.wire.dial import Address, Dialer
from goggles.wire.links import Links

PAGE = 1_000
WHOLE = 1 << 62


def connect(
    host: str,
    port: int = 8000,
    *,
    ca_cert: str | Path,
    certfile: str | Path,
    keyfile: str | Path,
    timeout: float = 30.0,
) -> Session:
    """Connect to the nameserver at `host`:`port` with the certificate of a client or administrator.

    `timeout`: seconds for which a lost connection is tried again before a call gives up."""
    contexts = Contexts(PkiFiles(Path(ca_cert), Path(certfile), Path(keyfile)))
    session = Session(Dialer(contexts), Address(host, port), timeout)
    session.check()
    return session


class Session(Administering):
    """See the head of this module; `goggles.client.api.Files` is the same as a protocol."""

    def __init__(self, dialer: Dialer, address: Address, timeout: float = 30.0, calls: Calls | None = None) -> None:
        self._calls = calls or Calls(dialer, address, timeout)
        self._links = Links(dialer, most=16)
        self.identity = str(dialer.contexts.identity)
        self.address = str(address)
        self.site = ""

    def __repr__(self) -> str:
        return f"<Session {self.identity} at {self.address}{'' if self.connected else ' (down)'}>"

    def __enter__(self) -> Session:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    @property
    def connected(self) -> bool:
        return self._calls.connected

    def on_wait(self, told: Callable[[], None]) -> None:
        """Have `told` called when a call has to wait for the nameserver, once for each call."""
        self._calls.on_wait = told

    def check(self) -> None:
        """Ask the nameserver who it is; raises what is wrong with the connection."""
        self.site = dict(self._calls("hello"))["site"]

    def close(self) -> None:
        self._calls.close()
        self._links.close()

    # --- looking ---------------------------------------------------------------------------

    def ls(self, path: str) -> list[Entry]:
        """The entries of a directory in byte order of their names; a file lists itself."""
        entries: list[Entry] = []
        for page in self._pages(path):
            entries += page
        return entries

    def scan(self, path: str, after: str = "", limit: int = PAGE) -> list[Entry]:
        """A page of `ls`: up to `limit` entries whose names come after `after`."""
        where = parse(path)
        return _entries(where, after, Packed(self._calls("scan", where, after, limit, True)))

    def _pages(self, path: str) -> Iterator[list[Entry]]:
        """All pages; while one is read here, the nameserver looks for the next."""
        where, after = parse(path), ""

        def read(data: bytes) -> tuple[Packed, tuple[object, ...] | None]:
            page = Packed(data)
            return page, (where, _name(page.last), PAGE, True) if page.count >= PAGE else None

        for page in self._calls.following("scan", (where, after, PAGE, True), read):
            yield _entries(where, after, page)
            after = _name(page.last) if page.count else after

    def stat(self, path: str) -> Entry:
        return _only(self.stat_many([path]))

    def stat_many(self, paths: Sequence[str]) -> list[Entry | GogglesError]:
        """`stat` for each path, in few calls; what can not be looked up is an error in its place."""
        answers: list[Entry | GogglesError] = []
        for start in range(0, len(paths), PAGE):
            answers += unpack(self._calls("stat_many", tuple(map(parse, paths[start : start + PAGE])), True))
        return answers

    def exists(self, path: str) -> bool:
        return bool(self._calls("isdir", parse(path)) or self._calls("isfile", parse(path)))

    def isdir(self, path: str) -> bool:
        return bool(self._calls("isdir", parse(path)))

    def isfile(self, path: str) -> bool:
        return bool(self._calls("isfile", parse(path)))

    def listdir(self, path: str) -> list[str]:
        return list(self._calls("listdir", parse(path)))

    def locations(self, path: str) -> list[str]:
        """The names of the storages that hold the file, readable ones first."""
        return [dict(item)["name"] for item in self._calls("locations", parse(path))]

    def du(self) -> tuple[SiteInfo, list[StorageInfo]]:
        site, storages = self._calls("site_info")
        return SiteInfo.from_wire(site), [StorageInfo.from_wire(item) for item in storages]

    def find(self, path: str, pattern: str | None = None, type: str | None = None) -> Iterator[Entry]:  # noqa: A002 - a record's own word
        """Everything below a directory, depth first; of `type` FILE or DIRECTORY, with names that fit `pattern`."""
        for entry in self._walk(parse(path)):
            name = entry.path.rpartition("/")[2]
            if (type is None or entry.type == type) and (pattern is None or fnmatch.fnmatchcase(name, pattern)):
                yield entry

    def _walk(self, path: DfsPath) -> Iterator[Entry]:
        walk = [self._each(path)]
        while walk:
            try:
                entry = next(walk[-1], None)
            except NotFound:
                if len(walk) == 1:
                    raise
                entry = None  # removed while we walked
            if entry is None:
                walk.pop()
                continue
            yield entry
            if isinstance(entry, DirInfo):
                walk.append(self._each(DfsPath(entry.path)))

    def _each(self, path: DfsPath) -> Iterator[Entry]:
        for page in self._pages(path):
            yield from page

    def tree_size(self, path: str) -> tuple[int, int, int]:
        """(files, directories, bytes) below a directory."""
        files = directories = size = 0
        for entry in self._walk(parse(path)):
            if isinstance(entry, FileInfo):
                files, size = files + 1, size + entry.size
            else:
                directories += 1
        return files, directories, size

    # --- changing --------------------------------------------------------------------------

    def mkdir(self, path: str, *, parents: bool = False, exist_ok: bool = False) -> None:
        self._calls("mkdir", parse(path), parents, exist_ok, secrets.token_hex(16))

    def rmdir(self, path: str, *, recursive: bool = False) -> None:
        self._calls("rmdir", parse(path), recursive, secrets.token_hex(16))

    def rm(self, path: str) -> None:
        self._calls("rm", parse(path), secrets.token_hex(16))

    def mv(self, source: str, target: str) -> None:
        """Rename to exactly `target`; a file replaces a file."""
        self._calls("mv", parse(source), parse(target), secrets.token_hex(16))

    def setrep(self, path: str, copies: int) -> int:
        """Set the number of copies; the number of files changed."""
        return int(self._calls("setrep", parse(path), copies))

    # --- bytes in --------------------------------------------------------------------------

    def put(
        self,
        local: Path,
        path: str,
        *,
        overwrite: bool = True,
        resume: bool = True,
        progress: OnProgress | None = None,
        cancel: threading.Event | None = None,
    ) -> Committed:
        """Write a local file to `path`; returns when its copies are durable and visible.

        `resume`: what has come of a large file before an interruption is kept; the next put of it goes on."""
        wanted = parse(path)
        if not overwrite and self.exists(wanted):
            raise AlreadyExists(f"{wanted} exists already")
        with Source(Path(local)) as source:
            meter = Meter(progress, wanted, source.size)
            return Putting(self._calls, self._links, source, wanted, meter, cancel, resume).put()

    def put_tree(
        self,
        local: Path,
        path: str,
        *,
        resume: bool = True,
        progress: OnProgress | None = None,
        cancel: threading.Event | None = None,
    ) -> Summary:
        """Write a local directory with all that is in it to the directory `path`.  `resume`: as with `put`."""
        return PutTree(self, self._calls, self._links, progress, cancel).run(Path(local), parse(path), resume)

    def write(self, path: str, data: bytes) -> Committed:
        """Write `data` to `path`."""
        if not isinstance(data, bytes | bytearray | memoryview):
            raise BadRequest(f"write takes bytes, not {type(data).__name__}", "encode text first: text.encode()")
        with tempfile.NamedTemporaryFile(prefix="goggles-") as file:
            file.write(data)
            file.flush()
            return self.put(Path(file.name), path)

    def cp(
        self,
        source: str,
        target: str,
        *,
        progress: OnProgress | None = None,
        cancel: threading.Event | None = None,
    ) -> None:
        """Copy a file within the tree (through this host)."""
        with tempfile.TemporaryDirectory(prefix="goggles-") as folder:
            between = Path(folder) / "copy"
            self.get(source, between, resume=False, progress=progress, cancel=cancel)
            self.put(between, target, resume=False, progress=progress, cancel=cancel)

    # --- bytes out -------------------------------------------------------------------------

    def get(
        self,
        path: str,
        local: Path,
        *,
        overwrite: bool = False,
        resume: bool = True,
        progress: OnProgress | None = None,
        cancel: threading.Event | None = None,
    ) -> FileInfo:
        """Read `path` to a local file, every byte verified; the file appears when it is whole.

        `resume`: what comes of a large file before an interruption stays beside it; the next get goes on."""
        local = Path(local)
        may_write(local, overwrite)
        wanted = parse(path)
        found, opened = self._calls.several(("stat_many", ((wanted,), True)), ("open_read", (wanted,)))
        if isinstance(found, Exception):
            raise found
        info = _only(unpack(found))
        if not isinstance(info, FileInfo):
            raise IsADirectory(f"{path} is a directory", "get -r takes whole directories")
        target, meter = Target(local, resume, alone=True), Meter(progress, info.path, info.size)
        # A ticket that there is none of now is asked for again, with patience.
        ticket = None if isinstance(opened, Exception) else ReadTicket.from_wire(opened)
        Getting(self._calls, self._links, self.complain).get(wanted, target, meter, cancel, ticket)
        return info

    def complain(self, ticket: ReadTicket, storage: str) -> None:
        """Report a storage that sent wrong bytes, or none; it will be made to look."""
        try:
            self._calls("report_bad", ticket.path, ticket.version, storage)
        except GogglesError:
            return  # a later reader will notice too

    def get_tree(
        self,
        path: str,
        local: Path,
        *,
        overwrite: bool = False,
        resume: bool = True,
        progress: OnProgress | None = None,
        cancel: threading.Event | None = None,
    ) -> Summary:
        """Read a directory with all that is in it to the local directory `local`.

        `resume`: files that are there with the same bytes are left as they are."""
        tree = GetTree(self, self._calls, self._links, progress, cancel)
        return tree.run(parse(path), Path(local), overwrite, resume)

    def read(self, path: str, offset: int = 0, length: int | None = None) -> Iterator[bytes]:
        """The bytes of a file, or of a range of it, in chunks of up to 1 MiB; whole files are verified."""
        if offset < 0 or (length is not None and length < 0):
            raise BadRequest(f"{length} bytes at {offset} are no range", "both count from 0")
        return self._reading(path).chunks(offset, WHOLE if length is None else length)

    def open(self, path: str) -> BinaryIO:
        """A file object for reading, with seek; each read asks for its range."""
        return io.BufferedReader(RangeReader(self._reading(path)), buffer_size=1 << 20)

    def _reading(self, path: str) -> Reading:
        def ask() -> ReadTicket:
            return open_read(self._calls, parse(path))

        return Reading(self._links, ask, self.complain, self._calls.patience)

    def mkdirs(self, paths: list[DfsPath]) -> list[Any]:
        """Make many directories; for each True or (code, message, hint)."""
        answers: list[Any] = []
        for start in range(0, len(paths), PAGE):
            answers += self._calls("mkdir_many", tuple(paths[start : start + PAGE]))
        return answers

    def child(self, directory: DfsPath, name: str) -> DfsPath:
        return join(directory, name)


def _only(found: list[Entry | GogglesError]) -> Entry:
    """What the nameserver says of one path."""
    if len(found) != 1:
        raise ProtocolError(f"the nameserver tells of {len(found)} files, it was asked for one")
    return entries_of(found)[0]


def _name(path: str) -> str:
    return path.rpartition("/")[2]


def _entries(directory: DfsPath, after: str, page: Packed) -> list[Entry]:
    """What is on a page that was asked for with `after`."""
    entries = entries_of(page.records())
    need_entries_of(directory, after, entries)
    return entries
