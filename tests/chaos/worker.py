"""One client of a campaign, as a process of its own: works until SIGTERM, and writes down what it does.

    python -m tests.chaos.worker '{"name": "c0", ...}'

It has directories of its own, of which it knows what must be there, and a few names that it shares with the others.
After an operation of unknown outcome it goes on in a new directory.
"""

from __future__ import annotations

import hashlib
import json
import random
import shutil
import signal
import sys
import threading
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from tests.chaos.history import ABSENT, BROKEN, DONE, REFUSED, SHARED, UNKNOWN, Log
from tests.chaos.model import DIRECTORY, Home, Op

from goggles.client.session import Session, connect
from goggles.errors import (
    ChecksumMismatch,
    GogglesError,
    InternalError,
    NoSpace,
    NotFound,
    Stale,
    StorageFailure,
    Unavailable,
    UploadLost,
)

OPEN_OUTCOME = (Unavailable, UploadLost, Stale, ChecksumMismatch, StorageFailure, NoSpace)
MOST = 1 << 20
SMALL = (0, 10, 1_000, 20_000, 200_000)
SHARED_NAMES = [f"s{number}" for number in range(6)]
PATIENCE = 15.0


@dataclass(frozen=True, slots=True)
class Orders:
    """What a client is told on its command line."""

    name: str
    life: int  # how often it was started before
    seed: str
    folder: str
    host: str
    port: int
    ca_cert: str
    certfile: str
    keyfile: str
    copies: tuple[int, ...]  # what it may set

    def text(self) -> str:
        return json.dumps(asdict(self))

    @property
    def log(self) -> Path:
        return Path(self.folder) / f"{self.name}.{self.life}.log"

    def session(self) -> Session:
        files = {"ca_cert": self.ca_cert, "certfile": self.certfile, "keyfile": self.keyfile}
        while True:
            try:
                return connect(self.host, self.port, timeout=PATIENCE, **files)
            except Unavailable:
                continue


class Worker:
    """See the head of this module."""

    def __init__(self, orders: Orders) -> None:
        self._orders = orders
        self._chance = random.Random(f"{orders.seed} {orders.life}")
        self._fs = orders.session()
        self._log = Log(orders.log)
        self._folder = Path(orders.folder) / orders.name
        self._folder.mkdir(exist_ok=True)
        self._local = self._folder / "out"
        self._sources: dict[str, tuple[str, int]] = {}  # of each digest: what its bytes are made from
        self._names = 0
        self._homes = 0
        self._open_home()

    def _open_home(self) -> None:
        self.home = Home(f"/{self._orders.name}-{self._orders.life}-{self._homes}")
        self._homes += 1
        self._made = False

    def run(self, over: threading.Event) -> None:
        actions, weights = [one for one, _ in ACTIONS], [weight for _, weight in ACTIONS]
        while not over.is_set():
            if not self._made:
                self._make_home()
            else:
                self._chance.choices(actions, weights)[0](self)

    def _make_home(self) -> None:
        self._log.begin("home", self.home.path, "")
        self._made = self._outcome(lambda: self._fs.mkdir(self.home.path, exist_ok=True)) == DONE

    def _outcome(self, action: Callable[[], dict[str, object] | None], refusals: str = BROKEN) -> str:
        """Do it, and write down what came of it; an answer of `action` is written down with it."""
        try:
            self._log.end(DONE, **(action() or {}))
            return DONE
        except OPEN_OUTCOME as error:
            outcome, text = UNKNOWN, repr(error)
        except InternalError as error:
            outcome, text = BROKEN, repr(error)
        except NotFound as error:
            outcome, text = ABSENT if refusals == REFUSED else BROKEN, repr(error)
        except GogglesError as error:
            outcome, text = refusals, repr(error)
        self._log.end(outcome, text=text)
        return outcome

    # --- what it writes --------------------------------------------------------------------

    def _content(self, size: int) -> tuple[str, bytes]:
        """(digest, bytes) of a new file."""
        key = f"{self._chance.random()}"
        data = random.Random(key).randbytes(size)
        digest = hashlib.sha256(data).hexdigest()
        self._sources[digest] = (key, size)
        return digest, data

    def _file(self, size: int) -> str:
        digest, data = self._content(size)
        self._local.write_bytes(data)
        return digest

    def _size(self) -> int:
        return self._chance.choice((0, 1, 100, 4096, 70_000, self._chance.randrange(MOST)))

    def _change(self, kind: str, path: str, other: str = "", digest: str = "") -> None:
        op = Op(kind, path, other, digest)
        self._log.begin(kind, self.home.path, path, other=other, digest=digest)
        if self._outcome(lambda: self._do(op, self.home.path)) == DONE:
            self.home.happened(op)
        else:
            self._open_home()

    def _do(self, op: Op, home: str) -> None:
        path, other = f"{home}/{op.path}", f"{home}/{op.other}"
        if op.kind == "put":
            self._fs.put(self._local, path)
        elif op.kind == "mv":
            self._fs.mv(path, other)
        elif op.kind == "rm":
            self._fs.rm(path)
        elif op.kind == "mkdir":
            self._fs.mkdir(path)
        else:
            self._fs.rmdir(path, recursive=True)

    def _new_name(self, directories: Sequence[str]) -> str:
        """A name that is not there; names that were there before are used again."""
        while True:
            parent = self._chance.choice(["", *directories])
            self._names += 1
            name = f"{parent}/n{self._chance.randrange(12)}".lstrip("/")
            if name not in self.home.tree:
                return name
            if self._names % 7 == 0:
                return f"{parent}/m{self._names}".lstrip("/")

    def put(self) -> None:
        self._change("put", self._new_name(self.home.directories()), digest=self._file(self._size()))

    def overwrite(self) -> None:
        if files := self.home.files():
            self._change("put", self._chance.choice(files), digest=self._file(self._size()))

    def rename(self) -> None:
        if files := self.home.files():
            self._change("mv", self._chance.choice(files), self._new_name(self.home.directories()))

    def rename_over(self) -> None:
        if len(files := self.home.files()) > 1:
            self._change("mv", *self._chance.sample(files, 2))

    def rename_directory(self) -> None:
        if directories := self.home.directories():
            source = self._chance.choice(directories)
            outside = [d for d in directories if d != source and not d.startswith(source + "/")]
            self._change("mv", source, self._new_name(outside))

    def remove(self) -> None:
        if files := self.home.files():
            self._change("rm", self._chance.choice(files))

    def mkdir(self) -> None:
        self._change("mkdir", self._new_name(self.home.directories()))

    def rmdir(self) -> None:
        if directories := self.home.directories():
            self._change("rmdir", self._chance.choice(directories))

    def setrep(self) -> None:
        if files := self.home.files():
            path, copies = self._chance.choice(files), self._chance.choice(self._orders.copies)
            self._log.begin("setrep", self.home.path, path, other=str(copies))
            self._outcome(lambda: self._fs.setrep(f"{self.home.path}/{path}", copies) and None)

    def put_tree(self) -> None:
        """Small files, which travel together, into a new directory or one that is there."""
        directories = self.home.directories()
        path = self._chance.choice([*directories, self._new_name(directories)])
        local = self._folder / "tree"
        shutil.rmtree(local, ignore_errors=True)
        local.mkdir()
        files = {}
        for number in self._chance.sample(range(60), self._chance.randint(2, 30)):
            digest, data = self._content(self._chance.choice(SMALL))
            (local / f"t{number}").write_bytes(data)
            files[f"{path}/t{number}"] = digest
        self._log.begin("tree", self.home.path, path, files=files)
        failed: list[str] = []

        def action() -> dict[str, object]:
            summary = self._fs.put_tree(local, f"{self.home.path}/{path}")
            failed.extend(name[len(self.home.path) + 1 :] for name, _ in summary.failed)
            return {"failed": failed, "text": "; ".join(text for _, text in summary.failed[:2])}

        if self._outcome(action) != DONE or failed:
            self._open_home()
        else:
            self.home.together(path, files, ())

    # --- what it reads ---------------------------------------------------------------------

    def get(self) -> None:
        if files := self.home.files():
            path = self._chance.choice(files)
            self._look("get", path, self.home.tree[path], lambda: self._got(f"{self.home.path}/{path}"))

    def _look(self, kind: str, path: str, digest: str, action: Callable[[], str]) -> None:
        """Read, and say so where it is not what it must be."""
        self._log.begin(kind, self.home.path, path, digest=digest)
        try:
            found = action()
        except OPEN_OUTCOME as error:
            self._log.end(UNKNOWN, text=repr(error))
        except GogglesError as error:
            self._log.end(BROKEN, text=repr(error))
        else:
            self._log.end(DONE if found == digest else BROKEN, found=found)

    def _got(self, path: str) -> str:
        target = self._folder / "in"
        self._fs.get(path, target, overwrite=True)
        return hashlib.sha256(target.read_bytes()).hexdigest()

    def read_range(self) -> None:
        if files := self.home.files():
            path = self._chance.choice(files)
            digest = self.home.tree[path]
            key, size = self._sources[digest]
            start, length = self._chance.randint(0, size), self._chance.randint(0, size + 1)

            def action() -> str:
                found = b"".join(self._fs.read(f"{self.home.path}/{path}", start, length))
                wanted = random.Random(key).randbytes(size)[start : start + length]
                return digest if found == wanted else f"other bytes from {start} on, {length} of them"

            self._look("range", path, digest, action)

    def get_tree(self) -> None:
        directories = self.home.directories()
        path = self._chance.choice(["", *directories])
        below = f"{path}/" if path else ""
        wanted = {p: d for p, d in self.home.tree.items() if d != DIRECTORY and p.startswith(below)}
        local = self._folder / "back"
        shutil.rmtree(local, ignore_errors=True)

        def action() -> str:
            summary = self._fs.get_tree(f"{self.home.path}/{path}".rstrip("/"), local)
            failed = {name[len(self.home.path) + 1 :] for name, _ in summary.failed}
            wrong = [p for p in wanted if p not in failed and _digest(local / p[len(below) :]) != wanted[p]]
            return f"wrong: {wrong}" if wrong else ""

        self._look("get_tree", path, "", action)

    # --- names shared with the others ------------------------------------------------------

    def on_shared(self) -> None:
        name, other = self._chance.sample(SHARED_NAMES, 2)
        kind = self._chance.choices(("put", "mv", "rm", "get"), (4, 2, 1, 4))[0]
        op = Op(kind, name, other if kind == "mv" else "", self._file(16 + self._size()) if kind == "put" else "")
        self._log.begin(kind, SHARED, op.path, other=op.other, digest=op.digest)
        if kind == "get":
            self._outcome(lambda: {"found": self._got(f"{SHARED}/{name}")}, REFUSED)
        else:
            self._outcome(lambda: self._do(op, SHARED), REFUSED)


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest() if path.exists() else "nothing"


ACTIONS: list[tuple[Callable[[Worker], None], int]] = [
    (Worker.put, 8),
    (Worker.overwrite, 5),
    (Worker.rename, 4),
    (Worker.rename_over, 2),
    (Worker.rename_directory, 3),
    (Worker.remove, 4),
    (Worker.mkdir, 4),
    (Worker.rmdir, 1),
    (Worker.setrep, 2),
    (Worker.put_tree, 3),
    (Worker.get, 4),
    (Worker.read_range, 3),
    (Worker.get_tree, 1),
    (Worker.on_shared, 14),
]


def main() -> int:
    orders = Orders(**json.loads(sys.argv[1]))
    over = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: over.set())
    Worker(orders).run(over)
    return 0


if __name__ == "__main__":
    sys.exit(main())
