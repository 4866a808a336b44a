"""What a storage says it holds, as it crosses the wire."""

from __future__ import annotations

import pytest

from goggles.contracts import inventory
from goggles.contracts.orders import Held
from goggles.errors import BadRequest, LimitExceeded
from goggles.wire.service import MAX_BYTES

FILE = Held("file", "/a", 5, "1" * 64, "2" * 32, 3, 1_700_000_000_000_000_000)
STAGED = Held("staged", "3" * 32, 0, "", "", 0, was='/w"s')


def test_what_is_told_is_what_is_heard():
    assert inventory.unpack(inventory.pack([FILE, STAGED]), 2) == [FILE, STAGED]
    assert inventory.unpack(inventory.pack([]), 2) == []


def test_a_page_of_the_longest_names_fits_into_one_value():
    longest = Held("staged", '"' * 4096, 1 << 60, "1" * 64, "2" * 32, 1 << 60, 1 << 62, '"' * 4096)
    assert len(inventory.pack([longest] * inventory.PAGE)) <= MAX_BYTES


def test_what_older_and_newer_programs_tell_is_understood():
    assert inventory.unpack(b'[["file", "/a", 5, "h", "v", 3]]', 1) == [Held("file", "/a", 5, "h", "v", 3)]
    assert inventory.unpack(b'[["file", "/a", 5, "h", "v", 3, 4, "", {"more": 1}]]', 1)[0].modified == 4


def test_more_than_a_batch_is_refused():
    with pytest.raises(LimitExceeded, match="may have 2 items, this has 3"):
        inventory.unpack(inventory.pack([FILE] * 3), 2)


@pytest.mark.parametrize("row", ["5", "{}", "[]", '["file", "/a", 5, "h", "v"]', '["file", "/a", true, "h", "v", 3]'])
def test_a_row_of_another_form_is_refused(row: str) -> None:
    with pytest.raises(BadRequest):
        inventory.unpack(f"[{row}]".encode(), 2)


@pytest.mark.parametrize("data", [b"5", b"{}", b"", b"[", b"[" * 100_000, b"\xff"])
def test_what_is_no_list_is_refused(data: bytes) -> None:
    with pytest.raises(BadRequest):
        inventory.unpack(data, 2)
