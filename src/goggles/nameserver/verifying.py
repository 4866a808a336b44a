"""Have storages read their copies again, and act on what they find.

Law: the verdict is the storage's own reading of its own disk, whoever complained.  A bad copy is quarantined and made
anew from a good one; one that is missing or can not be read does not count any more.
"""

from __future__ import annotations

import logging
import secrets
import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from goggles.contracts import orders
from goggles.errors import BadRequest, GogglesError
from goggles.nameserver.decisions import Transaction
from goggles.nameserver.dropping import drop_bad, drop_missing
from goggles.nameserver.repair import Repair
from goggles.nameserver.roster import Node
from goggles.nameserver.site import Site
from goggles.nameserver.states import READABLE
from goggles.paths import DfsPath, parse

log = logging.getLogger(__name__)
PATIENCE = 25.0  # seconds that `verify` waits; the check itself goes on
LONGEST = 3_600.0  # seconds for which a caller may wait
LOOK = 1.0  # seconds until it is looked whether a storage is still there
MAX_JOBS = 10_000


@dataclass(frozen=True, slots=True)
class Reading:
    """What a storage found when it read its copy: verdict good, bad, or why it can not be said; digest and size of what
    is there ('' and -1 where it was not read)."""

    storage: str
    verdict: str
    sha256: str
    size: int


@dataclass(eq=False, slots=True)
class _Job:
    """One copy that is being read again."""

    node: Node
    path: DfsPath
    version: str
    verdict: str = "still reading"
    sha256: str = ""  # of what is there
    size: int = -1
    answered: bool = False
    done: threading.Event = field(default_factory=threading.Event)
    then: Callable[[], None] | None = None  # where the copy is good, or nobody answers
    session: str = ""  # in which it was asked


class Verifying:
    """The checks under way."""

    def __init__(self, site: Site, repair: Repair) -> None:
        self._site = site
        repair.rereading.checks = self
        self._jobs: OrderedDict[str, _Job] = OrderedDict()  # guarded by the global lock; oldest first

    def under_way(self) -> int:
        """Copies that storages are reading, for those who decide what to trim."""
        with self._site.decisions.lock:
            return sum(job.then is not None for job in self._jobs.values())

    def drop_lost(self) -> None:
        """End the readings that were asked for in a session that is over: nobody answers them."""
        with self._site.decisions.lock:
            lost = {name: job for name, job in self._jobs.items() if job.node.session != job.session}
            for name in lost:
                del self._jobs[name]
        for job in lost.values():
            job.verdict = "not read: it was lost meanwhile"
            job.done.set()
            if job.then is not None:
                job.then()

    def verify(self, path: str) -> tuple[tuple[str, str], ...]:
        """(storage, verdict) for each copy: good, bad, or why it can not be said (yet)."""
        return tuple((found.storage, found.verdict) for found in self.read_again(path))

    def read_again(self, path: str, patience: float = PATIENCE) -> list[Reading]:
        """What each storage finds that has a copy; waits for up to `patience` seconds."""
        return self._wait(self._start_all(path), self._site.clock.monotonic() + patience)

    def _start_all(self, path: str) -> list[_Job]:
        wanted = parse(path)
        with self._site.look() as tree:
            entry = tree.need_file(wanted)
            holders = tree.instances_of([entry.id]).get(entry.id, [])
        return [self._start(self._site.roster.get(holder), wanted, entry.version) for holder in holders]

    def verify_many(self, paths: Sequence[str], patience: float) -> list[list[Reading] | GogglesError]:
        """`read_again` for each path, all at the same time; errors come as values."""
        if not 0 <= patience <= LONGEST:
            raise BadRequest(f"nobody waits for {patience:g} s", f"ask for {LONGEST:g} s at most")
        started: list[list[_Job] | GogglesError] = []
        for path in paths:
            try:
                started.append(self._start_all(path))
            except GogglesError as error:
                started.append(error)
        deadline = self._site.clock.monotonic() + patience
        return [one if isinstance(one, GogglesError) else self._wait(one, deadline) for one in started]

    def read_copies(self, copies: Sequence[tuple[Node, DfsPath, str]], patience: float) -> list[Reading]:
        """The same for single copies, each a storage, a path and a version."""
        jobs = [self._start(node, path, version) for node, path, version in copies]
        return self._wait(jobs, self._site.clock.monotonic() + patience)

    def _wait(self, jobs: Sequence[_Job], deadline: float) -> list[Reading]:
        for job in jobs:
            while not job.done.is_set() and (left := deadline - self._site.clock.monotonic()) > 0:
                if job.node.session != job.session:
                    job.verdict = "not read: it was lost meanwhile"
                    break
                self._site.clock.wait(job.done, min(LOOK, left))
        return [Reading(job.node.name, job.verdict, job.sha256, job.size) for job in jobs]

    def report_bad(self, path: DfsPath, version: str, storage: str) -> None:
        """A reader got wrong bytes from this storage: have it look."""
        if len(version) != 32:
            raise BadRequest("a version has 32 hexadecimal digits")
        self._start(self._site.roster.need(storage), path, version)

    def suspect(self, node: Node, path: DfsPath, version: str) -> None:
        """A storage found a copy of its own that is not what it should be: have it look again."""
        self._start(node, path, version)

    def check(self, node: Node, path: DfsPath, version: str, then: Callable[[], None]) -> None:
        """Have one copy read again, and call `then` where it is good, or its storage goes away."""
        self._start(node, path, version, then)

    def _start(self, node: Node, path: DfsPath, version: str, then: Callable[[], None] | None = None) -> _Job:
        job = _Job(node, path, version, then=then, session=node.session)
        if node.state not in READABLE:
            job.verdict = f"not asked: it is {node.state}"
            job.done.set()
            if then is not None:
                then()
            return job
        name = secrets.token_hex(16)
        with self._site.decisions.lock:
            while len(self._jobs) >= MAX_JOBS:
                self._jobs.popitem(last=False)
            self._jobs[name] = job
            node.order(orders.check(path, version, name))
        return job

    def done(self, session: str, name: str, verdict: str) -> None:
        """The storage has read the copy."""
        with self._site.decisions.lock:
            job = self._jobs.get(name)
            if job is None or job.node.session != session or job.answered:
                return
            job.answered = True
        try:
            self._judge(job, verdict)
            self._act(job, job.verdict)
        finally:
            with self._site.decisions.lock:
                self._jobs.pop(name, None)
            job.done.set()

    def _judge(self, job: _Job, verdict: str) -> None:
        """The tree knows best what the bytes of a version are."""
        match verdict.split():
            case [("good" | "bad" | "unsure") as word, digest, size] if size.isdecimal():
                job.sha256, job.size = digest[:64], int(size[:18])
                with self._site.look() as tree:
                    entry = tree.by_versions([job.version]).get(job.version)
                same = entry is not None and (entry.sha256, entry.size) == (job.sha256, job.size)
                job.verdict = "good" if same else "bad"
                if entry is None or (word == "unsure" and not same):
                    job.verdict = "replaced meanwhile" if entry is None else "other bytes, and no note whose they are"
            case ["good" | "bad"]:
                job.verdict = "not said of which bytes"
            case _:
                job.verdict = verdict[:500]

    def _act(self, job: _Job, verdict: str) -> None:
        if verdict == "good":
            self._site.decisions.run(lambda tx: self._found_good(tx, job))
        if verdict == "good" and job.then is not None:
            job.then()
        if verdict == "bad":
            log.error("storage %s has a bad copy of %s", job.node.name, job.path, extra=_facts("bad_copy", job))
            self._site.decisions.run(lambda tx: drop_bad(self._site, tx, job.node, job.version))
        if verdict.startswith(("missing", "unreadable")):
            text = "storage %s can not give its copy of %s: %s"
            log.error(text, job.node.name, job.path, verdict, extra=_facts("lost_copy", job))
            self._site.decisions.run(lambda tx: drop_missing(self._site, tx, job.node, job.path, job.version))

    def _found_good(self, tx: Transaction, job: _Job) -> None:
        entry = tx.tree.by_versions([job.version]).get(job.version)
        if entry is not None:
            tx.tree.set_verified(entry.id, job.node.id)


def _facts(event: str, job: _Job) -> dict[str, object]:
    """What a line of the log says for machines."""
    return {"facts": {"event": event, "path": job.path, "storage": job.node.name}}
