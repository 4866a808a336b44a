"""Real wires between the processes of a site, which can be cut between any two of them, in either direction.

Law: each party has a network namespace of its own and one wire to a router in the midst, and nothing else joins them.
What is cut is cut in the kernel: bytes and their acknowledgements are lost alike, and TCP sends them again when it
sees fit.  Whoever makes the wires is joined to the router too, by a wire that is never cut.

Several may be made side by side: names hold the process id of their maker, and each has a block of addresses to
itself, claimed by the route to it.  What a maker left behind that is gone is swept away by the next one.
"""

from __future__ import annotations

import contextlib
import functools
import itertools
import os
import random
import re
import secrets
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

MARK = "goggles"
BLOCKS = [f"198.{18 + high}.{low}" for high in range(2) for low in range(256)]  # RFC 2544: for tests of networks
MOST = 62  # parties: a block of 256 addresses has 64 wires of 4, one of them its maker's
TRIES = 20
FIRST = 100  # preference of the first rule


class WiresError(Exception):
    """The kernel, or `ip`, would not do it; says what."""


class _Taken(WiresError):
    """Somebody else has this block of addresses."""


class Wires:
    """A wire for each party of these `names`, up to `close`."""

    def __init__(self, names: Sequence[str]) -> None:
        if len(names) > MOST:
            raise WiresError(f"{len(names)} parties, {MOST} at most")
        _sweep()
        self._mark = f"{MARK}-{os.getpid()}-{secrets.token_hex(2)}"
        self._places = {name: place for place, name in enumerate(names, 1)}
        self._preferences = itertools.count(FIRST)
        self._lost: set[int] = set()  # preferences of the rules that there are
        self._unplugged: list[str] = []  # a name for each time
        self._block = ""
        try:
            self._claim()
            for name, place in self._places.items():
                self._join(name, place)
        except BaseException:
            self.close()
            raise

    def address(self, name: str) -> str:
        return f"{self._block}.{4 * self._places[name] + 2}"

    def prefix(self, name: str) -> list[str]:
        """The words before a command that runs as this party; what they start becomes the command itself."""
        return ["nsenter", f"--net=/run/netns/{self._space(name)}", "--"]

    # --- what is cut -----------------------------------------------------------------------

    def lose(self, sender: str, receiver: str, *, told: bool = False) -> int:
        """What one sends to the other is lost from now on; the number to `mend` it with.

        `told`: the router says so to the sender."""
        number = next(self._preferences)
        rule = f"from {self.address(sender)} to {self.address(receiver)} {'prohibit' if told else 'blackhole'}"
        self._at_router(f"rule add pref {number} {rule}")
        self._lost.add(number)
        return number

    def mend(self, number: int) -> None:
        if number in self._lost:
            self._lost.discard(number)
            self._at_router(f"rule del pref {number}")

    def unplug(self, name: str) -> None:
        """The wire of this party hangs loose; everybody else is told by the router."""
        self._unplugged.append(name)
        self._at_router(f"link set {self._plug(name)} down")

    def plug_in(self, name: str) -> None:
        """As often as it was unplugged."""
        if name in self._unplugged:
            self._unplugged.remove(name)
            if name not in self._unplugged:
                self._at_router(f"link set {self._plug(name)} up")

    def heal_all(self) -> None:
        for number in list(self._lost):
            self.mend(number)
        for name in list(self._unplugged):
            self.plug_in(name)

    # --- how they are made -----------------------------------------------------------------

    @property
    def _router(self) -> str:
        return f"{self._mark}-router"

    def _space(self, name: str) -> str:
        return f"{self._mark}-{name}"

    @property
    def _end(self) -> str:
        """Our end of our wire; the kernel takes 15 characters."""
        return f"go{self._mark.removeprefix(MARK)}"[:15]

    def _plug(self, name: str) -> str:
        return f"wire{self._places[name]}"

    def _at_router(self, *commands: str) -> None:
        _ip(*commands, space=self._router)

    def _claim(self) -> None:
        """Make the router and our own wire to it, in a block of addresses that nobody has."""
        for self._block in random.SystemRandom().sample(BLOCKS, TRIES):
            with contextlib.suppress(_Taken):
                return self._make_router()
            self._drop_router()
        raise WiresError(f"{TRIES} blocks of addresses like {self._block}.0/24 have an owner")

    def _make_router(self) -> None:
        end = self._end
        _ip(f"netns add {self._router}")
        self._at_router("link set lo up", f"link add wire0 type veth peer name {end} netns {os.getpid()}")
        self._at_router(f"addr add {self._block}.1/30 dev wire0", "link set wire0 up")
        _ip(f"addr add {self._block}.2/30 dev {end}", f"link set {end} up")
        _ip(f"route add {self._block}.0/24 via {self._block}.1")
        forward = f"--net=/run/netns/{self._router}", "sh", "-c", "echo 1 > /proc/sys/net/ipv4/ip_forward"
        _run("nsenter", *forward)

    def _join(self, name: str, place: int) -> None:
        space, near, far = self._space(name), 4 * place + 1, 4 * place + 2
        _ip(f"netns add {space}")
        self._at_router(
            f"link add {self._plug(name)} type veth peer name wire netns {space}",
            f"addr add {self._block}.{near}/30 dev {self._plug(name)}",
            f"link set {self._plug(name)} up",
        )
        here = ("link set lo up", f"addr add {self._block}.{far}/30 dev wire", "link set wire up")
        _ip(*here, f"route add default via {self._block}.{near}", space=space)

    def _drop_router(self) -> None:
        with contextlib.suppress(WiresError):  # a namespace goes later than its name; our end of the wire goes now
            _ip(f"link del {self._end}")
        _remove([self._router])

    def close(self) -> None:
        """Take it all away.  Processes that run yet are cut off for good."""
        self._drop_router()
        _remove([space for space in _spaces() if space.startswith(f"{self._mark}-")])


# --- the kernel's side -----------------------------------------------------------------------


def _run(*words: str, given: str = "") -> str:
    done = subprocess.run(words, input=given, check=False, capture_output=True, text=True)
    if done.returncode:
        said = (done.stderr.strip() or done.stdout.strip()).splitlines()
        kind = _Taken if "route add" in given and "File exists" in done.stderr else WiresError
        raise kind(f"{said[0] if said else f'{words[0]} ended with {done.returncode}'} ({given.strip()})")
    return done.stdout


def _ip(*commands: str, space: str = "") -> None:
    """Have `ip` carry out these commands, up to the first that fails."""
    where = ["-n", space] if space else []
    _run("ip", *where, "-batch", "-", given="\n".join(commands) + "\n")


def _spaces() -> list[str]:
    """The names of all network namespaces that are made here."""
    with contextlib.suppress(OSError):
        return [path.name for path in Path("/run/netns").iterdir() if path.name.startswith(f"{MARK}-")]
    return []


def _remove(spaces: Sequence[str]) -> None:
    for space in spaces:
        with contextlib.suppress(WiresError):  # somebody else may sweep it away too
            _ip(f"netns del {space}")


def _sweep() -> None:
    """Take away what those left behind who are gone."""
    for space in _spaces():
        maker = re.match(rf"{MARK}-(\d+)-", space)
        if maker and not Path(f"/proc/{maker[1]}").exists():
            _remove([space])


@functools.cache
def why_not() -> str:
    """Why no wires can be made here, in one line; empty where they can."""
    missing = [program for program in ("ip", "nsenter") if not shutil.which(program)]
    if missing:
        return f"there is no {' and no '.join(missing)} here"
    try:
        wires = Wires(["a", "b"])
    except WiresError as error:
        return f"no network namespaces can be made and joined: {error}"
    try:
        wires.lose("a", "b")
        wires.lose("b", "a", told=True)
        _run(*wires.prefix("a"), "true")
    except WiresError as error:
        return f"the kernel can not cut between two network namespaces: {error}"
    finally:
        wires.close()
    return ""
