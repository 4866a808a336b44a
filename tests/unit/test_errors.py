from __future__ import annotations

import pytest

from goggles import errors
from goggles.errors import BY_CODE, ConnectionLost, GogglesError, NotFound, SettingsError, Unavailable


def test_text_of_an_error_ends_with_what_to_do_next():
    assert str(NotFound("/a is not there", "look at ls /")) == "/a is not there (look at ls /)"
    assert str(NotFound("/a is not there")) == "/a is not there"


def test_every_code_leads_back_to_its_class():
    assert all(cls.code == code for code, cls in BY_CODE.items())
    assert BY_CODE["error"] is GogglesError
    assert len(BY_CODE) == sum(isinstance(c, type) and issubclass(c, GogglesError) for c in vars(errors).values())


def test_an_unknown_outcome_can_be_told_from_a_refusal():
    assert issubclass(ConnectionLost, Unavailable)
    assert not issubclass(NotFound, Unavailable)


@pytest.mark.parametrize("cls", list(BY_CODE.values()))
def test_no_error_ends_a_program_as_a_success(cls):
    assert cls("x").exit_code in (1, 2, 130)
    assert SettingsError.exit_code == 2
