"""Have storages read their copies again, and act on what they find.

Law: the verdict is the storage's own reading of its own disk, whoever complained.  A bad copy is quarantined and made
anew from a good one; one that is missing or can not be read does not count any more.
"""

from __future__ import annotations

import logging
import secrets
import threading
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field

from goggles.contracts import orders
from goggles.errors import BadRequest
from goggles.nameserver.repair import Repair
from goggles.nameserver.roster import Node
from goggles.nameserver.site import Site
from goggles.nameserver.states import READABLE
from goggles.paths import DfsPath, parse

log = logging.getLogger(__name__)
PATIENCE = 25.0  # seconds that `verify` waits; the check itself goes on
MAX_JOBS = 10_000


@dataclass(eq=False, slots=True)
class _Job:
    """One copy that is being read again."""

    node: Node
    path: DfsPath
    version: str
    verdict: str = "still reading"
    done: threading.Event = field(default_factory=threading.Event)
    then: Callable[[], None] | None = None  # where the copy is good


class Verifying:
    """The checks under way."""

    def __init__(self, site: Site, repair: Repair) -> None:
        self._site = site
        self._repair = repair
        repair.check = self.check
        self._jobs: OrderedDict[str, _Job] = OrderedDict()  # guarded by the global lock; oldest first

    def verify(self, path: str) -> tuple[tuple[str, str], ...]:
        """(storage, verdict) for each copy: good, bad, or why it can not be said (yet)."""
        wanted = parse(path)
        with self._site.look() as tree:
            entry = tree.need_file(wanted)
            holders = tree.instances_of([entry.id]).get(entry.id, [])
        jobs = [self._start(self._site.roster.get(holder), wanted, entry.version) for holder in holders]
        deadline = self._site.clock.monotonic() + PATIENCE
        for job in jobs:
            self._site.clock.wait(job.done, max(0.0, deadline - self._site.clock.monotonic()))
        return tuple((job.node.name, job.verdict) for job in jobs)

    def report_bad(self, path: DfsPath, version: str, storage: str) -> None:
        """A reader got wrong bytes from this storage: have it look."""
        if len(version) != 32:
            raise BadRequest("a version has 32 hexadecimal digits")
        self._start(self._site.roster.need(storage), path, version)

    def check(self, node: Node, path: DfsPath, version: str, then: Callable[[], None]) -> None:
        """Have one copy read again, and call `then` where it is good."""
        self._start(node, path, version, then)

    def _start(self, node: Node, path: DfsPath, version: str, then: Callable[[], None] | None = None) -> _Job:
        job = _Job(node, path, version, then=then)
        if node.state not in READABLE:
            job.verdict = f"not asked: it is {node.state}"
            job.done.set()
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
            if job is None or job.node.session != session:
                return
            del self._jobs[name]
        job.verdict = verdict[:500]
        self._act(job, verdict)
        job.done.set()

    def _act(self, job: _Job, verdict: str) -> None:
        if verdict == "good" and job.then is not None:
            job.then()
        if verdict == "bad":
            log.error("storage %s has a bad copy of %s", job.node.name, job.path, extra={"path": job.path})
            self._site.trouble("error", "data_integrity", f"storage {job.node.name} had a bad copy of {job.path}")
            self._site.decisions.run(lambda tx: self._repair.drop_bad(tx, job.node, job.version))
        if verdict.startswith(("missing", "unreadable")):
            log.error("storage %s can not give its copy of %s: %s", job.node.name, job.path, verdict)
            why = f"storage {job.node.name} can not give its copy of {job.path}: {verdict}"
            self._site.trouble("error", "data_availability", why)
            self._site.decisions.run(lambda tx: self._repair.drop_missing(tx, job.node, job.path, job.version))
