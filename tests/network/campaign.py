"""Sites that push files to each other, while their processes are killed, stopped and cut off at random.

    python -m tests.network.campaign --seed 1 --seconds 30

Law: what was acknowledged at a site is there afterwards, and at every site that it is pushed to, byte by byte; nothing
is there that nobody wrote; no transfer is left under way, and nothing is left behind on a disk.  A seed gives the same
files and faults; their interleaving is the machine's.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import json
import random
import shutil
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path

from sqlalchemy import select
from tests.chaos.worker import OPEN_OUTCOME
from tests.network.history import History
from tests.network.tunnel import Tunnel

from goggles.client.session import Session
from goggles.contracts.peering import State
from goggles.contracts.records import FileInfo
from goggles.errors import GogglesError
from goggles.librarian.states import LIVE
from goggles.meta import peering
from goggles.meta.database import Database
from goggles.testing.cluster import Cluster, Process, wait_until
from goggles.testing.fsck import fsck
from goggles.testing.network import PASSWORD, Network

CHAIN = {"source": ("s1", "s2"), "central": ("c1", "c2"), "a": ("a1",), "b": ("b1",)}
MOST = 3 << 20
SETTLE = 240.0  # seconds that the network may take to come to rest
SHORT_AGE = 5 / 86_400  # days
FLAGS = ("--grace", "3", "--heartbeat", "0.5", "--lease", "8", "--offer_again", "2")
NAMESERVER_POINTS = (
    "librarian.offer.before_call",
    "librarian.offer.after_call",
    "librarian.consume.before_commit",
    "librarian.arrived.before_call",
    "librarian.ingested.before_commit",
    "librarian.tell.before_call",
    "nameserver.decide.before_commit",
    "nameserver.decide.after_commit",
)
STORAGE_POINTS = (
    "storage.ingest.before_fsync",
    "storage.ingest.after_rename",
    "storage.publish.before_rename",
    "storage.publish.after_rename",
    "storage.remove.before_unlink",
)


def links_of(chance: random.Random) -> list[tuple[str, str]]:
    """(from, to) of each push: the chain of three or four sites, in one direction or in both."""
    made = [("source", "central"), ("central", "a"), *([("central", "b")] if chance.random() < 0.5 else [])]
    return made + ([(there, here) for here, there in made] if chance.random() < 0.5 else [])


def way_of(links: Sequence[tuple[str, str]], start: str) -> list[str]:
    """The sites that a file comes to which is written at `start`, this first."""
    found = [start]
    for site in found:
        found += [there for here, there in links if here == site and there not in found]
    return found


def schedule(peers: Sequence[str]) -> dict[str, list[dict[str, object]]]:
    """All that runs by itself at a site which pushes to `peers`."""

    def task(name: str, every: int = 1, **values: object) -> dict[str, object]:
        return {"task_name": name, "every": f"00:00:{every:02}", **values}

    sends = [task(f"to {peer}", destination_librarian=peer, send_batch_size=16) for peer in peers]
    return {
        **({"send_clone": sends} if sends else {}),
        "consume_queue": [task("consume")],
        "check_consumed_queue": [task("check")],
        "receive_clone": [task("receive")],
        "outgoing_transfer_hypervisor": [task("outgoing", 3, age_in_days=SHORT_AGE)],
        "incoming_transfer_hypervisor": [task("incoming", 3, age_in_days=SHORT_AGE)],
    }


class Writer:
    """Writes files at one site, and removes a few."""

    def __init__(self, site: str, fs: Session, folder: Path, seed: str, history: History) -> None:
        self.site = site
        self.tried: dict[str, str] = {}  # digests by path, of all that was ever begun
        self.kept: set[str] = set()  # acknowledged, and not removed
        self._fs = fs
        self._chance = random.Random(seed)
        self._local = folder / f"{site}.out"
        self._history = history

    def run(self, over: threading.Event) -> None:
        while not over.wait(self._chance.uniform(0, 0.3)):
            if self.kept and self._chance.random() < 0.1:
                self._remove(self._chance.choice(sorted(self.kept)))
            else:
                self._write(f"/{self.site}/{self._chance.randrange(5)}/{len(self.tried)}")

    def _write(self, path: str) -> None:
        data = self._chance.randbytes(self._chance.choice((0, 1, 5_000, 70_000, self._chance.randrange(MOST))))
        self.tried[path] = hashlib.sha256(data).hexdigest()
        self._local.write_bytes(data)
        if self._does(f"write {path}, {len(data)} bytes", partial(self._put, path)):
            self.kept.add(path)

    def _put(self, path: str) -> None:
        self._fs.mkdir(path.rpartition("/")[0], parents=True, exist_ok=True)
        self._fs.put(self._local, path)

    def _remove(self, path: str) -> None:
        self.kept.discard(path)
        self._does(f"rm {path}", partial(self._fs.rm, path))

    def _does(self, what: str, action: Callable[[], object]) -> bool:
        self._history.note(self.site, f"{what} ...")
        known = False
        try:
            action()
            known = True
        except OPEN_OUTCOME as error:
            self._history.note(self.site, f"{what}: unknown: {error!r}")
        except GogglesError as error:
            self._history.broken(self.site, f"{what} was refused: {type(error).__name__}: {error}")
        self._history.count(known=known)
        return known


class Faults:
    """Processes die, stand still and come back; lines between librarians are cut."""

    def __init__(self, network: Network, tunnels: Sequence[Tunnel], seed: str, history: History) -> None:
        self._network = network
        self._tunnels = tunnels
        self._chance = random.Random(seed)
        self._history = history
        self._due: list[tuple[float, str, Callable[[], None]]] = []

    def run(self, over: threading.Event) -> None:
        next_fault = time.monotonic() + 1
        while not over.wait(0.05):
            now = time.monotonic()
            for item in [item for item in self._due if item[0] <= now]:
                self._due.remove(item)
                item[2]()
            self._bring_back_the_dead()
            if now >= next_fault:
                self._fault()
                next_fault = now + self._chance.uniform(0.2, 1.2)

    def _processes(self) -> Iterator[tuple[str, Cluster, Process]]:
        for site in self._network.sites.values():
            assert site.nameserver is not None
            yield "nameserver", site, site.nameserver
            for name in site.names:
                yield name, site, site.storages[name]

    def _fault(self) -> None:
        there = list(self._processes())
        for name, site, process in self._chance.sample(there, self._chance.choice((1, 1, 1, 2, 3))):
            if self._chance.random() < 0.6:
                self._history.note("faults", f"kill {name} of {site.site}")
                process.kill()
            else:
                seconds = self._chance.choice((0.1, 0.5, 2, 5))
                self._history.note("faults", f"stop {name} of {site.site} for {seconds} s")
                process.signal(signal.SIGSTOP)
                self._later(seconds, "", partial(process.signal, signal.SIGCONT))
        if self._chance.random() < 0.3:
            self._cut(self._chance.choice(self._tunnels), self._chance.choice((0, 0, 1, 4)))

    def _cut(self, tunnel: Tunnel, seconds: float) -> None:
        self._history.note("faults", f"cut the line by port {tunnel.port} for {seconds} s")
        tunnel.closed.set()
        tunnel.cut()
        self._later(seconds, "", tunnel.closed.clear)

    def _later(self, seconds: float, name: str, action: Callable[[], None]) -> None:
        self._due.append((time.monotonic() + seconds, name, action))

    def _bring_back_the_dead(self) -> None:
        for name, site, process in self._processes():
            key = f"{site.site} {name}"
            if not process.running and not any(key == waits for _, waits, _ in self._due):
                self._later(self._chance.uniform(0, 3), key, partial(self._start, name, site))

    def _start(self, name: str, site: Cluster, *, armed: bool = True) -> None:
        """Start a process again, at times with a step at which it will kill itself."""
        points = NAMESERVER_POINTS if name == "nameserver" else STORAGE_POINTS
        environment = {}
        if armed and self._chance.random() < 0.4:
            hit = f"{self._chance.choice(points)}=crash@{self._chance.randint(1, 10)}"
            environment["GOGGLES_FAILPOINTS"] = hit
        self._history.note("faults", f"start {name} of {site.site} {' '.join(environment.values())}")
        if name == "nameserver":
            site.start_nameserver(environment=environment)
        else:
            site.start_storage(name, environment=environment)

    def end(self) -> None:
        """Everything runs again, and nothing is armed or cut."""
        for tunnel in self._tunnels:
            tunnel.closed.clear()
        for name, site, process in list(self._processes()):
            process.signal(signal.SIGCONT)
            process.kill()
            self._start(name, site, armed=False)


class Campaign:
    """One run; `wrong` says afterwards what did not hold."""

    def __init__(self, folder: Path, seed: int, seconds: float) -> None:
        self.history = History()
        self._folder = folder
        self._seed = seed
        self._seconds = seconds
        self.links = links_of(random.Random(f"{seed} links"))
        self.sites = way_of(self.links, "source")
        self._network = Network(folder, {name: CHAIN[name] for name in self.sites}, FLAGS)
        for name, site in self._network.sites.items():
            file = folder / f"{name}.json"
            file.write_text(json.dumps(schedule([there for here, there in self.links if here == name])))
            site._nameserver_flags += ["--background", str(file)]

    def run(self) -> list[str]:
        """What did not hold; empty where all did."""
        with contextlib.ExitStack() as stack:
            network = stack.enter_context(self._network)
            tunnels = [stack.enter_context(Tunnel(network[there].port)) for _, there in self._lines()]
            for (here, there), tunnel in zip(self._lines(), tunnels, strict=True):
                self._introduce(here, there, tunnel.port)
            writers = [self._writer(name) for name in self.sites]
            faults = Faults(network, tunnels, f"{self._seed} faults", self.history)
            self._work(writers, faults)
            self.history.note("campaign", "over; everything is brought back")
            faults.end()
            self._come_to_rest(writers)
        for name, site in self._network.sites.items():
            self._check_disks(name, site)
        return self.history.wrong

    def _lines(self) -> list[tuple[str, str]]:
        """Who speaks to whom: whoever pushes, and whoever has to tell how that ended."""
        return sorted({*self.links, *((there, here) for here, there in self.links)})

    def _introduce(self, here: str, there: str, port: int) -> None:
        """Let `here` know `there`, by a line that can be cut."""
        self._network.admin(there, "create_user", here, PASSWORD.format(here, there), "READAPPEND")
        self._network.admin(here, "add_librarian", there, "localhost", port, f"{here}:{PASSWORD.format(here, there)}")

    def _writer(self, name: str) -> Writer:
        fs = self._network[name].connect(timeout=20)
        return Writer(name, fs, self._folder, f"{self._seed} {name}", self.history)

    def _work(self, writers: Sequence[Writer], faults: Faults) -> None:
        over, calm = threading.Event(), threading.Event()
        hands = [threading.Thread(target=self._guarded, args=(one.site, one.run, over)) for one in writers]
        trouble = threading.Thread(target=self._guarded, args=("faults", faults.run, calm))
        for thread in (*hands, trouble):
            thread.start()
        over.wait(self._seconds)
        over.set()
        for thread in hands:
            thread.join()
        calm.set()
        trouble.join()

    def _guarded(self, name: str, run: Callable[[threading.Event], None], over: threading.Event) -> None:
        try:
            run(over)
        except Exception as error:  # noqa: BLE001 - a thread's end must be seen
            self.history.broken(name, f"ended with {error!r}")

    # --- at rest ---------------------------------------------------------------------------

    def _come_to_rest(self, writers: Sequence[Writer]) -> None:
        began = time.monotonic()
        try:
            for site in self._network.sites.values():
                site.wait_active(site.names, 90)
            trees = {name: tree_of(site) for name, site in self._network.sites.items()}
            for writer in writers:
                self._check_kept(writer, trees[writer.site])
            wanted = self._wanted(writers, trees)
            wait_until("the network at rest", lambda: not self._unrest(wanted), SETTLE)
            for site in self._network.sites.values():
                site.wait_settled(60)
        except GogglesError as error:
            self.history.broken("campaign", str(error))
            for line in self._unrest(wanted) if "wanted" in locals() else ():
                self.history.broken("campaign", line)
        self.history.note("campaign", f"at rest after {time.monotonic() - began:.1f} s")
        for name, site in self._network.sites.items():
            self._check_tree(name, site, {path: digest for one in writers for path, digest in one.tried.items()})

    def _check_kept(self, writer: Writer, tree: dict[str, FileInfo]) -> None:
        for path in writer.kept - tree.keys():
            self.history.broken(writer.site, f"{path} was acknowledged and is not there any more")

    def _wanted(self, writers: Sequence[Writer], trees: dict[str, dict[str, FileInfo]]) -> dict[str, set[str]]:
        """By site, the files that have to be there in the end."""
        wanted: dict[str, set[str]] = {name: set() for name in self.sites}
        for writer in writers:
            for name in way_of(self.links, writer.site):
                wanted[name] |= trees[writer.site].keys() & writer.tried.keys()
        return wanted

    def _unrest(self, wanted: dict[str, set[str]]) -> list[str]:
        """What is not yet as it must be in the end."""
        found: list[str] = []
        for name, site in self._network.sites.items():
            missing = sorted(wanted[name] - tree_of(site).keys())
            found += [f"{path} has not come to {name}" for path in missing]
            found += [f"{name}: {line}" for line in live_transfers(site.database)]
            found += [f"{name}: {line}" for line in left_over(site)]
        return found

    def _check_tree(self, name: str, site: Cluster, tried: dict[str, str]) -> None:
        """Nothing is there that nobody wrote, and every byte is right."""
        target = self._folder / "all"
        with site.connect() as fs:
            for path in tree_of(site):
                try:
                    fs.get(path, target, overwrite=True)
                except GogglesError as error:
                    self.history.broken(name, f"get {path} in the end: {error}")
                    continue
                if hashlib.sha256(target.read_bytes()).hexdigest() != tried.get(path):
                    self.history.broken(name, f"{path} has other bytes than were written")

    def _check_disks(self, name: str, site: Cluster) -> None:
        for problem in fsck(site.database, {storage: site.root(storage) for storage in site.names}):
            self.history.broken(f"fsck {name}", problem)
        for log in site.folder.glob("*.log"):
            if "Traceback" in log.read_text("utf-8", "replace"):
                self.history.broken(name, f"a traceback is in {log}")


def tree_of(site: Cluster) -> dict[str, FileInfo]:
    """All files of a site by path."""
    found: dict[str, FileInfo] = {}
    with site.connect() as fs:
        waiting = ["/"]
        for directory in waiting:
            for entry in fs.ls(directory):
                if isinstance(entry, FileInfo):
                    found[entry.path] = entry
                else:
                    waiting.append(entry.path)
    return found


def live_transfers(where: str) -> list[str]:
    """Transfers that are under way, or whose source has not been told how they ended."""
    database = Database.open(where)
    try:
        with database.read() as connection:
            going = connection.execute(select(peering.outgoing)).all()
            coming = connection.execute(select(peering.incoming)).all()
    finally:
        database.close()
    found = [f"{row.path} goes out: {State(row.state).name} {row.id}" for row in going if row.state in LIVE]
    found += [f"{row.path} comes in: {State(row.state).name} {row.id}" for row in coming if row.state in LIVE]
    return found + [f"{row.path} came, and that was not told" for row in coming if not row.told]


def left_over(site: Cluster) -> list[str]:
    """What lies in the places of storages for what is not yet a file."""
    return [
        f"{path.name} is left over in {kind} of {name}"
        for name in site.names
        for kind in ("incoming", "staging")
        for path in (site.root(name) / ".goggles" / kind).iterdir()
    ]


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="campaign")
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(1 << 31))
    parser.add_argument("--seconds", type=float, default=30.0)
    parser.add_argument("--keep", action="store_true", help="keep the folder where all held, too")
    options = parser.parse_args(argv)
    folder = Path(tempfile.mkdtemp(prefix=f"network-{options.seed}-"))
    campaign = Campaign(folder, options.seed, options.seconds)
    wrong = campaign.run()
    history = campaign.history
    (folder / "history.txt").write_text("\n".join(history.lines) + "\n", "utf-8")
    total = f"{len(campaign.sites)} sites, {history.acknowledged} acknowledged, {history.unknown} of unknown outcome"
    total += f"; {history.lines[-1].split(None, 2)[2]}" if history.lines else ""
    if wrong:
        print("\n".join(history.lines[-100:]))
        print(f"\nseed {options.seed}: DID NOT HOLD ({total}); all of it in {folder}")
        print("\n".join(wrong))
        return 1
    if not options.keep:
        shutil.rmtree(folder)
    print(f"seed {options.seed}: all of it held ({total})")
    return 0


if __name__ == "__main__":
    sys.exit(main())
