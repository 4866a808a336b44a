"""Many small files in one request: what is refused, and what a failing disk leaves behind."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from goggles.clock import SystemClock
from goggles.contracts.data import MAX_HOPS
from goggles.contracts.grants import WRITE, Grant
from goggles.errors import BadRequest, StorageFailure
from goggles.storage.together import Part, Together
from goggles.storage.vault import Vault
from goggles.wire import together

DATA = b"bytes"
DIGEST = hashlib.sha256(DATA).hexdigest()


def part(number: int) -> Part:
    return Part(together.Incoming(b"%032x" % number, len(DATA), DIGEST, ()), memoryview(DATA))


def allowed(sealed: bytes) -> Grant:
    return Grant(WRITE, sealed.decode(), "/a", len(DATA), "alice", "ann", 0.0)


@pytest.fixture
def vault(tmp_path: Path) -> Vault:
    return Vault.open(tmp_path / "root", 1 << 20, SystemClock())


def test_where_the_folder_can_not_be_synced_no_file_counts_and_no_room_is_kept(
    vault: Vault, monkeypatch: pytest.MonkeyPatch
):
    def fail() -> None:
        raise StorageFailure("the disk is broken")

    monkeypatch.setattr(vault, "sync_staging", fail)
    before, told = vault.free, []
    taker = Together("alice", vault, None, lambda notices: told.extend(notices) or [])  # type: ignore[arg-type,func-returns-value]
    answers = taker.take([part(1), part(2)], allowed)
    assert [dict(answer[0])["code"] for answer in answers] == ["storage_failure"] * 2  # type: ignore[index]
    assert told == []
    assert abs(vault.free - before) < 1 << 16, "the disk itself may have less"
    assert vault._reserved == 0


def test_a_chain_that_is_too_long_is_refused():
    hop = ("bob", "localhost", 1, b"", 0)
    item = (b"grant", 1, DIGEST, (hop,) * (MAX_HOPS + 1))
    with pytest.raises(BadRequest, match="hops"):
        together.announced(("write_many", 0, (item,)))
