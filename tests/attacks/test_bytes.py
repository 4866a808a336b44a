"""The data plane: grants that are forged, replayed, borrowed or old, and requests whose lengths lie."""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import json
import os
import time
from collections.abc import Iterator
from typing import Any

import pytest
from tests.attacks import hostile as h
from tests.attacks.conftest import MIB, QUICK, calls, data, files
from tests.attacks.granted import BODY, SHA, Opened, read_hop, refusal
from tests.attacks.hostile import Bytes, Refused

from goggles.client.session import Session
from goggles.roles import Role
from goggles.testing.cluster import Cluster, wait_until
from goggles.testing.fsck import fsck


@pytest.fixture
def opened(site: Cluster, fs: Session) -> Iterator[Opened]:
    made = Opened(site, "/new")
    yield made
    made.drop()


# --- grants ----------------------------------------------------------------------------------


def forged(grant: bytes) -> dict[str, bytes]:
    """Grants that nobody gave."""
    body, mac = grant[:-32], grant[-32:]
    values = json.loads(body)
    other = json.dumps([*values[:3], 1 << 50, *values[4:]], separators=(",", ":")).encode()
    return {
        "nothing": b"",
        "short": b"x" * 31,
        "no digest": body,
        "no body": mac,
        "more bytes": other + mac,
        "another key": other + hmac.digest(b"", other, "sha256"),
        "a key of zeros": other + hmac.digest(bytes(32), other, "sha256"),
        "one bit": grant[:-1] + bytes([grant[-1] ^ 1]),
        "behind": grant + b"\0",
        "not JSON": b"{" + hmac.digest(b"", b"{", "sha256"),
        "long": b"[" * 100_000,
    }


def test_grants_that_nobody_gave_are_refused(site: Cluster, opened: Opened) -> None:
    hop = read_hop(site)
    for fake in forged(hop["grant"]).values():
        assert refusal(data(site, hop["name"]), "read", fake, 0, 4, 0) == "stale"
    for fake in forged(opened.grant).values():
        assert refusal(opened.line(), "write", fake, 0, ()) == "stale"
        assert refusal(opened.line(), "append", fake, 0) == "stale"
        assert refusal(opened.line(), "arrived", fake) == "stale"


def test_the_grant_of_another_is_of_no_use(site: Cluster, opened: Opened) -> None:
    hop = read_hop(site, name="ann")
    other = next(name for name in site.names if name != hop["name"])
    with data(site, hop["name"], "ann") as line:
        assert line.ask("read", hop["grant"], 0, 4, 0) == (4,)
    for name, at, kind in [("mallory", hop["name"], "read"), ("ann", other, "read"), ("ann", hop["name"], "write")]:
        request = ("read", hop["grant"], 0, 4, 0) if kind == "read" else ("write", hop["grant"], 0, ())
        assert refusal(data(site, at, name), *request) == "denied"
    for role, name in [(Role.ADMIN, "root"), (Role.STORAGE, "bob"), (Role.NAMESERVER, "nameserver")]:
        assert (
            refusal(Bytes(site.ports[hop["name"]], files(site, name, role)), "read", hop["grant"], 0, 4, 0) == "denied"
        )
    assert refusal(opened.line(), "read", opened.grant, 0, 4, 0) == "denied"
    assert refusal(opened.line(), "append", opened.grant, 0) == "denied"
    assert refusal(data(site, opened.hops[1]["name"]), "write", opened.grant, 0, ()) == "denied"


def test_a_grant_for_reading_is_for_one_version(site: Cluster) -> None:
    with site.connect() as fs:
        fs.write("/changing", b"first")
        hop = read_hop(site, "/changing")
        fs.write("/changing", b"second")

        def code() -> str:
            with contextlib.suppress(AssertionError):
                return refusal(data(site, hop["name"]), "read", hop["grant"], 0, 5, 0)
            return "not yet"

        wait_until("the old version can not be read", lambda: code() in ("stale", "not_found"), 10)
        fs.rm("/changing")


def test_an_upload_that_is_written_again_fills_nothing_and_changes_nothing(tmp_path: Any) -> None:
    """The grant is good for twelve hours: before the commit, after it, and when the file is elsewhere."""
    with Cluster(tmp_path / "site", ("alice",), nameserver_flags=(*QUICK, "--copies", "1"), capacity=4 * MIB) as site:
        body = os.urandom(MIB)
        sha = hashlib.sha256(body).hexdigest()
        one = Opened(site, "/mine", MIB)
        assert dict(one.send(body)[0])["code"] == ""
        codes = set[str]()

        def again(line: Bytes) -> None:
            with pytest.raises(Refused) as error:
                one.send(os.urandom(MIB), line=line)
            codes.add(error.value.code)

        again(one.line())
        one.commit(sha, MIB)
        for _ in range(6):
            again(one.line())
        with site.connect() as fs:
            assert b"".join(fs.read("/mine")) == body
            fs.mv("/mine", "/moved")
            again(one.line())
            many = ("write_many", one.after, ((one.grant, MIB, sha, ()),))
            with one.line() as line:
                line.send(h.ASK, many)
                line.frame(h.DATA, body)
                line.send(h.END, ())
                assert dict(line.answer()[0][0])["code"] == "conflict"
            assert codes == {"conflict"}
            fs.write("/more", os.urandom(2 * MIB))
            assert b"".join(fs.read("/moved")) == body
        assert os.listdir(site.root("alice") / ".goggles/staging") == []
        site.wait_settled()
    assert fsck(site.database, {"alice": site.root("alice")}) == []


# --- requests --------------------------------------------------------------------------------

HUGE = [1 << 63, 1 << 200, -1, 1.5, float("nan"), float("inf"), "1", b"1", None, ()]


def malformed(grant: bytes) -> Iterator[tuple[Any, ...]]:
    for odd in HUGE:
        yield "read", grant, odd, odd, 0
        yield "write", grant, odd, "hops"
        yield "append", grant, odd
        yield "arrived", odd
        yield "read_many", 0, ((grant, odd),)
        yield "write_many", 0, ((grant, odd, SHA, ()),)
        yield (odd,)
    yield from [("read",), ("write",), ("append",), ("arrived",), ("read_many",), ("write_many",), ("",), ("x", 1)]
    yield from [("read_many", 0, ()), ("write_many", 0, ()), ("read_many", 0, grant), ("write_many", 0, (grant,))]
    yield "read_many", 0, ((grant, 1),) * 257
    yield "write_many", 0, ((grant, 1, SHA, ()),) * 257
    yield "read_many", 0, ((grant, MIB), (grant, 1))
    yield "write_many", 0, ((grant, MIB, SHA, ()), (grant, 1, SHA, ()))
    yield "write_many", 0, ((grant, 1, SHA, (("x", "h", 1, b"", 0),) * 17),)
    yield "write", grant, 0, (("x", "h", 1, b"", 0),) * 17
    yield "write", grant, 0, (("x", "h", "port", b"", 0),)


def test_requests_that_are_none_are_refused_in_words(site: Cluster, opened: Opened) -> None:
    hop = read_hop(site)
    for grant, at in [(hop["grant"], hop["name"]), (opened.grant, opened.name)]:
        for request in malformed(grant):
            with data(site, at) as line:
                line.send(h.ASK, request)
                try:
                    line.answer()
                except (Refused, h.Gone) as error:
                    assert getattr(error, "code", "gone") in ("bad_request", "denied", "stale", "gone"), request
                else:
                    assert request[0] == "read", request


def test_a_read_beyond_the_end_gives_nothing(site: Cluster) -> None:
    hop = read_hop(site)
    for offset, length, due in [(4, 10, 0), (1 << 62, 1 << 62, 0), (1 << 300, 1, 0), (0, 1 << 300, 4), (3, 9, 1)]:
        with data(site, hop["name"]) as line:
            assert line.ask("read", hop["grant"], offset, length, 0) == (due,)


def test_an_order_that_never_comes_is_not_waited_for_long(site: Cluster) -> None:
    hop, began = read_hop(site), time.monotonic()
    assert refusal(data(site, hop["name"]), "read", hop["grant"], 0, 4, 1 << 62) == "stale"
    assert time.monotonic() - began < 20


ENDS = [
    ("x", "y"),
    (1.5, SHA),
    (float("nan"), SHA),
    (None, None),
    (10, 5),
    (-10, SHA),
    (1 << 300, SHA),
    (1, 2, 3),
    (),
    5,
]


@pytest.mark.parametrize("end", ENDS, ids=str)
def test_an_end_that_lies_stages_nothing(site: Cluster, opened: Opened, end: Any) -> None:
    try:
        said = opened.send(end=end)
        assert dict(said[0])["code"] == "checksum"
    except (Refused, h.Gone) as error:
        assert getattr(error, "code", "protocol") == "protocol"
    with pytest.raises(Refused):
        opened.commit()


def test_a_client_that_lies_about_its_digest_commits_nothing(site: Cluster, opened: Opened) -> None:
    assert dict(opened.send()[0])["code"] == ""
    for sha256, size in [("0" * 64, len(BODY)), (SHA, 5), (SHA, 0), (SHA, -1), ("", len(BODY)), ("x" * 9000, 10)]:
        with pytest.raises(Refused) as error:
            opened.commit(sha256, size)
        assert error.value.code in ("checksum", "bad_request")


def test_more_bytes_than_announced_are_not_taken(site: Cluster, opened: Opened) -> None:
    assert "bad_request" in str(_code(opened, BODY + b"!"))
    assert "bad_request" in str(_code(opened, b"x" * MIB))
    body = (("write_many", opened.after, ((opened.grant, MIB, SHA, ()),)), b"x" * MIB)
    with opened.line() as line:
        line.send(h.ASK, body[0])
        line.frame(h.DATA, body[1])
        line.send(h.END, ())
        assert dict(line.answer()[0][0])["code"] == "bad_request"


def _code(opened: Opened, body: bytes) -> object:
    try:
        return dict(opened.send(body)[0])
    except Refused as error:
        return error.code


@pytest.mark.parametrize("lengths", [(5, 5), (100,), (0,), (3, 3, 3)], ids=str)
def test_small_files_whose_lengths_lie(site: Cluster, opened: Opened, lengths: tuple[int, ...]) -> None:
    items = tuple((opened.grant, size, SHA, ()) for size in lengths)
    with opened.line() as line:
        line.send(h.ASK, ("write_many", opened.after, items))
        line.frame(h.DATA, BODY)
        line.send(h.END, ())
        try:
            assert all(dict(one[0])["code"] for one in line.answer())
        except (Refused, h.Gone) as error:
            assert getattr(error, "code", "protocol") == "protocol"


def test_the_upload_of_another_is_theirs(site: Cluster, opened: Opened) -> None:
    opened.send()
    with calls(site, "ann") as line:
        for method, args in [("commit", (opened.upload, len(BODY), SHA)), ("abandon", (opened.upload,))]:
            with pytest.raises(Refused) as error:
                line.value(method, *args)
            assert error.value.code == "denied"
        for guess in ("0" * 32, opened.upload[::-1], opened.upload.upper(), ""):
            with pytest.raises(Refused) as error:
                line.value("commit", guess, len(BODY), SHA)
            assert error.value.code == "upload_lost"


def test_half_an_upload_leaves_nothing(site: Cluster, opened: Opened) -> None:
    for frames in (0, 1):
        with opened.line() as line:
            line.send(h.ASK, ("write", opened.grant, opened.after, ()))
            line.raw(b"\0\0\0\x0a\2half"[: 9 * frames])
    staging = site.root(opened.name) / ".goggles/staging"
    wait_until("the half is gone", lambda: not list(staging.iterdir()), 10)
