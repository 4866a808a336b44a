from __future__ import annotations

import itertools

import pytest

from goggles.roles import CEILING, DEFAULT, Level, Role, effective


def test_every_role_has_a_ceiling_and_a_default_below_it():
    assert set(CEILING) == set(DEFAULT) == set(Role)
    assert all(DEFAULT[role] <= CEILING[role] for role in Role)


@pytest.mark.parametrize(("role", "account"), list(itertools.product(Role, Level)))
def test_an_account_can_only_lower(role, account):
    assert effective(role, account) <= min(account, CEILING[role])


@pytest.mark.parametrize("role", list(Role))
def test_without_an_account_the_default_holds(role):
    assert effective(role, None) is DEFAULT[role]


def test_levels_include_those_below_them():
    order = [Level.NONE, Level.READONLY, Level.CALLBACK, Level.READAPPEND, Level.READWRITE, Level.ADMIN]
    assert order == sorted(Level)


def test_servers_may_do_nothing_as_users_and_a_librarian_nothing_without_an_account():
    assert DEFAULT[Role.STORAGE] is DEFAULT[Role.NAMESERVER] is DEFAULT[Role.LIBRARIAN] is Level.NONE
    assert CEILING[Role.LIBRARIAN] is Level.READAPPEND
