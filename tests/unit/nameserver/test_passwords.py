"""Guessing is slow, and slower each time; what is kept tells nothing."""

from __future__ import annotations

import pytest

from goggles.clock import ManualClock
from goggles.errors import BadRequest, PermissionDenied
from goggles.nameserver.passwords import CROWD_FREE, LONGEST_PAUSE, Passwords, check_form, invent, pause_after

SECRET = "correct horse: battery staple"


@pytest.fixture(scope="module")
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture(scope="module")
def passwords(clock: ManualClock) -> Passwords:
    return Passwords(clock)


@pytest.fixture(scope="module")
def kept(passwords: Passwords) -> bytes:
    return passwords.digest(SECRET)


def test_the_right_password_opens_and_a_wrong_one_does_not(passwords: Passwords, kept: bytes) -> None:
    passwords.check("ann", SECRET, kept, "host")
    for wrong in (SECRET + " ", "", "x" * 5_000, SECRET.upper()):
        with pytest.raises(PermissionDenied):
            passwords.check("ann", wrong, kept, f"host {len(wrong)} {wrong[:1]}")
    with pytest.raises(PermissionDenied):
        passwords.check("nobody", SECRET, None, "another host")


def test_what_is_kept_is_argon2id_and_never_the_same_twice(passwords: Passwords, kept: bytes) -> None:
    assert kept.startswith(b"$argon2id$v=19$m=65536,t=3,p=4$")
    assert kept != passwords.digest(SECRET)
    assert SECRET.encode() not in kept


def test_guessing_is_refused_for_a_while_that_grows(passwords: Passwords, kept: bytes, clock: ManualClock) -> None:
    for _ in range(3):
        with pytest.raises(PermissionDenied, match="wrong"):
            passwords.check("eve", "guess guess", kept, "there")
    with pytest.raises(PermissionDenied, match="too many"):
        passwords.check("eve", SECRET, kept, "there")
    passwords.check("eve", SECRET, kept, "elsewhere")  # nobody is locked out by what others do
    clock.advance(1.1)
    with pytest.raises(PermissionDenied, match="wrong"):
        passwords.check("eve", "guess guess", kept, "there")
    clock.advance(1.1)
    with pytest.raises(PermissionDenied, match="too many"):
        passwords.check("eve", SECRET, kept, "there")
    clock.advance(1.0)
    passwords.check("eve", SECRET, kept, "there")


def test_guessing_many_names_from_one_host_is_guessing_too(passwords: Passwords) -> None:
    for name in ("a", "b", "c"):
        with pytest.raises(PermissionDenied, match="wrong"):
            passwords.check(name, "guess guess", None, "scanner")
    with pytest.raises(PermissionDenied, match="too many"):
        passwords.check("d", "guess guess", None, "scanner")


def test_a_crowd_may_fail_more_often_and_then_waits_together(clock: ManualClock, kept: bytes) -> None:
    """Else a site could guess under ever new names."""
    passwords = Passwords(clock)
    for number in range(CROWD_FREE + 1):
        with pytest.raises(PermissionDenied, match="wrong"):
            passwords.check("eve", "guess guess", None, f"site {number}", "crowd")
    with pytest.raises(PermissionDenied, match="too many"):
        passwords.check("ann", SECRET, kept, "another site", "crowd")
    passwords.check("ann", SECRET, kept, "at home")
    clock.advance(1.1)
    passwords.check("ann", SECRET, kept, "another site", "crowd")
    with pytest.raises(PermissionDenied, match="wrong"):
        passwords.check("eve", "guess guess", None, "site 99", "crowd")


def test_pauses_grow_to_a_minute() -> None:
    pauses = [pause_after(count) for count in range(40)]
    assert pauses[:5] == [0, 0, 0, 1, 2]
    assert pauses == sorted(pauses)
    assert pauses[-1] == LONGEST_PAUSE


@pytest.mark.parametrize("password", ["", "short", "x" * 1_025, "with a \0 in it"])
def test_some_texts_can_not_be_passwords(password: str) -> None:
    with pytest.raises(BadRequest):
        check_form(password)


def test_invented_passwords_are_long_and_different() -> None:
    assert len({check_form(invent()) for _ in range(100)}) == 100
    assert len(invent()) >= 24
