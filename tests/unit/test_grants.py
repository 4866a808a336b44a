"""Grants: valid for one principal, one storage, one purpose, for a time."""

import pytest

from goggles.contracts.grants import READ, WRITE, Grant, check
from goggles.errors import PermissionDenied, Stale

KEY, HOLDER = b"k" * 32, "spiffe://goggles/client/ann"
GRANT = Grant(WRITE, "u" * 32, "/a", 10, "alice", HOLDER, 1000.0)


def test_what_was_granted_is_what_is_read():
    sealed = GRANT.seal(KEY)
    assert check(sealed, [b"other" * 8, KEY], kind=WRITE, storage="alice", holder=HOLDER, now=999) == GRANT


@pytest.mark.parametrize(
    "wrong",
    [
        {"kind": READ},
        {"storage": "bob"},
        {"holder": "spiffe://goggles/client/eve"},
        {"now": 1001.0},
    ],
)
def test_nothing_else_is_allowed_by_it(wrong):
    right = {"kind": WRITE, "storage": "alice", "holder": HOLDER, "now": 999.0}
    with pytest.raises(PermissionDenied):
        check(GRANT.seal(KEY), [KEY], **{**right, **wrong})


@pytest.mark.parametrize("place", [0, 5, -1, -20])
def test_one_flipped_bit_makes_it_worthless(place):
    sealed = bytearray(GRANT.seal(KEY))
    sealed[place] ^= 1
    with pytest.raises(Stale):
        check(bytes(sealed), [KEY], kind=WRITE, storage="alice", holder=HOLDER, now=0)


@pytest.mark.parametrize("junk", [b"", b"short", b"x" * 200])
def test_junk_is_refused(junk):
    with pytest.raises(Stale):
        check(junk, [KEY], kind=WRITE, storage="alice", holder=HOLDER, now=0)
