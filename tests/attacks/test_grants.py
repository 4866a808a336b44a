"""Grants that ran out, that were used, or that are for something else: each kind of request, to real processes."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

import pytest
from tests.attacks import hostile as h
from tests.attacks.conftest import QUICK, calls, data, files
from tests.attacks.granted import BODY, SHA, Opened, read_hop, refusal
from tests.attacks.hostile import Bytes, Refused

from goggles import clock
from goggles.contracts.grants import LIFETIME
from goggles.roles import Role
from goggles.testing.cluster import Cluster, wait_until


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """A site of two storages whose processes are stopped and started here."""
    folder = tmp_path_factory.mktemp("granted") / "site"
    with Cluster(folder, ("alice", "bob"), nameserver_flags=(*QUICK, "--grace", "30")) as made:
        with made.connect() as fs:
            fs.write("/kept", b"kept")
        yield made


def writes(grant: bytes) -> list[tuple[Any, ...]]:
    """All that a grant to write could be used for."""
    many = ("write_many", 0, ((grant, len(BODY), SHA, ()),))
    return [("write", grant, 0, ()), ("resume", grant, 0, (), 1), ("staged", grant, 0, ()), many]


def reads(grant: bytes) -> list[tuple[Any, ...]]:
    """All that a grant to read could be used for."""
    return [("read", grant, 0, 4, 0), ("read_many", 0, ((grant, 4),)), ("read_quarantined", grant, 0, 4, 0)]


def code(line: Bytes, request: tuple[Any, ...]) -> str:
    """Why it was refused; '' where it was not.  Bytes are sent where they are due."""
    with line:
        line.send(h.ASK, request)
        if request[0] == "write_many":
            line.frame(h.DATA, BODY)
            line.send(h.END, ())
        try:
            answer = line.answer()
        except Refused as error:
            return error.code
    if request[0] == "read_many":
        return "" if isinstance(answer[0], int) else str(answer[0][0])
    return str(dict(answer[0][0])["code"]) if request[0] == "write_many" else ""


def codes(site: Cluster, at: str, requests: list[tuple[Any, ...]], name: str = "mallory") -> list[str]:
    return [code(data(site, at, name), request) for request in requests]


def staged(site: Cluster, name: str) -> list[str]:
    return os.listdir(site.root(name) / ".goggles/staging")


def test_a_grant_that_has_run_out_is_good_for_nothing(own: Cluster) -> None:
    """The clock of a storage is past the end of every grant."""
    late = {clock.SHIFT: str(LIFETIME + 60)}
    names = list(own.names)
    for name in names:
        own.storages[name].stop()
        own.start_storage(name, environment=late)
    wait_until("both know the site", lambda: set(own.states().values()) == {"active"})
    opened = Opened(own, "/new")
    try:
        hop = read_hop(own)
        assert codes(own, hop["name"], reads(hop["grant"])) == ["denied"] * 3
        assert codes(own, opened.name, writes(opened.grant)) == ["denied"] * 4
        assert staged(own, opened.name) == []
    finally:
        opened.drop()
        for name in names:
            own.storages[name].stop()
            own.start_storage(name)
        own.wait_active(names)
    hop = read_hop(own)
    assert codes(own, hop["name"], reads(hop["grant"])) == ["", "", "denied"], "the same, in time"


def test_a_grant_to_read_is_for_one_version_at_one_path(own: Cluster) -> None:
    with own.connect() as fs:
        fs.write("/here", b"here")
        fs.write("/other", b"else")
        hop = read_hop(own, "/here")
        requests = reads(hop["grant"])[:2]
        assert codes(own, hop["name"], requests) == ["", ""]
        fs.mv("/here", "/there")
        own.wait_settled()
        assert codes(own, hop["name"], requests) == ["not_found"] * 2
        fs.mv("/other", "/here")
        own.wait_settled()
        assert codes(own, hop["name"], requests) == ["stale"] * 2, "what stands there now is another file"
        fs.rm("/here")
        fs.rm("/there")
        own.wait_settled()
        assert codes(own, hop["name"], requests) == ["not_found"] * 2


def test_a_grant_to_write_is_for_one_holder_and_one_storage(own: Cluster) -> None:
    opened = Opened(own, "/new")
    other = opened.hops[1]["name"]
    try:
        assert codes(own, opened.name, writes(opened.grant), name="ann") == ["denied"] * 4
        assert codes(own, other, writes(opened.grant)) == ["denied"] * 4, "another storage"
        assert codes(own, other, writes(opened.hops[1]["grant"])) == ["denied"] * 4, "it is for the first of the chain"
        assert codes(own, opened.name, reads(opened.grant)) == ["denied"] * 3
        with Bytes(own.ports[other], files(own, opened.name, Role.STORAGE)) as line:
            assert line.ask("staged", opened.hops[1]["grant"], 0, ()) == (0,), "who has it, and holds it"
        assert staged(own, opened.name) == staged(own, other) == []
    finally:
        opened.drop()


@pytest.mark.parametrize("end", ["commit", "drop"])
def test_a_grant_to_write_is_used_once(own: Cluster, end: str) -> None:
    opened = Opened(own, "/once")
    assert dict(opened.send()[0])["code"] == ""
    assert codes(own, opened.name, [one for one in writes(opened.grant) if one[0] != "staged"]) == ["conflict"] * 3
    getattr(opened, end)()
    own.wait_settled()
    again = [one for one in writes(opened.grant) if one[0] != "staged"]
    due = "conflict" if end == "commit" else "upload_lost"
    assert codes(own, opened.name, again) == [due] * 3
    with opened.line() as line:
        assert line.ask("staged", opened.grant, 0, ()) == (0,)
    assert staged(own, opened.name) == []
    with own.connect() as fs:
        if end == "commit":
            assert b"".join(fs.read("/once")) == BODY
            fs.rm("/once")
        assert not fs.exists("/once")


def test_grants_of_a_nameserver_that_is_gone_are_good_until_the_one_after_it_is_gone_too(own: Cluster) -> None:
    hop = read_hop(own)
    for due in ("", "stale"):
        assert own.nameserver is not None
        own.nameserver.kill()
        own.start_nameserver()
        own.wait_active(own.names)
        assert code(data(own, hop["name"]), reads(hop["grant"])[0]) == due
    with pytest.raises(Refused), calls(own) as line:
        line.value("commit", "0" * 32, len(BODY), SHA)
    assert refusal(data(own, hop["name"]), "read", b"", 0, 4, 0) == "stale"
