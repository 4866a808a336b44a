"""Messages that are too large, too deep, too slow, too many or only half there; what that costs, and who notices.

Law: whatever is sent, the process stays below a bound of memory, ends only the connection that it came from, and serves
honest callers meanwhile.
"""

from __future__ import annotations

import contextlib
import struct
import threading
import time
import zlib
from collections.abc import Callable, Iterator

import pytest
from tests.attacks import hostile as h
from tests.attacks.conftest import MIB, calls, data, files, resident
from tests.attacks.hostile import Bytes, Calls, Gone, Line, Refused, brine

from goggles.client.session import Session
from goggles.testing.cluster import Cluster

GROWTH = 300  # MiB that an attack may cost: the room for large messages (256 MiB), and some
HONEST = 3.0  # seconds that an honest call may take meanwhile, on a machine that has more to do
FRAME = 32 * MIB


@contextlib.contextmanager
def watched(site: Cluster, at: str = "nameserver") -> Iterator[None]:
    """An honest caller all the while; its longest call and the memory of the server are bounded."""
    began, waits, sizes, over = resident(site, at), list[float](), list[int](), threading.Event()

    def honest() -> None:
        with calls(site, "honest", at="" if at == "nameserver" else at) as line:
            while not (over.wait(0.05) and waits):
                since = time.monotonic()
                assert line.value("health")[0] == "well"
                waits.append(time.monotonic() - since)
                sizes.append(resident(site, at))

    caller = threading.Thread(target=honest)
    caller.start()
    try:
        yield
    finally:
        over.set()
        caller.join(30)
    assert waits, "the honest caller was served"
    print(f"{at}: {len(waits)} calls, longest {max(waits):.3f} s; {began} MiB before, {max(sizes)} MiB at most")
    assert max(waits) < HONEST
    assert max(sizes) - began < GROWTH


def message(body: bytes) -> bytes:
    """A request as its number and what comes behind."""
    return b"\1\x11" + brine(1) + body


def wide(item: bytes, size: int = FRAME - 64) -> bytes:
    count = size // len(item)
    return message(b"\x15" + struct.pack("!L", count) + item * count)


BOMBS: dict[str, Callable[[], bytes]] = {
    "tuples in tuples": lambda: message(b"\x10" * 1_000_000),
    "tuples in tuples, told otherwise": lambda: message(b"\x14\1" * 500_000),
    "tuples in tuples, told in four bytes": lambda: message(b"\x15\0\0\0\1" * 200_000),
    "frozensets in frozensets": lambda: message(b"\x1a" * 1_000_000),
    "slices in slices": lambda: message(b"\x19\x12\0\0" * 300_000),
    "texts in texts": lambda: message(b"\x08" * 1_000_000),
    "millions of values": lambda: wide(b"\0"),
    "millions of tuples": lambda: wide(b"\x10\0"),
    "millions of numbers": lambda: wide(b"\x16\x0a1234567890"),
    "millions of fractions": lambda: wide(b"\x18" + b"\x40" * 8),
    "a tuple of 4,294,967,295": lambda: message(b"\x15\xff\xff\xff\xff\0"),
    "4 GiB of bytes": lambda: message(b"\x0f\xff\xff\xff\xff\0"),
    "a number of a million digits": lambda: message(b"\x17" + struct.pack("!L", MIB) + b"9" * MIB),
    "a number that is none": lambda: message(b"\x16\4nine"),
    "no number at all": lambda: message(b"\x16\0"),
    "text that is not UTF-8": lambda: message(b"\x08\x0b\xff\xfe"),
    "a kind that there is not": lambda: message(b"\xff"),
    "too short": lambda: b"\1\x11",
    "too long": lambda: message(brine((1, 2)) + b"\0"),
    "nothing": lambda: b"",
}


@pytest.mark.parametrize("at", ["nameserver", "alice"])
@pytest.mark.parametrize("packed", [False, True], ids=["plain", "compressed"])
def test_bombs_of_brine_end_their_own_connection(site: Cluster, fs: Session, packed: bool, at: str) -> None:
    alive = []
    with watched(site, at):
        for bomb, make in BOMBS.items():
            payload = make()
            with calls(site, at="" if at == "nameserver" else at) as line:
                line.get_root()
                with contextlib.suppress(Gone):
                    line.frame(zlib.compress(payload, 1) if packed else payload, packed)
                alive += [] if line.ended() else [bomb]
    assert alive == []


def test_many_bombs_at_once(site: Cluster, fs: Session) -> None:
    bomb = zlib.compress(wide(b"\x10\0"), 9)
    assert len(bomb) < 64 << 10
    with watched(site), contextlib.ExitStack() as stack:
        lines = [stack.enter_context(calls(site)) for _ in range(20)]
        for line in lines:
            line.frame(bomb, compressed=True)
        assert all(line.ended() for line in lines)


@pytest.mark.parametrize("payload", [b"x" * 1000, zlib.compress(b"x" * 100)[:-20], zlib.compress(b"\0" * FRAME * 4, 9)])
def test_what_can_not_be_decompressed_ends_its_own_connection(site: Cluster, fs: Session, payload: bytes) -> None:
    with watched(site), calls(site) as line:
        line.frame(payload, compressed=True)
        assert line.ended()


@pytest.mark.parametrize("at", ["nameserver", "alice"])
def test_a_frame_that_is_announced_too_long_is_not_read(site: Cluster, fs: Session, at: str) -> None:
    with watched(site, at):
        for size in (FRAME + 1, 1 << 31, 0xFFFFFFFF):
            with calls(site, at="" if at == "nameserver" else at) as line:
                line.raw(struct.pack("!LB", size, 0))
                assert line.ended(5)


def test_half_frames_of_many_take_no_more_than_the_room_for_them(site: Cluster, fs: Session) -> None:
    """Each sends 32 MiB but for the last byte, and waits."""
    with watched(site), contextlib.ExitStack() as stack:
        lines = [stack.enter_context(calls(site)) for _ in range(12)]
        for line in lines:
            with contextlib.suppress(Gone):
                line.raw(struct.pack("!LB", FRAME, 0))
                line.raw(b"\0" * (FRAME - 1))
        gone = sum(line.ended(0.2) for line in lines)
    assert gone >= 10, "one principal has room for two of them"


def test_a_large_message_of_an_honest_caller_is_taken_after_all(site: Cluster, fs: Session) -> None:
    with calls(site, "honest") as line, pytest.raises(Refused) as error:
        line.value("stat", "/" + "x" * (8 * MIB))
    assert error.value.code == "limit"
    paths = tuple(f"/{number}-{'x' * 250}" for number in range(1000))
    with calls(site, "honest") as line:
        assert len(line.value("stat_many", paths)) == 1000


def test_bytes_that_come_one_by_one_hold_up_nobody(site: Cluster, fs: Session) -> None:
    whole = struct.pack("!LB", 100, 0) + b"\1" * 100
    with watched(site), contextlib.ExitStack() as stack:
        slow = [stack.enter_context(calls(site)) for _ in range(30)]
        for place in range(30):
            for line in slow:
                line.raw(whole[place : place + 1])
            time.sleep(0.05)


def test_hundreds_of_thousands_of_tiny_messages(site: Cluster, fs: Session) -> None:
    """Pings of which nobody reads the answers: the server stops reading before it keeps them."""
    ping = b"\1" + brine((1, (h.PING, (h.TUPLE, ((h.VALUE, "x"),)))))
    frame = struct.pack("!LB", len(ping), 0) + ping + b"\n"
    with watched(site), calls(site) as line:
        line.sock.settimeout(2)
        sent, until = 0, time.monotonic() + 8
        with contextlib.suppress(TimeoutError, Gone):
            while time.monotonic() < until:
                line.raw(frame * 2_000)
                sent += 2_000
    assert sent > 2_000


def test_one_principal_alone_can_not_take_every_connection(site: Cluster, fs: Session) -> None:
    """With a bound of its own: the default is 1,000 of 2,000."""
    from goggles.wire.server import Limits

    assert (Limits().each, Limits().connections) == (1_000, 2_000)


# --- the data plane --------------------------------------------------------------------------


def garbage() -> dict[str, bytes]:
    head = struct.Struct("!IB")
    bombs = {name: BOMBS[name]()[3:][: MIB - 64] for name in BOMBS if name not in ("too short", "nothing")}
    found = {f"a request with {name}": head.pack(len(body), h.ASK) + body for name, body in bombs.items()}
    found |= {f"kind {kind}": head.pack(4, kind) + b"\2\2\2\2" for kind in (0, 7, 255)}
    found |= {
        f"{size} bytes of kind {kind}": head.pack(size, kind) for kind in range(1, 7) for size in (MIB + 1, 0xFFFFFFFF)
    }
    return found | {"an end before a request": head.pack(1, h.END) + b"\2", "data first": head.pack(1, h.DATA) + b"x"}


def test_garbage_on_the_data_plane_ends_its_own_connection(site: Cluster, fs: Session) -> None:
    alive = []
    with watched(site, "alice"):
        for what, body in garbage().items():
            with data(site) as line:
                with contextlib.suppress(Gone):
                    line.raw(body)
                alive += [] if line.ended() else [what]
    assert alive == []
    assert b"".join(fs.read("/kept")) == b"kept"


def test_calls_on_the_data_plane_and_bytes_on_the_other(site: Cluster, fs: Session) -> None:
    line: Line
    with calls(site, at="alice", alpn="goggles-data") as line:
        line.frame(b"\1" + brine((1, (h.GETROOT, (h.TUPLE, ())))))
        assert line.ended()
    with Bytes(site.port, files(site)) as line:
        assert line.ended(), "a nameserver has no data plane"
    for alpn in ("", "h2", "http/1.1"):
        with calls(site, alpn=alpn) as talk:
            assert talk.value("health")[0] == "well"


def test_a_line_of_calls_can_be_used_for_a_long_time(site: Cluster) -> None:
    """What is refused costs nothing that stays."""
    with calls(site) as line:
        assert isinstance(line, Calls)
        before = resident(site)
        for _ in range(3_000):
            with contextlib.suppress(Refused):
                line.ask(h.GETATTR, line.get_root(), h.box("__class__"))
        assert resident(site) - before < 30
