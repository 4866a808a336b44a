"""Clients at work on a site of real processes, while faults of many kinds strike it at random.

    make chaos MINUTES=10 SEED=1 DATABASE=postgresql
    python -m tests.chaos.campaign --seed 1 --seconds 30 --faults kill,cut

Law: whatever was acknowledged holds afterwards, bytes and names; what was not may have happened or not, as a whole;
what several clients did with the same names has an order that explains it; tree and disks agree, and all copies are
made within RESTORED seconds.  A seed gives the same kinds of faults, operations and strikes; their interleaving is
the machine's.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import random
import shutil
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.chaos import faults, history, linear
from tests.chaos.faults import Faults
from tests.chaos.history import BROKEN, DONE, SHARED, Record
from tests.chaos.model import DIRECTORY, Home, Op, listing
from tests.chaos.site import STORAGES, WIRES, Site

from goggles.client.session import Session
from goggles.errors import GogglesError
from goggles.testing import postgres
from goggles.testing.cluster import wait_until
from goggles.testing.fsck import fsck

RESTORED = 60.0  # seconds until all storages are active, and again until all copies are made
LOOKS = ("get", "range", "get_tree", "setrep", "home")


class Campaign:
    """One run; `wrong` says afterwards what did not hold."""

    def __init__(self, folder: Path, seed: int, seconds: float, kinds: Sequence[str], database: str = "") -> None:
        self.wrong: list[str] = []
        self.records: list[Record] = []
        self._folder = folder
        self._seconds = seconds
        network = "".join(faults.networks(kinds))
        self.site = Site(folder, str(seed), network=network, copies=faults.copies(kinds), database=database)
        self._faults = Faults(self.site, f"{seed} faults", kinds)
        self._began = time.monotonic()

    def run(self) -> list[str]:
        """What did not hold; empty where all did."""
        try:
            for fault in self._faults.all:
                fault.prepare()
            self._run()
        finally:
            self.site.stop()
            self._write_down()
        roots = {name: self.site.cluster.root(name) for name in STORAGES}
        for problem in fsck(self.site.cluster.database, roots):
            self._broken("fsck", problem)
        return self.wrong

    def close(self) -> None:
        for fault in self._faults.all:
            fault.close()

    def _run(self) -> None:
        self.site.start_all()
        self._work()
        self.site.note("over; everything is brought back", "campaign")
        self._faults.end()
        self.records = self.site.records()
        if self._at_rest():
            with self.site.cluster.connect() as fs:
                self._check(fs)

    def _broken(self, who: str, text: str) -> None:
        self.site.note(f"BROKEN: {text}", who)
        self.wrong.append(f"{who}: {text}")

    def _work(self) -> None:
        calm = threading.Event()
        striking = threading.Thread(target=self._strike, args=(calm,))
        striking.start()
        time.sleep(self._seconds)
        calm.set()
        striking.join()
        for text in self.site.stop_workers():
            self._broken("campaign", text)

    def _strike(self, over: threading.Event) -> None:
        try:
            self._faults.run(over)
        except Exception as error:  # noqa: BLE001 - a thread's end must be seen
            self._broken("faults", f"ended with {error!r}")

    def _at_rest(self) -> bool:
        """All storages are back, administrators did their work, and every copy is made."""
        cluster = self.site.cluster
        try:
            wait_until("all storages back", self._all_back, RESTORED)
            with cluster.connect() as fs:
                for fault in self._faults.all:
                    fault.settle(fs)
            cluster.wait_active(STORAGES, RESTORED)
            cluster.wait_settled(RESTORED)
        except GogglesError as error:
            self._broken("campaign", f"not at rest: {error}; {cluster.states()}")
            self.site.ask("what du says", lambda fs: self.site.note(repr(fs.du()), "campaign"))
            return False
        return True

    def _all_back(self) -> bool:
        states = self.site.cluster.states()
        return all(states.get(name) in ("active", "draining", "held") for name in STORAGES)

    # --- what must hold --------------------------------------------------------------------

    def _check(self, fs: Session) -> None:
        for one in self.records:
            if one.outcome == BROKEN and not (one.kind == "range" and self._excused(one.digest)):
                self._broken(one.who, f"{one}: {one.found} {one.text}")
        for home in homes_of(self.records):
            wrong = home.differs(fs)
            if wrong:
                self._broken("home", f"{home.path} in the end: {wrong}")
        self._check_shared(fs)
        self._read_all(fs)

    def _excused(self, digest: str) -> bool:
        return any(fault.excused(digest) for fault in self._faults.all)

    def _check_shared(self, fs: Session) -> None:
        at = time.monotonic()
        last = listing(fs, SHARED)
        names = {name for one in self.records if one.home == SHARED for name in (one.path, one.other) if name}
        looks = [
            Record("campaign", "get", SHARED, name, began=at, ended=at, outcome=DONE, found=last.get(name, ""))
            for name in sorted(names | last.keys())
        ]
        for name, events in linear.events_of([*self.records, *looks]).items():
            if why := linear.explain(events):
                self._broken("shared", f"{name}: {why}")

    def _read_all(self, fs: Session) -> None:
        target = self._folder / "all"
        for path, digest in listing(fs, "/").items():
            if digest == DIRECTORY:
                continue
            try:
                fs.get(f"/{path}", target, overwrite=True)
            except GogglesError as error:
                self._broken("campaign", f"get /{path} in the end: {error}")
            else:
                if hashlib.sha256(target.read_bytes()).hexdigest() != digest:
                    self._broken("campaign", f"/{path} has other bytes than its hash says")

    def _write_down(self) -> None:
        self.records = self.site.records()
        told = history.lines(self.records, self.site.notes, self._began)
        (self._folder / "history.txt").write_text("\n".join(told) + "\n", "utf-8")


def homes_of(records: Sequence[Record]) -> list[Home]:
    """Every directory that one client had for itself, and what may be in it."""
    homes: dict[str, Home] = {}
    for one in records:
        if one.home == SHARED or one.kind in LOOKS:
            continue
        home = homes.setdefault(one.home, Home(one.home))
        known, op = one.outcome == DONE, Op(one.kind, one.path, one.other, one.digest)
        if one.kind == "tree" and known:
            home.together(one.path, one.files, one.failed)
        elif one.kind == "tree":
            home.together_unknown(one.path, one.files)
        else:
            (home.happened if known else home.unknown)(op)
    return list(homes.values())


@dataclass(slots=True)
class Result:
    """What one seed came to."""

    seed: int
    kinds: Sequence[str]
    wrong: list[str]
    records: list[Record]
    folder: Path
    struck: int = 0

    def __str__(self) -> str:
        counts = history.counts(self.records)
        total = ", ".join(f"{count} {outcome}" for outcome, count in counts.items())
        verdict = "DID NOT HOLD" if self.wrong else "all of it held"
        return f"seed {self.seed}: {verdict} ({total}; {self.struck} faults of {', '.join(self.kinds) or 'no kind'})"


def run(seed: int, seconds: float, kinds: Sequence[str], *, keep: bool, database: str = "") -> Result:
    """One campaign, in a folder that is removed where all held.  `database`: a URL; SQLite where none is given."""
    folder = Path(tempfile.mkdtemp(prefix=f"campaign-{seed}-"))
    campaign = Campaign(folder, seed, seconds, kinds, database)
    try:
        wrong = campaign.run()
    finally:
        campaign.close()
    struck = sum(who == "faults" and not what.startswith("start ") for _, who, what in campaign.site.notes)
    if not wrong and not keep:
        shutil.rmtree(folder)
    return Result(seed, kinds, wrong, campaign.records, folder, struck)


def _arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="campaign", description=__doc__)
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(1 << 31))
    parser.add_argument("--seconds", type=float, default=30.0, help="that the clients of one seed work")
    parser.add_argument("--minutes", type=float, default=0.0, help="go on with the next seeds for this long")
    parser.add_argument("--faults", default="", help=f"kinds, of {','.join(faults.TABLE)}; otherwise the seed chooses")
    parser.add_argument("--database", choices=("sqlite", "postgresql"), default="sqlite")
    parser.add_argument("--keep", action="store_true", help="keep the folders where all held, too")
    options = parser.parse_args(argv)
    options.kinds = [name for name in options.faults.split(",") if name]
    for name in options.kinds:
        if name not in faults.TABLE or faults.TABLE[name].why_not():
            parser.error(f"{name}: {faults.TABLE[name].why_not() if name in faults.TABLE else 'no such fault'}")
    if len(needed := faults.networks(options.kinds)) > 1:
        kinds = {one: [name for name in options.kinds if faults.TABLE[name].network == one] for one in needed}
        words = " and ".join(f"{', '.join(names)} ({network})" for network, names in kinds.items())
        parser.error(f"a site has one kind of network: not {words} together")
    return options


@contextlib.contextmanager
def _databases(kind: str) -> Iterator[Callable[[Sequence[str]], str]]:
    """What gives a new database for a seed with these kinds of faults."""
    if kind == "sqlite":
        yield lambda _kinds: ""
        return
    with postgres.running() as server:
        yield lambda kinds: server.new_database(by_socket=WIRES in faults.networks(kinds))


def main(argv: Sequence[str] | None = None) -> int:
    options = _arguments(argv)
    deadline, seed, held = time.monotonic() + 60 * options.minutes, options.seed, 0
    for name in faults.TABLE.keys() - set(faults.possible()):
        print(f"left out: {name} ({faults.TABLE[name].why_not()})")
    with _databases(options.database) as new_database:
        while True:
            kinds = options.kinds or faults.chosen(seed)
            result = run(seed, options.seconds, kinds, keep=options.keep, database=new_database(kinds))
            print(result, flush=True)
            if result.wrong:
                print("\n".join(result.wrong), f"\nall of it in {result.folder}, history.txt first")
                return 1
            if options.keep:
                print(f"kept in {result.folder}")
            seed, held = seed + 1, held + 1
            if time.monotonic() >= deadline:
                print(f"{held} seeds held")
                return 0


if __name__ == "__main__":
    sys.exit(main())
