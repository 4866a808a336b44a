"""The background tasks of a librarian from a process of its own: it knows the times, the nameserver does the work.

Law: nothing is decided here.  Each task is a call of the nameserver's door `run_plan` at its time; a nameserver that is
not there is waited for, and a task that fails stops no other.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Sequence
from datetime import UTC, datetime

from apscheduler.executors.pool import ThreadPoolExecutor
from apscheduler.schedulers.background import BackgroundScheduler

from goggles.client.calls import Calls
from goggles.errors import CertificateError, GogglesError, PermissionDenied, Unavailable
from goggles.librarian.schedule import Plan
from goggles.roles import Level
from goggles.wire.dial import Address, Dialer

log = logging.getLogger(__name__)
THREADS = 8
LONGEST = 3_600.0  # seconds that a task without a soft timeout may take in one go, as the nameserver has it
GRACE = 600.0  # seconds beyond that in which the answer has to come
PATIENCE = 5.0  # seconds for which a nameserver is looked for in one go
PAUSE = 2.0


class Background:
    """A schedule that runs beside a nameserver; `start`, then `stop`."""

    def __init__(self, plans: Sequence[Plan], dialer: Dialer, address: Address) -> None:
        self._plans = plans
        self._dialer = dialer
        self._calls = Calls(dialer, address, PATIENCE)
        self._stopping = threading.Event()
        self._scheduler = BackgroundScheduler(
            executors={"default": ThreadPoolExecutor(THREADS)},
            job_defaults={"coalesce": True, "max_instances": 1, "misfire_grace_time": None},
            timezone="UTC",
        )
        self._waiting: set[str] = set()  # tasks whose answer has not come; each changed by its own thread alone
        self.trouble = False  # as servers have it, for `serve`

    @property
    def busy(self) -> bool:
        """Whether answers are waited for."""
        return bool(self._waiting)

    def check(self) -> None:
        """One look whether the nameserver is there, and lets us do our work; raises where not."""
        calls = Calls(self._dialer, self._calls.address, patience=0.0)
        try:
            level = dict(calls("hello"))["level"]
        finally:
            calls.close()
        if level != Level.ADMIN.name:
            raise PermissionDenied(
                f"background tasks are for administrators; this certificate has level {level}",
                "give the certificate of an administrator: --certfile, --keyfile",
            )

    def start(self) -> None:
        """Run every task now, and then at its time."""
        now = datetime.now(UTC)  # noqa: TID251 - the scheduler's own clock
        for plan in self._plans:
            self._scheduler.add_job(self._scheduled, "interval", (plan,), seconds=plan.every, next_run_time=now)
        self._scheduler.start()
        log.info("%d tasks are run at the nameserver at %s", len(self._plans), self._calls.address)

    def stop(self, drain: float = 5.0) -> None:
        """Begin nothing more, and leave what runs some time.  What the nameserver has begun it ends by itself."""
        self._stopping.set()
        if self._scheduler.running:
            self._scheduler.shutdown(wait=False)
        deadline = time.monotonic() + drain
        while self.busy and time.monotonic() < deadline:
            time.sleep(0.05)
        self._calls.close()

    def once(self) -> bool:
        """Run each task once, in the order of the schedule; whether all went well."""
        went_well = [self._tried(plan) for plan in self._plans]
        return all(went_well)

    def _tried(self, plan: Plan) -> bool:
        try:
            self._run(plan)
        except GogglesError as error:
            log.error("task %s: %s", plan.name, error)
            return False
        return True

    def _scheduled(self, plan: Plan) -> None:
        """Wait for the nameserver, however long it takes: a task that runs once a day must not miss its day."""
        while not self._stopping.is_set():
            try:
                self._run(plan)
                return
            except CertificateError as error:
                log.error("task %s: %s", plan.name, error)
                return
            except GogglesError as error:
                if self._stopping.is_set():
                    return
                log.warning("task %s: %s", plan.name, error)
                if not isinstance(error, Unavailable) or self._calls.connected:
                    return
            self._stopping.wait(PAUSE)

    def _run(self, plan: Plan) -> int:
        values = tuple((key, tuple(v) if isinstance(v, list) else v) for key, v in plan.values.items())
        limit = (plan.soft_timeout or LONGEST) + GRACE
        self._waiting.add(plan.name)
        try:
            count = self._calls("run_plan", plan.kind, values, plan.name, plan.soft_timeout, timeout=limit)
        finally:
            self._waiting.discard(plan.name)
        log.log(logging.INFO if count else logging.DEBUG, "task %s: %d done", plan.name, count)
        return int(count)
