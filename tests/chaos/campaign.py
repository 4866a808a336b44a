"""Clients at work on a site of real processes, while these are killed, stopped and brought back at random.

    python -m tests.chaos.campaign --seed 1 --seconds 30

Law: whatever was acknowledged holds afterwards, bytes and names; what was not may have happened or not, as a whole;
tree and disks agree.  A seed gives the same operations and faults; their interleaving is the machine's.
"""

from __future__ import annotations

import argparse
import hashlib
import random
import shutil
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from tests.chaos.model import DIRECTORY, Home, Op, listing

from goggles.client.session import Session
from goggles.errors import (
    ChecksumMismatch,
    GogglesError,
    InternalError,
    NoSpace,
    Stale,
    StorageFailure,
    Unavailable,
    UploadLost,
)
from goggles.roles import Role
from goggles.testing.cluster import Cluster, Process
from goggles.testing.fsck import fsck

STORAGES = ("alice", "bob", "carol", "dave")
CLIENTS = 8
MOST = 2 << 20
SHARED = "/shared"
OPEN_OUTCOME = (Unavailable, UploadLost, Stale, ChecksumMismatch, StorageFailure, NoSpace)
NAMESERVER_POINTS = (
    "nameserver.decide.before_commit",
    "nameserver.decide.after_commit",
    "nameserver.commit.before_orders",
)
STORAGE_POINTS = (
    "storage.write.before_notify",
    "storage.write.after_notify",
    "storage.stage.before_fsync",
    "storage.stage.after_fsync",
    "storage.publish.before_rename",
    "storage.publish.after_rename",
    "storage.remove.before_unlink",
    "storage.quarantine.before_rename",
    "storage.adopt.before_rename",
)


@dataclass(slots=True)
class History:
    """What was done when, and what went against a promise."""

    began: float = field(default_factory=time.monotonic)
    lines: list[str] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)
    acknowledged: int = 0
    unknown: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)

    def note(self, who: str, text: str) -> None:
        line = f"{time.monotonic() - self.began:8.3f}  {who:<10} {text}"
        with self.lock:
            self.lines.append(line)

    def count(self, *, known: bool) -> None:
        with self.lock:
            self.acknowledged += known
            self.unknown += not known

    def broken(self, who: str, text: str) -> None:
        self.note(who, f"BROKEN: {text}")
        with self.lock:
            self.wrong.append(f"{who}: {text}")


@dataclass(frozen=True, slots=True)
class Shared:
    """One operation on shared names, for the order between clients; `known`: it was acknowledged."""

    op: Op
    began: float
    ended: float
    known: bool

    def touches(self, name: str) -> bool:
        return name in (self.op.path, self.op.other)


class Client:
    """One user: its own directories, of which it knows what must be there, and a few names shared with others."""

    def __init__(self, name: str, fs: Session, folder: Path, seed: str, history: History) -> None:
        self.name = name
        self.fs = fs
        self.chance = random.Random(seed)
        self.homes: list[Home] = []
        self.shared: list[Shared] = []
        self._folder = folder
        self._history = history
        self._names = 0
        self._open_home()

    def _open_home(self) -> None:
        self.homes.append(Home(f"/{self.name}-{len(self.homes)}"))
        self._made = False

    @property
    def home(self) -> Home:
        return self.homes[-1]

    def run(self, over: threading.Event) -> None:
        """Do one thing after the other until `over`."""
        while not over.is_set():
            if not self._made:
                self._make_home()
            elif self.chance.random() < 0.25:
                self._on_shared()
            elif self.chance.random() < 0.2:
                self._read_own()
            else:
                self._change(self._choose())

    def _make_home(self) -> None:
        try:
            self.fs.mkdir(self.home.path, parents=True, exist_ok=True)
            self._made = True
        except OPEN_OUTCOME as error:
            self._history.note(self.name, f"mkdir {self.home.path}: {error!r}")

    # --- its own names ---------------------------------------------------------------------

    def _choose(self) -> Op:
        files, directories = self.home.files(), self.home.directories()
        kind = self.chance.choices(("put", "again", "mv", "over", "mvdir", "rm", "mkdir", "rmdir"), K)[0]
        if kind == "again" and files:
            return self._new_file(self.chance.choice(files))
        if kind == "mv" and files:
            return Op("mv", self.chance.choice(files), self._new_name(directories))
        if kind == "over" and len(files) > 1:
            return Op("mv", *self.chance.sample(files, 2))
        if kind == "mvdir" and directories:
            source = self.chance.choice(directories)
            outside = [d for d in directories if d != source and not d.startswith(source + "/")]
            return Op("mv", source, self._new_name(outside))
        if kind == "rm" and files:
            return Op("rm", self.chance.choice(files))
        if kind == "mkdir":
            return Op("mkdir", self._new_name(directories))
        if kind == "rmdir" and directories:
            return Op("rmdir", self.chance.choice(directories))
        return self._new_file(self._new_name(directories))

    def _new_name(self, directories: Sequence[str]) -> str:
        """A name that is not there; names that were there before are used again."""
        taken = self.home.tree
        while True:
            parent = self.chance.choice(["", *directories])
            self._names += 1
            name = f"{parent}/n{self.chance.randrange(12)}".lstrip("/")
            if name not in taken:
                return name
            if self._names % 7 == 0:
                return f"{parent}/m{self._names}".lstrip("/")

    def _new_file(self, path: str) -> Op:
        size = self.chance.choice((0, 1, 100, 4096, 70_000, self.chance.randrange(MOST)))
        data = self.chance.randbytes(size)
        self._local.write_bytes(data)
        return Op("put", path, digest=hashlib.sha256(data).hexdigest())

    @property
    def _local(self) -> Path:
        return self._folder / f"{self.name}.out"

    def _change(self, op: Op) -> None:
        self._history.note(self.name, f"{op} in {self.home.path} ...")
        try:
            self._do(op, f"{self.home.path}/{op.path}", f"{self.home.path}/{op.other}")
        except OPEN_OUTCOME as error:
            self._history.note(self.name, f"{op} in {self.home.path}: unknown: {error!r}")
            self._history.count(known=False)
            self.home.unknown(op)
            self._open_home()
        except GogglesError as error:
            self._history.broken(self.name, f"{op} in {self.home.path} was refused: {type(error).__name__}: {error}")
            self.home.unknown(op)
            self._open_home()
        else:
            self._history.note(self.name, f"{op} in {self.home.path}: done")
            self._history.count(known=True)
            self.home.happened(op)

    def _do(self, op: Op, path: str, other: str) -> None:
        if op.kind == "put":
            self.fs.put(self._local, path)
        elif op.kind == "mv":
            self.fs.mv(path, other)
        elif op.kind == "rm":
            self.fs.rm(path)
        elif op.kind == "mkdir":
            self.fs.mkdir(path)
        else:
            self.fs.rmdir(path, recursive=True)

    def _read_own(self) -> None:
        files = self.home.files()
        if files:
            name = self.chance.choice(files)
            self._read(f"{self.home.path}/{name}", {self.home.tree[name]}, may_be_gone=False)

    def _read(self, path: str, digests: set[str], *, may_be_gone: bool) -> None:
        target = self._folder / f"{self.name}.in"
        try:
            self.fs.get(path, target, overwrite=True)
        except OPEN_OUTCOME as error:
            self._history.note(self.name, f"get {path}: {error!r}")
        except GogglesError as error:
            if not may_be_gone or isinstance(error, InternalError):
                self._history.broken(self.name, f"get {path}: {type(error).__name__}: {error}")
        else:
            found = hashlib.sha256(target.read_bytes()).hexdigest()
            if digests and found not in digests:
                self._history.broken(self.name, f"get {path}: has {found[:12]}, not {[d[:12] for d in digests]}")

    # --- names shared with the others ------------------------------------------------------

    def _on_shared(self) -> None:
        name, other = self.chance.sample(SHARED_NAMES, 2)
        kind = self.chance.choices(("put", "mv", "rm", "get"), (4, 2, 1, 2))[0]
        if kind == "get":
            self._read(name, set(), may_be_gone=True)
            return
        op = self._new_file(name) if kind == "put" else Op(kind, name, other if kind == "mv" else "")
        began = time.monotonic()
        self._history.note(self.name, f"{op} ...")
        known = True
        try:
            self._do(op, op.path, op.other)
        except OPEN_OUTCOME as error:
            known = False
            self._history.note(self.name, f"{op}: unknown: {error!r}")
        except InternalError as error:
            known = False
            self._history.broken(self.name, f"{op}: {error}")
        except GogglesError as error:
            self._history.note(self.name, f"{op}: refused: {error}")
            return
        self._history.note(self.name, f"{op}: {'done' if known else 'unknown'}")
        self.shared.append(Shared(op, began, time.monotonic() if known else float("inf"), known))


K = (10, 6, 5, 2, 3, 4, 4, 1)
SHARED_NAMES = [f"{SHARED}/s{number}" for number in range(6)]


class Faults:
    """Processes die, stand still, and come back."""

    def __init__(self, cluster: Cluster, seed: str, history: History, *, failpoints: bool) -> None:
        self._cluster = cluster
        self._chance = random.Random(seed)
        self._history = history
        self._failpoints = failpoints
        self._due: list[tuple[float, Callable[[], None]]] = []

    def run(self, over: threading.Event) -> None:
        """One fault after the other until `over`."""
        next_fault = time.monotonic() + 1
        while not over.wait(0.05):
            now = time.monotonic()
            for item in [item for item in self._due if item[0] <= now]:
                self._due.remove(item)
                item[1]()
            self._bring_back_the_dead()
            if now >= next_fault:
                self._fault()
                next_fault = now + self._chance.uniform(0.3, 2.5)

    def _processes(self) -> dict[str, Process]:
        assert self._cluster.nameserver is not None
        return {"nameserver": self._cluster.nameserver, **self._cluster.storages}

    def _fault(self) -> None:
        for _ in range(self._chance.choice((1, 1, 1, 2, 3))):
            name = self._chance.choice(("nameserver", *STORAGES))
            process = self._processes()[name]
            if self._chance.random() < 0.6:
                self._history.note("faults", f"kill {name}")
                process.kill()
            else:
                seconds = self._chance.choice((0.1, 0.5, 2, 5))
                self._history.note("faults", f"stop {name} for {seconds} s")
                process.signal(signal.SIGSTOP)
                self._due.append((time.monotonic() + seconds, partial(process.signal, signal.SIGCONT)))

    def _bring_back_the_dead(self) -> None:
        for name, process in self._processes().items():
            if not process.running and not any(getattr(do, "args", None) == (name,) for _, do in self._due):
                self._due.append((time.monotonic() + self._chance.uniform(0, 3), partial(self.start, name)))

    def start(self, name: str, *, armed: bool = True) -> None:
        """Start a process again, at times with a step at which it will kill itself."""
        points = NAMESERVER_POINTS if name == "nameserver" else STORAGE_POINTS
        environment = {}
        if armed and self._failpoints and self._chance.random() < 0.4:
            hit = f"{self._chance.choice(points)}=crash@{self._chance.randint(1, 20)}"
            environment["GOGGLES_FAILPOINTS"] = hit
        self._history.note("faults", f"start {name} {' '.join(environment.values())}")
        if name == "nameserver":
            self._cluster.start_nameserver(environment=environment)
        else:
            self._cluster.start_storage(name, environment=environment)

    def end(self) -> None:
        """Everything runs again, and nothing is armed."""
        for name, process in self._processes().items():
            process.signal(signal.SIGCONT)
            process.kill()
            self.start(name, armed=False)


class Campaign:
    """One run; `wrong` says afterwards what did not hold."""

    def __init__(self, folder: Path, seed: int, seconds: float, *, failpoints: bool = True) -> None:
        self.history = History()
        self._folder = folder
        self._seed = seed
        self._seconds = seconds
        flags = ["--grace", "3", "--heartbeat", "0.5", "--lease", "8"]
        self._cluster = Cluster(folder / "site", STORAGES, nameserver_flags=flags)
        self._faults = Faults(self._cluster, f"{seed} faults", self.history, failpoints=failpoints)

    def run(self) -> list[str]:
        """What did not hold; empty where all did."""
        with self._cluster:
            clients = self._clients()
            with self._cluster.connect() as fs:
                fs.mkdir(SHARED)
            self._work(clients)
            self.history.note("campaign", "over; everything is brought back")
            self._faults.end()
            if self._at_rest():
                self._check(clients)
        roots = {name: self._cluster.root(name) for name in STORAGES}
        for problem in fsck(self._cluster.database, roots):
            self.history.broken("fsck", problem)
        return self.history.wrong

    def _clients(self) -> list[Client]:
        found = []
        for number in range(CLIENTS):
            name = f"c{number}"
            fs = self._cluster.connect(name, Role.ADMIN, timeout=20)
            found.append(Client(name, fs, self._folder, f"{self._seed} {name}", self.history))
        return found

    def _work(self, clients: Sequence[Client]) -> None:
        over, calm = threading.Event(), threading.Event()
        workers = [threading.Thread(target=self._guarded, args=(c.name, c.run, over)) for c in clients]
        faults = threading.Thread(target=self._guarded, args=("faults", self._faults.run, calm))
        for thread in (*workers, faults):
            thread.start()
        over.wait(self._seconds)
        over.set()
        for thread in workers:
            thread.join()
        calm.set()
        faults.join()

    def _guarded(self, name: str, run: Callable[[threading.Event], None], over: threading.Event) -> None:
        try:
            run(over)
        except Exception as error:  # noqa: BLE001 - a thread's end must be seen
            self.history.broken(name, f"ended with {error!r}")

    def _at_rest(self) -> bool:
        try:
            self._cluster.wait_active(STORAGES)
            self._cluster.wait_settled(60)
        except GogglesError as error:
            self.history.broken("campaign", f"not at rest: {error}; {self._cluster.states()}")
            with self._cluster.connect() as fs:
                self.history.note("campaign", repr(fs.du()))
            return False
        return True

    def _check(self, clients: Sequence[Client]) -> None:
        with self._cluster.connect() as fs:
            for client in clients:
                for home in client.homes:
                    wrong = home.differs(fs)
                    if wrong:
                        self.history.broken(client.name, f"{home.path} in the end: {wrong}")
            self._check_shared(fs, [op for client in clients for op in client.shared])
            self._read_all(fs)

    def _check_shared(self, fs: Session, done: list[Shared]) -> None:
        """Where the last operation on a name was alone in its time, the name shows it."""
        found = {f"{SHARED}/{name}": digest for name, digest in listing(fs, SHARED).items()}
        sent = {one.op.digest for one in done}
        for name in SHARED_NAMES:
            if name in found and found[name] not in sent:
                self.history.broken("shared", f"{name} is {found[name][:12]}, which nobody put")
            mine = sorted((one for one in done if one.touches(name)), key=lambda one: one.began)
            if not mine or not mine[-1].known or any(one.ended > mine[-1].began for one in mine[:-1]):
                continue
            last = mine[-1].op
            if last.kind == "put" and found.get(name) != last.digest:
                self.history.broken("shared", f"{name} is {found.get(name)}, and {last} was the last")
            if (last.kind == "rm" or (last.kind == "mv" and last.path == name)) and name in found:
                self.history.broken("shared", f"{name} is there, and {last} was the last")

    def _read_all(self, fs: Session) -> None:
        target = self._folder / "all"
        for path, digest in listing(fs, "/").items():
            if digest == DIRECTORY:
                continue
            try:
                fs.get(f"/{path}", target, overwrite=True)
            except GogglesError as error:
                self.history.broken("campaign", f"get /{path} in the end: {error}")
            else:
                if hashlib.sha256(target.read_bytes()).hexdigest() != digest:
                    self.history.broken("campaign", f"/{path} has other bytes than its hash says")


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="campaign")
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(1 << 31))
    parser.add_argument("--seconds", type=float, default=30.0)
    parser.add_argument("--no-failpoints", action="store_true")
    parser.add_argument("--keep", action="store_true", help="keep the folder where all held, too")
    options = parser.parse_args(argv)
    folder = Path(tempfile.mkdtemp(prefix=f"campaign-{options.seed}-"))
    campaign = Campaign(folder, options.seed, options.seconds, failpoints=not options.no_failpoints)
    wrong = campaign.run()
    history = campaign.history
    (folder / "history.txt").write_text("\n".join(history.lines) + "\n", "utf-8")
    total = f"{history.acknowledged} acknowledged, {history.unknown} of unknown outcome"
    if wrong:
        print("\n".join(history.lines[-200:]))
        print(f"\nseed {options.seed}: DID NOT HOLD ({total}); all of it in {folder}")
        print("\n".join(wrong))
        return 1
    if not options.keep:
        shutil.rmtree(folder)
    print(f"seed {options.seed}: all of it held ({total})")
    return 0


if __name__ == "__main__":
    sys.exit(main())
