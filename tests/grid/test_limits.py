"""Every bound of docs/limits.md is reached, and says what the page says.

A row of the page without an entry in `REACHED` or `ELSEWHERE`, or the other way round, fails.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from goggles.errors import BY_CODE, GogglesError
from goggles.pki.context import Contexts, PkiFiles
from goggles.roles import Role
from goggles.testing.cluster import Cluster, wait_until
from goggles.wire import faults
from goggles.wire.data import HEADER, DataLink, Kind
from goggles.wire.dial import Address, Dialer, Peer
from goggles.wire.stream import MAX_FRAME

HOME = Path(__file__).resolve().parents[2]
PAGE = (HOME / "docs" / "limits.md").read_text()


def rows() -> dict[str, tuple[str, str, str]]:
    """What: (where, code, words)."""
    table = PAGE.partition("## Bounds")[2].partition("\n\n|")[2].partition("\n\n")[0]
    cells = [[cell.strip() for cell in line.strip("| ").split(" | ")] for line in table.splitlines()[2:]]
    return {row[0]: (row[2].strip("`"), row[3].strip("`"), row[4]) for row in cells}


def open_uploads(peer: Peer) -> None:
    answers = []
    for part in range(5):
        answers += peer.call("open_write_many", tuple((f"/{part} {number}", 0) for number in range(1_000)))
    refused = [answer for answer in answers if isinstance(answer[0], str)]
    tickets = [dict(answer)["upload"] for answer in answers if not isinstance(answer[0], str)]
    assert len(tickets) == 4_096
    assert list(peer.call_each("abandon", [(upload,) for upload in tickets])) == [None] * len(tickets)
    raise faults.from_tuple(*refused[0])


def announce_a_large_message(peer: Peer) -> None:
    peer._sock.sendall(peer._connection._channel.FRAME_HEADER.pack(MAX_FRAME + 1, 0))
    peer.call("hello")


REACHED: dict[str, Callable[[Peer], object]] = {
    "a message of a call": announce_a_large_message,
    "a text in a call": lambda peer: peer.call("stat", "/" + "x" * 16_384),
    "a tuple in a call": lambda peer: peer.call("stat_many", ("/",) * 10_001),
    "a number in a call": lambda peer: peer.call("scan", "/", "", 1 << 63),
    "a batch": lambda peer: peer.call("stat_many", ("/",) * 1_001),
    "a page of `scan`": lambda peer: peer.call("scan", "/", "", 10_001),
    "a name": lambda peer: peer.call("mkdir", "/" + "x" * 256, False, False, ""),
    "a path": lambda peer: peer.call("mkdir", "/x" * 2_049, False, False, ""),
    "copies of a file": lambda peer: peer.call("setrep", "/", 17),
    "a file": lambda peer: peer.call("open_write", "/f", (1 << 60) + 1, 0, ()),
    "room for a file": lambda peer: peer.call("open_write", "/f", 1 << 59, 0, ()),
    "open uploads of one principal": open_uploads,
}
# Reached by a test of its own: in this file, by this name.
ELSEWHERE = {
    "connections": ("tests/grid/test_wire.py", "test_the_number_of_connections_is_bounded_and_who_comes_late_is_told"),
    "connections of one principal, or of all of another site": (
        "tests/grid/test_wire.py",
        "test_the_number_of_connections_is_bounded_and_who_comes_late_is_told",
    ),
    "requests of users that are worked on": (
        "tests/grid/test_wire.py",
        "test_more_requests_than_are_worked_on_are_refused_at_once",
    ),
    "requests that read the database": (
        "tests/contract/test_databases.py",
        "test_more_readers_than_connections_wait_and_then_are_told_so",
    ),
    "handshakes under way": ("tests/grid/test_wire.py", "test_silent_callers_do_not_hold_up_others"),
    "a value on the data plane": ("tests/grid/test_limits.py", "test_a_large_value_on_the_data_plane_is_refused"),
    "`ls` of a directory in one rpyc call": ("tests/grid/test_limits.py", "test_a_wide_directory_is_listed_in_pages"),
}


@pytest.fixture
def peer(site: Cluster) -> Iterator[Peer]:
    made = site.dial("limited", Role.CLIENT)
    yield made
    made.close()


def test_every_bound_of_the_page_is_reached_and_has_its_words() -> None:
    assert set(rows()) == set(REACHED) | set(ELSEWHERE)
    assert [row for row in rows().values() if not all(row) or row[1] not in BY_CODE] == []
    for path, name in ELSEWHERE.values():
        assert f"def {name}(" in (HOME / path).read_text(), name
    source = "".join(path.read_text() for path in (HOME / "src").rglob("*.py"))
    for where, _, _ in rows().values():
        name = where.rpartition(".")[2].removeprefix("--")
        assert re.search(rf"\b{name}\b", source), f"there is no {where}"


@pytest.mark.parametrize("what", REACHED)
def test_a_bound_says_what_the_page_says(what: str, peer: Peer) -> None:
    _, code, words = rows()[what]
    with pytest.raises(GogglesError) as caught:
        REACHED[what](peer)
    assert (caught.value.code, words in caught.value.message) == (code, True), caught.value


def test_a_large_value_on_the_data_plane_is_refused(site: Cluster) -> None:
    files = site.certificates.files("limited", Role.CLIENT)
    dialer = Dialer(Contexts(PkiFiles(site.certificates.ca, *files)))
    link: DataLink = dialer.data(Address("localhost", site.ports["alice"]), Role.STORAGE, "alice")
    link._send(HEADER.pack((1 << 20) + 1, Kind.REQUEST))
    with pytest.raises(GogglesError):
        link.answer()
    link.close()
    words, log = rows()["a value on the data plane"][2], site.folder / "alice.log"
    wait_until(f"alice says {words}", lambda: words in log.read_text(), 10)


@pytest.mark.slow
@pytest.mark.timeout(240)
def test_a_wide_directory_is_listed_in_pages(cluster: Callable[..., Cluster]) -> None:
    site = cluster("alice", started=False, tidily=False)
    site.start_nameserver()  # and no storage, which would make all of them
    wait_until("it answers", lambda: site.states() == {} and answers(site))
    admin, peer = site.connect(), site.dial("limited", Role.CLIENT)
    admin.mkdir("/wide")
    admin.mkdirs([f"/wide/{number}" for number in range(50_001)])
    with pytest.raises(GogglesError) as caught:
        peer.call("ls", "/wide")
    peer.close()
    _, code, words = rows()["`ls` of a directory in one rpyc call"]
    assert (caught.value.code, words in caught.value.message) == (code, True)
    assert "scan(path, after, limit)" in caught.value.hint
    assert len(admin.ls("/wide")) == 50_001


def answers(site: Cluster) -> bool:
    try:
        site.dial("limited", Role.CLIENT).close()
    except GogglesError:
        return False
    return True
