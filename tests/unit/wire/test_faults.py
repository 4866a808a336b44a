"""Errors across the wire."""

import pytest

from goggles import errors
from goggles.wire import faults


@pytest.mark.parametrize("cls", errors.BY_CODE.values(), ids=lambda c: c.code)
def test_every_error_arrives_as_itself(cls):
    raw = faults.dump(cls("what happened", "what to do"), "a test")
    back = faults.load(raw)
    assert type(back) is cls
    assert (back.message, back.hint) == ("what happened", "what to do")


def test_a_bug_crosses_as_a_number_only(caplog):
    raw = faults.dump(ValueError("/secret/path"), "a test")
    assert "/secret/path" not in repr(raw)
    back = faults.load(raw)
    assert isinstance(back, errors.InternalError)
    assert "/secret/path" in caplog.text
    assert back.message.rpartition(" ")[2] in caplog.text


def test_no_traceback_crosses():
    try:
        raise errors.NotFound("nothing there")
    except errors.NotFound as error:
        assert faults.dump(error, "a test")[3] == ""


@pytest.mark.parametrize("garbage", [None, 3, (), ((),), ("a", "b", "c", "d"), (("m", "c"), (), (("code", 1),), "")])
def test_garbage_in_place_of_an_error_is_an_error(garbage):
    assert isinstance(faults.load(garbage), errors.GogglesError)


def test_a_code_of_a_newer_program_is_a_plain_error():
    assert type(faults.from_tuple("from_the_future", "m", "h")) is errors.GogglesError
