"""The background work of a librarian: each task of the schedule at its time.

Law: one task that fails stops no other, and no task runs twice at the same moment.  A task works in pieces and stops
between two of them when its soft timeout is over; what it has not finished it goes on with the next time.  A peer that
does not answer holds up no other: each is worked on in a thread of its own, and none is waited for longer than a while.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime

from apscheduler.executors.pool import ThreadPoolExecutor
from apscheduler.schedulers.background import BackgroundScheduler

from goggles.errors import GogglesError, LimitExceeded, NotFound, Unavailable
from goggles.librarian.evicting import Evicting, Rules
from goggles.librarian.hypervisors import Hypervisors
from goggles.librarian.inbox import Inbox
from goggles.librarian.keeping import Keeping
from goggles.librarian.outbox import Limits, Outbox
from goggles.librarian.patience import Said
from goggles.librarian.peers import PeerInfo, Peers
from goggles.librarian.purging import Purging
from goggles.librarian.rounds import Rounds
from goggles.librarian.runs import Run, Runs
from goggles.librarian.schedule import KINDS, MAX_TASKS, PURGE, SPELLINGS, Plan
from goggles.librarian.troubles import category_of
from goggles.nameserver.site import Site

log = logging.getLogger(__name__)
DAY = 86_400.0
THREADS = 8
Over = Callable[[], bool]  # whether a task has to stop now
LONGEST = 3_600.0  # seconds that a task without a soft timeout may take in one go
SOON = 60.0  # seconds after the start at which a task that never ran does so


class Tasks:
    """The tasks of this librarian."""

    def __init__(
        self,
        site: Site,
        peers: Peers,
        inbox: Inbox,
        outbox: Outbox,
        keeping: Keeping,
        evicting: Evicting,
        purging: Purging,
        plans: Sequence[Plan],
    ) -> None:
        self._site = site
        self._peers = peers
        self._inbox = inbox
        self._outbox = outbox
        self._hypervisors = Hypervisors(site, peers, inbox, outbox)
        self._disabled: dict[str, float] = {}  # peers by name: when they were first found disabled, monotonic
        self._remarks: dict[str, str] = {}  # tasks by name: what is to be said of a run that went well
        self._keeping = keeping
        self._evicting = evicting
        self._purging = purging
        self._plans = {plan.name: plan for plan in plans}
        self._guests: dict[str, Plan] = {}  # tasks of a schedule that runs in another process
        self._memory = Runs(site)
        self._said = Said(site.clock)
        self._rounds = Rounds(self._tried_with)
        self._runs = self._memory.load()
        self._running = {plan.name: threading.Lock() for plan in plans}
        self._stopping = threading.Event()
        self._scheduler = BackgroundScheduler(
            executors={"default": ThreadPoolExecutor(THREADS)},
            job_defaults={"coalesce": True, "max_instances": 1, "misfire_grace_time": None},
            timezone="UTC",
        )
        self._kinds: dict[str, Callable[[Plan, Over], int]] = self._transfer_kinds() | self._holding_kinds()

    def _transfer_kinds(self) -> dict[str, Callable[[Plan, Over], int]]:
        return {
            "send_clone": self._send_clone,
            "consume_queue": lambda plan, _: self._each(plan.kind, self._consume),
            "check_consumed_queue": lambda plan, _: self._each(
                plan.kind, lambda peer: self._outbox.check(peer, Limits())
            ),
            "receive_clone": self._receive_clone,
            "outgoing_transfer_hypervisor": lambda plan, _: self._each(
                plan.kind, lambda peer: self._hypervisors.outgoing(peer, DAY * plan["age_in_days"])
            ),
            "incoming_transfer_hypervisor": lambda plan, _: self._each(
                plan.kind, lambda peer: self._hypervisors.incoming(peer, DAY * plan["age_in_days"])
            ),
        }

    def _holding_kinds(self) -> dict[str, Callable[[Plan, Over], int]]:
        return {
            "check_integrity": lambda plan, over: self._keeping.check_integrity(
                DAY * plan["age_in_days"], plan["store_name"], over
            ),
            "create_local_clone": self._create_local_clone,
            "corruption_fixer": lambda _, over: self._keeping.fix(over),
            "duplicate_remote_instance_hypervisor": lambda plan, over: self._each(
                plan.kind, lambda peer: self._keeping.check_elsewhere(peer, over)
            ),
            "rolling_deletion": self._rolling_deletion,
            "purge_transfers": lambda plan, over: self._purging.purge(DAY * plan["age_in_days"], over),
        }

    def start(self) -> None:
        for plan in self._plans.values():
            first = datetime.fromtimestamp(self._first(plan), UTC)
            self._scheduler.add_job(
                self._scheduled, "interval", (plan,), id=plan.name, seconds=plan.every, next_run_time=first
            )
        if all(plan.kind != PURGE.kind for plan in self._plans.values()):
            first = datetime.fromtimestamp(self._first(PURGE), UTC)
            self._scheduler.add_job(self._scheduled, "interval", (PURGE,), seconds=PURGE.every, next_run_time=first)
        self._scheduler.start()

    def _first(self, plan: Plan) -> float:
        """When a task runs first: in its turn, as if there had been no restart."""
        now, last = self._site.clock.now(), self._runs.get(plan.name, Run()).began
        return min(now + plan.every, max(now, last + plan.every) if last else now + SOON)

    def begin_no_more(self) -> None:
        self._stopping.set()

    def stop(self) -> None:
        self._stopping.set()
        if self._scheduler.running:
            self._scheduler.shutdown(wait=True)
        self._rounds.stop()
        self._memory.write(dict(self._runs))

    def report(self) -> list[tuple[Plan, Run, float]]:
        """Each task with its last run and when the next one is due (seconds since 1970, UTC; 0: not by itself)."""
        found: list[tuple[Plan, Run, float]] = []
        for name, plan in self._all().items():
            job = self._scheduler.get_job(name)
            due = job.next_run_time.timestamp() if job is not None and job.next_run_time else 0.0
            found.append((plan, replace(self._runs.get(name, Run())), due))
        return found

    def _all(self) -> dict[str, Plan]:
        return {**self._guests, **self._plans}

    def run_plan(self, plan: Plan) -> int:
        """Run a task of a schedule that is kept elsewhere; how much it did."""
        if plan.name not in self._guests and len(self._guests) >= MAX_TASKS:
            raise LimitExceeded(f"{MAX_TASKS} tasks are known already", "start the nameserver again to forget them")
        self._guests[plan.name] = plan
        return self._work(plan)

    def run(self, word: str) -> int:
        """Run a task, or all of a kind, now; how much they did.  Of a single task, raises what goes wrong."""
        kind = SPELLINGS.get(word, word)
        chosen = [plan for plan in self._all().values() if plan.name == word or plan.kind == kind]
        if not chosen and kind in KINDS:
            return sum(self._tried(plan) for plan in self._unplanned(kind))
        if not chosen:
            there = ", ".join(self._all()) or "none"
            raise NotFound(f"no task {word[:80]!r} is in the schedule", f"there are {there}; see --background")
        if len(chosen) == 1 and chosen[0].name == word:
            return self._work(chosen[0])
        return sum(self._tried(plan) for plan in chosen)

    def _tried(self, plan: Plan) -> int:
        try:
            return self._work(plan)
        except GogglesError as error:
            log.warning("task %s: %s", plan.name, error)
            return 0

    def _unplanned(self, kind: str) -> list[Plan]:
        """A kind of task that the schedule does not have, as it is by default; to be run once."""
        values = {key: rule.default for key, rule in KINDS[kind].items()}
        if kind != "send_clone":
            return [Plan(kind, kind, 0.0, None, values)]
        peers = [peer.name for peer in self._peers.all() if peer.enabled]
        return [
            Plan(kind, f"send_clone to {name}", 0.0, None, values | {"destination_librarian": name}) for name in peers
        ]

    # --- one run ---------------------------------------------------------------------------

    def _scheduled(self, plan: Plan) -> None:
        name = plan.name
        try:
            self._work(plan)
            self._said.over(f"task {name}")
        except GogglesError as error:
            if self._said.news(f"task {name}", str(error)):
                log.warning("task %s: %s", name, error)
        except Exception:
            log.exception("task %s failed; it runs again at its time", name)

    def _work(self, plan: Plan) -> int:
        run, clock = self._runs.setdefault(plan.name, Run()), self._site.clock
        with self._running.setdefault(plan.name, threading.Lock()):
            run.began, end = clock.now(), clock.monotonic() + (plan.soft_timeout or LONGEST)

            def over() -> bool:
                return self._stopping.is_set() or clock.monotonic() >= end

            try:
                run.count = self._kinds[plan.kind](plan, over)
            except BaseException as error:
                run.result, run.message, run.ended = "failed", str(error)[:500], clock.now()
                self._memory.note(plan.name, run)
                if not isinstance(error, Unavailable):  # whoever did not answer was told already
                    self._site.trouble("error", category_of(error), f"task {plan.name} failed: {error}")
                raise
            late = clock.monotonic() >= end
            run.result, run.ended = "late" if late else "done", clock.now()
            run.message = self._remarks.pop(plan.name, "")
            self._memory.note(plan.name, run)
        return run.count

    def _each(self, kind: str, action: Callable[[PeerInfo], int], *, disabled: bool = False) -> int:
        """`action` for each peer that is enabled; one that fails spoils nothing for the others."""
        chosen = [peer for peer in self._peers.all() if peer.enabled or disabled]
        return self._rounds.go(kind, chosen, action)

    def _tried_with(self, kind: str, peer: PeerInfo, action: Callable[[PeerInfo], int]) -> int:
        subject = f"{kind} {peer.name}"
        try:
            done = 0 if self._stopping.is_set() else action(peer)
            self._said.over(subject)
            return done
        except GogglesError as error:
            if self._said.news(subject, str(error)):
                log.warning("%s with librarian %s: %s", kind, peer.name, error)
            self._tell(peer, error)
        except Exception:
            if self._said.news(subject, "a mistake of this program"):
                log.exception("%s with librarian %s failed", kind, peer.name)
            self._site.trouble("error", "programming", f"{kind} with librarian {peer.name} failed: see the log")
        return 0

    def _consume(self, peer: PeerInfo) -> int:
        offered = self._outbox.offer_waiting(peer, Limits())
        return offered + self._outbox.consume(peer, Limits())

    def _create_local_clone(self, plan: Plan, _: Over) -> int:
        age = plan["age_in_days"]
        since = 0.0 if age is None else self._site.clock.now() - DAY * age
        limit, disable = plan["files_per_run"], plan["disable_store_on_full"]
        return self._keeping.clone(since, plan["clone_from"], plan["clone_to"], limit, disable)

    def _rolling_deletion(self, plan: Plan, over: Over) -> int:
        rules = Rules(
            plan["number_of_remote_copies"],
            plan["store_name"] or "",
            plan["verify_downstream_checksums"],
            plan["mark_unavailable"],
        )
        before = self._site.clock.now() - DAY * plan["age_in_days"]
        return self._evicting.roll(rules, before, plan["force_deletion"], over)

    def _tell(self, peer: PeerInfo, error: GogglesError) -> None:
        """Where a peer does not answer at all, that was told already."""
        if not isinstance(error, Unavailable):
            named = str(error).startswith(f"librarian {peer.name} ")
            who = "" if named else f"librarian {peer.name}: "
            self._site.trouble("error", category_of(error), f"{who}{error}")

    def _send_clone(self, plan: Plan, over: Callable[[], bool]) -> int:
        peer = self._peers.need(plan["destination_librarian"])
        if not peer.enabled:
            self._remarks[plan.name] = f"transfers to librarian {peer.name} are disabled"
            self._warn_disabled(peer, plan["warn_disabled_timer"])
            return 0
        self._disabled.pop(peer.name, None)
        age, preferred = plan["age_in_days"], plan["store_preference"]
        limits = Limits(
            batch=plan["send_batch_size"], storage=self._site.roster.need(preferred).id if preferred else None
        )
        since = 0.0 if age is None else self._site.clock.now() - DAY * age
        done = 0
        while not over():
            sent = self._outbox.send(peer, limits, since)
            done += sent
            if not sent:
                break
        return done

    def _warn_disabled(self, peer: PeerInfo, after: float | None) -> None:
        """Tell of a peer that has been disabled for more than `after` days, as far as this program has seen."""
        now = self._site.clock.monotonic()
        since = self._disabled.setdefault(peer.name, now)
        if after is not None and now - since >= DAY * after:
            why = f"transfers to librarian {peer.name} have been disabled for more than {after:g} days"
            self._site.trouble("warning", "configuration", why)

    def _receive_clone(self, plan: Plan, _: Callable[[], bool]) -> int:
        begun = self._inbox.receive(plan["files_per_run"], bool(plan["deletion_policy"]))
        self._each("telling what arrived", self._inbox.tell, disabled=True)
        return begun
