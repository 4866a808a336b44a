"""All kinds of faults, and when they strike."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Sequence

from tests.chaos import cuts, disks, processes
from tests.chaos.fault import Fault
from tests.chaos.site import Site

TABLE: dict[str, type[Fault]] = {
    "kill": processes.Kill,
    "restart": processes.Restart,
    "stop": processes.Stop,
    "step": processes.Step,
    "clocks": processes.Clocks,
    "drain": processes.Drain,
    "cut": cuts.Cut,
    "silence": cuts.Silence,
    "delay": cuts.Delay,
    "loss": cuts.Loss,
    "blackout": cuts.Blackout,
    "one-way": cuts.OneWay,
    "unreachable": cuts.Unreachable,
    "unplugged": cuts.Unplugged,
    "full": disks.Full,
    "flip": disks.Flip,
    "older": disks.Older,
}
STEPS, PATIENCE = 15, 20.0  # operations, seconds


def possible() -> list[str]:
    """The kinds that this machine can do."""
    return [name for name, kind in TABLE.items() if not kind.why_not()]


def chosen(seed: int) -> list[str]:
    """The kinds of one campaign: about half of them, among them one that stops processes; on one network."""
    chance = random.Random(f"{seed} kinds")
    some = {name for name in TABLE if chance.random() < 0.5} | {chance.choice(("kill", "stop", "cut"))}
    found = [name for name in possible() if name in some]
    network = chance.choice(networks(found) or [""])
    return [name for name in found if TABLE[name].network in ("", network)]


def networks(kinds: Sequence[str]) -> list[str]:
    """What these kinds need between the processes; a site can have one of them."""
    return sorted({TABLE[name].network for name in kinds} - {""})


def copies(kinds: Sequence[str]) -> tuple[int, ...]:
    """The numbers of copies that clients may set."""
    return (2, 3, 4) if any(TABLE[name].damages for name in kinds) else (1, 2, 3, 4)


class Faults:
    """Strikes at random moments."""

    def __init__(self, site: Site, seed: str, kinds: Sequence[str]) -> None:
        self.all = [TABLE[name](site, random.Random(f"{seed} {name}")) for name in kinds]
        self._site = site
        self._chance = random.Random(seed)

    def run(self, over: threading.Event) -> None:
        """One fault after the other until `over`; the dead come back.

        On a slow machine the next waits until clients have done something since, or for PATIENCE."""
        striking, weights = [one for one in self.all if one.weight], [one.weight for one in self.all if one.weight]
        following, patience, wanted = time.monotonic() + 1, time.monotonic() + PATIENCE, STEPS
        while not over.wait(0.05):
            self._site.tick()
            self._site.tick_workers()
            now = time.monotonic()
            if striking and now >= following and (now >= patience or self._site.steps() >= wanted):
                self._chance.choices(striking, weights)[0].strike()
                now, wanted = time.monotonic(), self._site.steps() + STEPS
                following, patience = now + self._chance.uniform(0.5, 3.5), now + PATIENCE

    def end(self) -> None:
        """All run again, and none is armed.  What runs goes on: a start would mend what it must mend itself."""
        for fault in self.all:
            fault.end()
        self._site.tick(everything=True)
        self._site.disarm()
