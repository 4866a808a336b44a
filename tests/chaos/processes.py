"""Processes die, stand still, die at a step that has a name, and come back with another time of day.

Allowed: an operation that was under way has an unknown outcome.  All else holds."""

from __future__ import annotations

import random
import signal
from functools import partial

from tests.chaos.fault import ALL, SERVERS, Fault
from tests.chaos.points import SELF_CHECK, TOGETHER, TRASH, TRIM, ordinary
from tests.chaos.site import Site

from goggles import failpoints
from goggles.client.session import Session
from goggles.clock import SHIFT
from goggles.testing.cluster import Process

STEPS = sorted({*ordinary(), *SELF_CHECK, *TOGETHER, *TRIM, *TRASH})
NAMESERVER_POINTS = [name for name in STEPS if name.startswith("nameserver.")]
STORAGE_POINTS = [name for name in STEPS if name.startswith("storage.")]
SHIFTS = (-3_000, -100, -1, 1, 100, 10_000)  # seconds; less than a receipt is kept for, and certificates hold


class Kill(Fault):
    """SIGKILL."""

    weight = 4

    def strike(self) -> None:
        for name in self.some(SERVERS if self.chance.random() < 0.8 else ALL):
            self.site.note(f"kill {name}")
            self.site.processes()[name].kill()


class Restart(Fault):
    """SIGTERM: a server ends as it should, and comes back."""

    def __init__(self, site: Site, chance: random.Random) -> None:
        super().__init__(site, chance)
        self._ending: list[Process] = []

    def strike(self) -> None:
        for name in self.some(SERVERS, 2):
            self.site.note(f"end {name}")
            self._ending.append(self.site.processes()[name])
            self._ending[-1].signal(signal.SIGTERM)

    def end(self) -> None:
        for process in self._ending:
            process.stop()


class Stop(Fault):
    """SIGSTOP for a while; longer than a storage's heartbeats are waited for, at times."""

    weight = 3

    def strike(self) -> None:
        for name in self.some(SERVERS if self.chance.random() < 0.8 else ALL):
            seconds = self.chance.choice((0.1, 0.5, 2, 5))
            self.site.note(f"stop {name} for {seconds} s")
            process = self.site.processes()[name]
            process.signal(signal.SIGSTOP)
            self.site.later(seconds, partial(process.signal, signal.SIGCONT))


class Step(Fault):
    """A server that comes back kills itself at a step that has a name."""

    weight = 0

    def environment(self, name: str) -> dict[str, str]:
        if name not in SERVERS or self.chance.random() > 0.4:
            return {}
        points = NAMESERVER_POINTS if name == "nameserver" else STORAGE_POINTS
        return {failpoints.ENVIRONMENT: f"{self.chance.choice(points)}=crash@{self.chance.randint(1, 20)}"}


class Clocks(Fault):
    """Everyone who comes back has another time of day, hours apart."""

    weight = 0

    def environment(self, name: str) -> dict[str, str]:
        return {SHIFT: str(self.chance.choice(SHIFTS))}


class Drain(Fault):
    """A storage is emptied, and used again later: an administrator's work, while all else goes on."""

    weight = 1

    def strike(self) -> None:
        name = self.chance.choice(SERVERS[1:])
        self.site.ask(f"drain {name}", lambda fs: fs.drain(name))
        self.site.later(self.chance.uniform(2, 8), partial(self._use, name))

    def _use(self, name: str) -> None:
        self.site.ask(f"use {name} again", lambda fs: fs.drain(name, on=False))

    def settle(self, fs: Session) -> None:
        for name in SERVERS[1:]:
            fs.drain(name, on=False)
