"""The network between two of the parties is cut, silent, slow, or loses packets, while all others hear each other.

On lines, a proxy's, what was sent is acknowledged and waits in the proxy, and a connection can be broken at will.  On
wires, the kernel's, what is cut is lost and sent again; whether a connection survives it is for its two ends to say.

Allowed: an operation that was under way has an unknown outcome.  All else holds."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from tests.chaos import wires
from tests.chaos.fault import ALL, SERVERS, Fault
from tests.chaos.lines import Lines
from tests.chaos.site import LINES, WIRES
from tests.chaos.wires import Wires


class _Between(Fault):
    """Something that happens between a server and some others."""

    def pairs(self) -> tuple[str, list[str]]:
        server = self.chance.choice(SERVERS)
        others = self.some([name for name in ALL if name != server])
        if self.chance.random() < 0.2:
            others = [name for name in ALL if name != server]
        return server, others


class _OnLine(_Between):
    network = LINES
    what = ""

    def strike(self) -> None:
        server, others = self.pairs()
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


class _OnWire(_Between):
    network = WIRES
    what = ""
    told = False

    @staticmethod
    def why_not() -> str:
        return wires.why_not()

    def strike(self) -> None:
        server, others = self.pairs()
        ways = [way for other in others for way in ((server, other), (other, server))]
        self.cut(f"{self.what} between {server} and {', '.join(others)}", ways)

    def cut(self, words: str, ways: Sequence[tuple[str, str]]) -> None:
        """Cut the ways from each of these senders to its receiver, for a while."""
        seconds, numbers = self.seconds(), [self._wires.lose(*way, told=self.told) for way in ways]
        for number in numbers:
            self.site.later(seconds, partial(self._wires.mend, number))
        self.site.note(f"{words} for {seconds} s")

    def seconds(self) -> float:
        return self.chance.choice((0.1, 1, 3, 6, 6, 12, 20))

    @property
    def _wires(self) -> Wires:
        assert self.site.wires is not None
        return self.site.wires

    def end(self) -> None:
        self._wires.heal_all()


class Blackout(_OnWire):
    """All packets are lost, and nobody is told."""

    what = "blackout"


class OneWay(_OnWire):
    """All packets in one direction are lost: who sends them hears no acknowledgement, the other one hears nothing."""

    def strike(self) -> None:
        server, others = self.pairs()
        if self.chance.random() < 0.5:
            self.cut(f"one way lost, from {server} to {', '.join(others)},", [(server, other) for other in others])
        else:
            self.cut(f"one way lost, to {server} from {', '.join(others)},", [(other, server) for other in others])


class Unreachable(_OnWire):
    """All packets are lost, and who sends one is told."""

    what = "no route"
    told = True


class Unplugged(_OnWire):
    """The wire of a party hangs loose: it hears nobody, and who sends it something is told."""

    def strike(self) -> None:
        seconds = self.seconds()
        for name in self.some(ALL, 2):
            self._wires.unplug(name)
            self.site.later(seconds, partial(self._wires.plug_in, name))
            self.site.note(f"unplug {name} for {seconds} s")
