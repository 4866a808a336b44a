"""What every kind of fault has in common; `faults.TABLE` names them all."""

from __future__ import annotations

import random
from collections.abc import Sequence

from tests.chaos.site import CLIENTS, SERVERS, Site

from goggles.client.session import Session

ALL = (*SERVERS, *CLIENTS)


class Fault:
    """Something that goes wrong with a site at random moments, `weight` times as often as others.

    Law: all chance comes from `chance`; what `strike` does is written down with `site.note`."""

    weight = 2
    damages = False  # takes bytes away from a disk
    network = ""  # of NETWORKS, what must be between the processes

    def __init__(self, site: Site, chance: random.Random) -> None:
        self.site = site
        self.chance = chance
        site.environments.append(self.environment)

    @staticmethod
    def why_not() -> str:
        """Why this can not be done on this machine; empty where it can."""
        return ""

    def prepare(self) -> None:
        """Before the first process starts."""

    def environment(self, name: str) -> dict[str, str]:
        """What a process is started with that comes back."""
        return {}

    def strike(self) -> None:
        """Do it."""

    def end(self) -> None:
        """No more of it; called before everything is brought back."""

    def settle(self, fs: Session) -> None:
        """What an administrator does about it when everything runs again."""

    def excused(self, digest: str) -> bool:
        """Whether a range of the file with these bytes may have been read wrong."""
        return False

    def close(self) -> None:
        """Take away what is outside the folder; called when all processes are gone."""

    def some(self, names: Sequence[str], most: int = 3) -> list[str]:
        return self.chance.sample(list(names), self.chance.choice((1, 1, 1, *range(2, most + 1))))
