"""The transfer manager *globus*: one Globus task for each batch, between two collections.

Law: the submission id of a task and all that is in it are written into the batch before the task is submitted, and
submitted again just so after a crash or a lost answer: Globus knows the id, so that there is never a second task.
Until Globus has said that a task is over, nobody else may have its batch.

A task has one source: a batch whose files lie in several collections is cut, and the rest waits as a batch of its own.
"""

from __future__ import annotations

import json
import logging
import re
import threading
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from goggles import failpoints
from goggles.errors import (
    GogglesError,
    NotFound,
    Overloaded,
    ProtocolError,
    SettingsError,
    Stale,
    Unavailable,
)
from goggles.librarian import ledger
from goggles.librarian.ledger import Record
from goggles.librarian.managers.base import Facility, Progress, Status
from goggles.librarian.managers.globus import verdict
from goggles.librarian.managers.globus.credentials import Credentials
from goggles.librarian.managers.globus.service import Globus
from goggles.librarian.managers.globus.verdict import Look, Phase
from goggles.librarian.managers.steps import begin, holders, joined
from goggles.librarian.peers import PeerInfo, Peers
from goggles.nameserver.decisions import Transaction
from goggles.nameserver.roster import Node
from goggles.nameserver.site import Site
from goggles.settings import NameserverSettings

log = logging.getLogger(__name__)
PLACE = re.compile(r"\.goggles/incoming/[0-9a-f]{32}/data")
NOT_IN_LABELS = re.compile(r"[^A-Za-z0-9 _-]")
NEW = 60.0  # seconds for which Globus may not find a task that it has just taken
MARGIN = 3_600.0  # seconds behind its deadline after which a task that Globus does not know is surely over
UNTOLD = "it was not submitted to Globus"
Job = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Rules:
    """`endpoint`: for storages that name none; the others as the settings globus_..."""

    endpoint: str = ""
    tasks: int = 100
    deadline: float = 259_200.0
    patience: float = 1_800.0


class GlobusManager:
    """Third-party transfers: no byte passes through a program of ours."""

    name = "globus"

    def __init__(self, site: Site, peers: Peers, globus: Globus, rules: Rules) -> None:
        self._site = site
        self._peers = peers
        self._globus = globus
        self._rules = rules
        self._submitting = threading.Lock()  # one at a time, so that what was counted is still true
        self._lock = threading.Lock()
        self._seen: dict[str, Look] = {}  # by batch, at its task; guarded by _lock

    @classmethod
    def of(cls, site: Site, peers: Peers, settings: NameserverSettings) -> GlobusManager:
        """As the settings say; SettingsError where they are not enough."""
        rules = Rules(
            settings.globus_local_endpoint_id,
            settings.globus_max_tasks,
            settings.globus_deadline,
            settings.globus_patience,
        )
        return cls(site, peers, Globus(Credentials.of(settings)), rules)

    def valid(self, facility: Facility) -> bool:
        endpoint, root = facility.get("destination_endpoint"), str(facility.get("root", ""))
        reachable = (
            isinstance(endpoint, str) and bool(endpoint) and root.startswith("/") and ".." not in root.split("/")
        )
        return reachable and bool(facility.get("available", True))

    def progress(self, batch: Record, rows: Sequence[Record]) -> Progress:
        """As of the last look at its task."""
        seen = self._last(batch)
        if seen is None:
            return Progress(task=json.loads(batch.handle).get("task", ""))
        trouble = "suspended until somebody logs in" if seen.phase is Phase.SUSPENDED else seen.trouble
        return Progress(seen.files_done, seen.size_done, seen.rate, seen.task, trouble)

    # --- start -----------------------------------------------------------------------------

    def start(self, peer: PeerInfo, batch: Record, rows: Sequence[Record]) -> dict[str, Any]:
        try:
            with self._submitting:
                return self._start(peer, batch, rows)
        except (Unavailable, Stale):
            raise
        except GogglesError as error:
            self._tell(error)
            raise

    def _start(self, peer: PeerInfo, batch: Record, rows: Sequence[Record]) -> Job:
        count = self._globus.pending()
        if count >= self._rules.tasks:
            raise Overloaded(f"Globus has {count} tasks of this identity", "the next ones wait until some are over")
        known = self._known(batch)
        job = known or self._prepare(peer, batch, rows)
        if job["items"]:
            job["task"] = self._submit(batch, job, first=known is None)
            log.info("batch %s for librarian %s is Globus task %s", batch.id, peer.name, job["task"])
        return job

    def _known(self, batch: Record) -> Job | None:
        """What was written down for this batch before, and may have been submitted."""
        with self._site.database.read() as connection:
            fresh = ledger.batch(connection, batch.id)
        if fresh is None or fresh.state != ledger.WAITING:
            raise Stale(f"batch {batch.id} does not wait any more")
        job: Job = json.loads(fresh.handle)
        return job if job.get("bound") else None

    def _prepare(self, peer: PeerInfo, batch: Record, rows: Sequence[Record]) -> Job:
        """Choose the source, tell the destination, and write down what will be submitted."""
        facility = json.loads(batch.facilities)[self.name]
        source, chosen = self._sources(rows)
        taken = [row for row in rows if row.id in chosen]
        tickets = begin(self._site, self._peers, peer, [(row, chosen[row.id]) for row in taken])
        good = [row for row in taken if isinstance(tickets[row.id], bytes)]
        job: Job = {
            "bound": bool(good),
            "peer": peer.name,
            "source": source,
            "destination": facility["destination_endpoint"],
            "submission": self._globus.submission_id() if good else "",
            "label": NOT_IN_LABELS.sub("-", f"goggles {self._site.name} to {peer.name} {batch.id}")[:128],
            "deadline": self._deadline(),
            "items": {row.id: self._item(row, chosen[row.id], facility["root"]) for row in good},
            "refused": {row.id: str(tickets[row.id]) for row in taken if row not in good},
            "task": "",
        }
        self._write(batch, job, [row for row in rows if row.id not in chosen])
        return job

    def _sources(self, rows: Sequence[Record]) -> tuple[str, dict[str, Node]]:
        """The collection that holds the most of these files, and by transfer a storage in it."""
        found: dict[str, dict[str, Node]] = {}
        for key, nodes in holders(self._site, rows).items():
            for node in nodes:
                endpoint = self._endpoint(node)
                if endpoint:
                    found.setdefault(endpoint, {})[key] = node
        if not found:
            raise SettingsError(
                "no storage that holds these files is in a Globus collection",
                "set globus_local_endpoint_id, or --globus_endpoint of the storages",
            )
        best = Counter({endpoint: len(chosen) for endpoint, chosen in found.items()}).most_common(1)[0][0]
        return best, found[best]

    def _endpoint(self, node: Node) -> str:
        facility = json.loads(node.facilities).get(self.name, {})
        return facility.get("destination_endpoint") or self._rules.endpoint if facility.get("root") else ""

    def _item(self, row: Record, node: Node, root: str) -> tuple[str, str]:
        """(path at the source, path at the destination)."""
        if not PLACE.fullmatch(row.place):
            raise ProtocolError("the other side names a place that is none for arrivals")
        return joined(json.loads(node.facilities)[self.name]["root"], row.path), joined(root, row.place)

    def _deadline(self) -> str:
        return datetime.fromtimestamp(self._site.clock.now() + self._rules.deadline, UTC).isoformat(timespec="seconds")

    def _write(self, batch: Record, job: Job, rest: Sequence[Record]) -> None:
        """Before anything is submitted; what is not in the job becomes a batch of its own."""

        def decide(tx: Transaction) -> None:
            ledger.set_batch(tx.tree.tx, batch.id, tx.tree.now, manager=self.name, handle=json.dumps(job))
            if rest:
                ledger.cut_batch(tx.tree.tx, batch, rest, tx.tree.now)

        self._site.decisions.run(decide)

    def _submit(self, batch: Record, job: Job, first: bool) -> str:
        """The task of a job that is written down.  As long as nobody knows whether it was taken, it stays so: what
        Globus refuses at a second try it may have taken at the first."""
        failpoints.hit("librarian.globus.before_submit")
        try:
            task = self._globus.submit(job)
        except Unavailable as error:
            raise Overloaded(f"it is not known yet whether Globus took the task: {error}") from error
        except GogglesError:
            if first or self._surely_over(job):
                self._site.decisions.run(lambda tx: ledger.set_batch(tx.tree.tx, batch.id, tx.tree.now, handle="{}"))
            raise
        failpoints.hit("librarian.globus.after_submit")
        return task

    def _surely_over(self, job: Job) -> bool:
        """Whether Globus has given it up by now, if it ever took it."""
        return self._site.clock.now() > datetime.fromisoformat(job["deadline"]).timestamp() + MARGIN

    # --- poll ------------------------------------------------------------------------------

    def poll(self, batch: Record, rows: Sequence[Record]) -> dict[str, Status]:
        job: Job = json.loads(batch.handle)
        if not job["task"]:
            return _all(rows, "", job)
        seen = self._last(batch)
        if seen is not None and self._site.clock.monotonic() < seen.next_look:
            return {row.id: Status() for row in rows}
        try:
            task = self._globus.task(job["task"])
        except NotFound as error:
            return self._vanished(batch, job, rows, error)
        except GogglesError as error:
            self._tell(error)
            return {row.id: Status() for row in rows}
        return self._judge(batch, job, rows, task)

    def _judge(self, batch: Record, job: Job, rows: Sequence[Record], task: Mapping[str, Any]) -> dict[str, Status]:
        seen = self._look(batch, job, task)
        if seen.phase in (Phase.GOING, Phase.SUSPENDED):
            self._watch(seen, task)
            return {row.id: Status() for row in rows}
        try:
            found = self._failed(job, rows, task) if seen.phase is Phase.FAILED else self._done(job, rows, task)
        except GogglesError as error:
            log.info("how Globus task %s ended is not known yet: %s", job["task"], error)
            self._tell(error)
            return {row.id: Status() for row in rows}
        self._forget(batch)
        return found

    def _done(self, job: Job, rows: Sequence[Record], task: Mapping[str, Any]) -> dict[str, Status]:
        skipped = self._globus.skipped(job["task"]) if task.get("subtasks_skipped_errors") else {}
        errors = {key: skipped[to] for key, (_, to) in job["items"].items() if to in skipped}
        done = {key: Status(done=True) for key in job["items"] if key not in errors}
        left = {key: Status(error=f"Globus could not read it at the source: {code}") for key, code in errors.items()}
        return {**_all(rows, "", job), **{row.id: found for row in rows if (found := {**done, **left}.get(row.id))}}

    def _failed(self, job: Job, rows: Sequence[Record], task: Mapping[str, Any]) -> dict[str, Status]:
        """What has arrived is kept, whatever became of the rest."""
        arrived = self._globus.successes(job["task"]) if task.get("files_transferred") else set()
        why = verdict.why_it_failed(task, self._events(job["task"]))
        here = {key for key, (_, to) in job["items"].items() if to in arrived}
        return _all(rows, why, job) | {row.id: Status(done=True) for row in rows if row.id in here}

    def _events(self, task: str) -> list[dict[str, Any]]:
        """They say why a task failed; that it did is known without them."""
        try:
            return self._globus.events(task)
        except Unavailable:
            raise
        except GogglesError as error:
            log.info("the events of Globus task %s can not be read: %s", task, error)
            return []

    def _look(self, batch: Record, job: Job, task: Mapping[str, Any]) -> Look:
        with self._lock:
            before = self._seen.get(batch.id)
            seen = verdict.look(task, job["peer"], before, self._site.clock.monotonic())
            self._seen[batch.id] = seen
        return seen

    def _last(self, batch: Record) -> Look | None:
        with self._lock:
            return self._seen.get(batch.id)

    def _watch(self, seen: Look, task: Mapping[str, Any]) -> None:
        """Of a task that lives: what a person has to be told, and an end to what can not go on."""
        if seen.phase is Phase.SUSPENDED:
            self._site.trouble(
                "error",
                "configuration",
                f"Globus has suspended what goes to librarian {seen.peer}: a login has expired; run librarian "
                "globus-login, or renew the credentials of the collections at app.globus.org; then it goes on",
            )
            return
        if self._site.clock.monotonic() - seen.since < self._rules.patience:
            return
        try:
            lacks = verdict.what_it_lacks(seen, self._events(seen.task) if task.get("faults") else ())
        except Unavailable:
            return
        if not (lacks or seen.trouble):
            return
        said = task.get("nice_status_short_description") or task.get("nice_status_details") or ""
        why = f"Globus task {seen.task} to librarian {seen.peer} gets nowhere: {lacks or seen.trouble} {said}".rstrip()
        self._site.trouble("warning", "transfer", why)
        if lacks:
            log.warning("%s; it is cancelled", why)
            self._cancel(seen.task)

    def _vanished(self, batch: Record, job: Job, rows: Sequence[Record], error: GogglesError) -> dict[str, Status]:
        """Globus shows tasks to their own identity only; another one's may still be at work."""
        if self._surely_over(job):
            return _all(rows, f"Globus does not know task {job['task']} any more", job)
        if self._site.clock.now() - batch.updated_at > NEW:
            self._tell(
                NotFound(f"task {job['task']}: {error.message}", "do we still log in as the one who submitted it?")
            )
        return {row.id: Status() for row in rows}

    def _tell(self, error: GogglesError) -> None:
        category = "librarian_network_availability" if isinstance(error, Unavailable) else "configuration"
        self._site.trouble("error", category, f"Globus: {error}")

    # --- stop ------------------------------------------------------------------------------

    def forget(self, transfers: Sequence[str]) -> None:
        """What is known of a batch is in its handle."""

    def stop(self, batch: Record) -> None:
        job: Job = json.loads(batch.handle)
        self._forget(batch)
        if not job.get("bound"):
            return
        try:
            task = job["task"] or self._globus.submit(job)  # else it is not known whether there is one
        except GogglesError as error:
            log.warning("what became of batch %s at Globus is not known: %s", batch.id, error)
            return
        self._cancel(task)

    def close(self) -> None:
        self._globus.close()

    def _cancel(self, task: str) -> None:
        try:
            self._globus.cancel(task)
        except GogglesError as error:
            log.info("Globus task %s was not cancelled: %s", task, error)

    def _forget(self, batch: Record) -> None:
        with self._lock:
            self._seen.pop(batch.id, None)


def _all(rows: Sequence[Record], error: str, job: Job) -> dict[str, Status]:
    """The same of all, but for those that the destination would not have."""
    return {row.id: Status(error=job["refused"].get(row.id) or error or UNTOLD) for row in rows}
