"""Calls with anything at all in them: a server answers in words, and by nothing but methods that are exposed."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from rpyc.core import brine, consts

from goggles.errors import GogglesError, InternalError, NotFound, ProtocolError
from goggles.pki.identity import Identity
from goggles.roles import Level, Role
from goggles.wire import faults
from goggles.wire.connection import HANDLE_METHOD, GuardedConnection
from goggles.wire.service import Caller, Service, exposed
from goggles.wire.values import loads

quick = settings(derandomize=True, deadline=None, max_examples=400, suppress_health_check=list(HealthCheck))
PLAIN = st.none() | st.booleans() | st.integers(-(1 << 70), 1 << 70) | st.floats() | st.binary() | st.text()
VALUES = st.recursive(PLAIN, lambda inner: st.lists(inner, max_size=5).map(tuple), max_leaves=20)
NAMES = ["touch", "exposed_touch", "exposed_exposed_touch", "hidden", "caller", "touched", "_rpyc_getattr", "__class__"]
METHODS = st.sampled_from([*NAMES, b"touch", b"__init__", b"\xff"]) | VALUES
PAIRS = st.lists(st.tuples(st.sampled_from(["path", "count", "self", "args", ""]) | VALUES, VALUES), max_size=3)
KWARGS = PAIRS.map(tuple) | VALUES


class Channel:
    """Keeps what is sent."""

    def __init__(self) -> None:
        self.sent: list[bytes] = []

    def send(self, data: bytes) -> None:
        self.sent.append(bytes(data))

    def close(self) -> None:
        """Nothing to close."""

    def fileno(self) -> int:
        return -1


class Root(Service):
    """One method that may be called, and some that may not."""

    def __init__(self) -> None:
        super().__init__(Caller(Identity("home", Role.ADMIN, "root"), "nowhere", lambda: Level.ADMIN))
        self.touched: list[tuple[str, int]] = []
        self.reached = False

    @exposed(Role.ADMIN)
    def touch(self, path: str, count: int = 0) -> str:
        self.touched.append((path, count))
        raise NotFound(f"there is no {path!r}")

    @exposed(Role.STORAGE)
    def for_storages(self) -> None:
        self.reached = True

    @exposed(Role.ADMIN)
    def exposed_twice(self) -> tuple[int, ...]:
        return (1, 2)

    def hidden(self) -> None:
        self.reached = True


def answers(request: Any) -> tuple[Root, list[bytes]]:
    """What a server says to one message; nothing where it ends the connection."""
    root, channel = Root(), Channel()
    connection = GuardedConnection(root, channel, {})
    connection._recvlock.acquire()
    try:
        connection._dispatch(bytes([consts.MSG_REQUEST]) + brine.dump(request))
    except (ProtocolError, EOFError):
        return root, []
    finally:
        assert root.caller.busy == 0
        connection.close()
    return root, channel.sent


def need_words(root: Root, sent: list[bytes]) -> None:
    """One answer at most, and an error has a code of ours and is no bug; only exposed methods were called."""
    assert len(sent) <= 1
    assert not root.reached
    assert all(type(path) is str and type(count) is int for path, count in root.touched)
    for data in sent:
        _, said = loads(data, 1)
        if data[0] == consts.MSG_EXCEPTION:
            error = faults.load(said)
            assert isinstance(error, GogglesError)
            assert not isinstance(error, InternalError), str(error)
            assert error.message


@quick
@given(METHODS, VALUES | st.lists(VALUES, max_size=3).map(tuple), KWARGS)
@example("touch", ("/a", 5), ())
@example("touch", ("/a",), (("count", 1 << 70),))
@example("touch", (), (("path", "/a"), ("path", "/b")))
@example("touch", ("/a",), (("self", 1),))
@example("for_storages", (), ())
@example("exposed_twice", (), ())
@example("touch", "ab", ())
@example("touch", ("\ud800",), ())
def test_a_method_called_in_one_piece(method: Any, args: Any, kwargs: Any) -> None:
    try:
        request = (1, (HANDLE_METHOD, (consts.LABEL_VALUE, (method, args, kwargs))))
        root, sent = answers(request)
    except UnicodeEncodeError:
        return  # such a text can not be written at all
    assert len(sent) == 1
    need_words(root, sent)


@quick
@given(st.integers(0, 70) | VALUES, VALUES, VALUES)
@example(HANDLE_METHOD, (consts.LABEL_TUPLE, ((consts.LABEL_VALUE, "touch"), (consts.LABEL_VALUE, ("/a",)))), 1)
@example(HANDLE_METHOD, (consts.LABEL_REMOTE_REF, ("builtins.str", 1, 1)), 1)
@example(consts.HANDLE_CALLATTR, (consts.LABEL_VALUE, (None, "touch", ())), 1)
@example(consts.HANDLE_GETROOT, (consts.LABEL_VALUE, ()), 1)
def test_a_request_of_any_kind(handler: Any, package: Any, seq: Any) -> None:
    for request in ((seq, (handler, package)), (seq, handler), (seq, (handler, package, package))):
        try:
            need_words(*answers(request))
        except UnicodeEncodeError:
            return


def test_what_is_right_is_called() -> None:
    root, sent = answers((1, (HANDLE_METHOD, (consts.LABEL_VALUE, ("touch", ("/a",), (("count", 3),))))))
    assert root.touched == [("/a", 3)]
    with pytest.raises(NotFound, match="no '/a'"):
        raise faults.load(loads(sent[0], 1)[1])
