"""The network between two of the parties is cut, silent, slow, or loses packets, while all others hear each other.

Allowed: an operation that was under way has an unknown outcome.  All else holds."""

from __future__ import annotations

from functools import partial

from tests.chaos.fault import ALL, SERVERS, Fault
from tests.chaos.lines import Lines


class _OnLine(Fault):
    needs_lines = True
    what = ""

    def strike(self) -> None:
        server = self.chance.choice(SERVERS)
        others = self.some([name for name in ALL if name != server])
        if self.chance.random() < 0.2:
            others = [name for name in ALL if name != server]
        seconds = self.chance.choice((0.1, 1, 3, 6))
        for other in others:
            self.begin(self._lines, server, other)
            self.site.later(seconds, partial(self._lines.heal, server, other))
        self.site.note(f"{self.what} between {server} and {', '.join(others)} for {seconds} s")

    @property
    def _lines(self) -> Lines:
        assert self.site.lines is not None
        return self.site.lines

    def begin(self, lines: Lines, one: str, other: str) -> None:
        raise NotImplementedError

    def end(self) -> None:
        self._lines.heal_all()


class Cut(_OnLine):
    """Connections break, and none comes about."""

    what = "cut"

    def begin(self, lines: Lines, one: str, other: str) -> None:
        lines.refuse(one, other)


class Silence(_OnLine):
    """Nothing passes, and nobody is told; what waits arrives afterwards."""

    what = "silence"

    def begin(self, lines: Lines, one: str, other: str) -> None:
        lines.way(one, other).silent = True


class Delay(_OnLine):
    """Each piece comes late."""

    what = "delay"

    def begin(self, lines: Lines, one: str, other: str) -> None:
        lines.way(one, other).delay = self.chance.choice((0.01, 0.05, 0.2))


class Loss(_OnLine):
    """Packets are lost: some pieces wait until they are sent again."""

    what = "loss"

    def begin(self, lines: Lines, one: str, other: str) -> None:
        lines.way(one, other).loss = self.chance.choice((0.05, 0.2))
