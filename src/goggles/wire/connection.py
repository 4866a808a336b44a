"""rpyc's connection with fewer doors.

Law: the other side can fetch the root service, call the methods that the service declares, and use the file
objects that one of them hands out; nothing else of rpyc's protocol is answered.  What it passes by reference is of
one class of ours, whatever it says of itself.  Closing never waits for the other side.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from rpyc.core import consts
from rpyc.core.netref import BaseNetref, syncreq
from rpyc.core.protocol import Connection

from goggles.errors import PermissionDenied, ProtocolError
from goggles.wire import faults
from goggles.wire.values import MAX_VALUES, loads

_ANSWERED = (
    consts.HANDLE_PING,
    consts.HANDLE_CLOSE,
    consts.HANDLE_GETROOT,
    consts.HANDLE_GETATTR,
    consts.HANDLE_CALL,
    consts.HANDLE_CALLATTR,
    consts.HANDLE_DEL,
    consts.HANDLE_INSPECT,
    consts.HANDLE_CTXEXIT,
)

HANDLE_METHOD = 64  # ours: a method of the root service, with name, arguments and named arguments in one piece
_REQUEST = bytes([consts.MSG_REQUEST])
_MESSAGES = (_REQUEST, bytes([consts.MSG_REPLY]), bytes([consts.MSG_EXCEPTION]))

CONFIG = {
    "allow_safe_attrs": False,
    "allow_exposed_attrs": False,
    "allow_public_attrs": False,
    "include_local_traceback": False,
    "include_local_version": False,
    "propagate_KeyboardInterrupt_locally": True,
}
MAX_NESTED = 8  # requests of the peer that are answered while it owes us an answer


class Remote(BaseNetref):  # type: ignore[misc]
    """An object of the other side.  rpyc would have it look like an instance of any class that it names."""

    __slots__ = ()

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return syncreq(self, consts.HANDLE_CALL, args, tuple(kwargs.items()))


class GuardedConnection(Connection):  # type: ignore[misc]
    """A connection of a server, or of a client program of ours.

    `takes_objects`: whether the peer may pass file objects as arguments.  `most`: values in one message of its."""

    def __init__(
        self,
        root: Any,
        channel: Any,
        config: dict[str, Any],
        takes_objects: bool = False,
        most: int = MAX_VALUES,
    ) -> None:
        self.takes_objects = takes_objects
        self._most = most
        self._nested = 0
        self._closed: bool
        super().__init__(root, channel, {**CONFIG, **config})

    @classmethod
    def _request_handlers(cls) -> dict[int, Callable[..., Any]]:
        every = super()._request_handlers()
        return {number: every[number] for number in _ANSWERED} | {HANDLE_METHOD: cls._handle_method}

    def _handle_method(self, method: str, args: tuple[Any, ...], kwargs: tuple[Any, ...]) -> Any:
        found = getattr(type(self._local_root), "_rpyc_getattr", None)
        if found is None or type(method) is not str:
            return self._handle_callattr(self._local_root, method, args, kwargs)
        return found(self._local_root, method)(*args, **dict(kwargs))  # as that does, in fewer steps

    def serve_all(self) -> None:
        """Answer until the other side hangs up.  As rpyc's own, for the one thread that a connection has here."""
        try:
            while not self.closed:
                self._recvlock.acquire()
                self._dispatch(self._receive())
        except EOFError:
            pass
        finally:
            self.close()

    def _receive(self) -> bytes:
        try:
            return bytes(self._channel.recv())
        except BaseException:
            self._recvlock.release()
            raise

    def ask(self, method: str, args: tuple[Any, ...], kwargs: dict[str, Any], timeout: float) -> Any:
        """The answer of a method of the other side's service; TimeoutError.

        As `sync_request`, where no other thread uses this connection: what comes is our answer, or a request of the
        other side that has to be answered before (it reads a file object of ours)."""
        return self.hear(self.tell(method, args, kwargs), timeout)

    def tell(self, method: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> int:
        """Send a call; its number.  Answers come in the order of the calls, and have to be heard in it."""
        seq = int(self._get_seq_id())
        self._send(consts.MSG_REQUEST, seq, (HANDLE_METHOD, self._box((method, args, tuple(kwargs.items())))))
        return seq

    def hear(self, seq: int, timeout: float) -> Any:
        """The answer to the call of this number."""
        deadline = time.monotonic() + timeout
        while True:
            if not self._channel.stream.wait(deadline - time.monotonic()):
                raise TimeoutError(f"no answer within {timeout:g} s")
            data = self._channel.recv()
            if data[:1] != _REQUEST:
                number, answer = self._read(data)
                if number == seq and data[0] == consts.MSG_REPLY:
                    return self._unbox(answer)
                if number == seq:
                    raise self._unbox_exc(answer)
            self._recvlock.acquire()
            self._dispatch(data)

    def _dispatch(self, data: bytes) -> None:
        caller = getattr(self._local_root, "caller", None)
        if caller is None:
            self._answer(data)
            return
        caller.busy += 1
        try:
            self._answer(data)
        finally:
            caller.busy -= 1

    def _answer(self, data: bytes) -> None:
        """As rpyc's own `_dispatch`; ProtocolError where that is no message."""
        if data[:1] == _REQUEST:
            self._recvlock.release()
            if self._nested >= MAX_NESTED:
                raise ProtocolError("requests within requests, and no end of it")
            seq, request = self._read(data)
            self._nested += 1
            try:
                self._dispatch_request(seq, request)
            finally:
                self._nested -= 1
            return
        try:
            seq, answer = self._read(data)
            failed = data[0] == consts.MSG_EXCEPTION
            found = self._unbox_exc(answer) if failed else self._unbox(answer)
            self._seq_request_callback(data[0], seq, failed, found)
        finally:
            self._recvlock.release()

    def _read(self, data: bytes) -> tuple[Any, Any]:
        """(number, what it says) of a message."""
        if data[:1] not in _MESSAGES:
            raise ProtocolError("a message of a kind that there is not")
        message = loads(data, 1, self._most)
        if type(message) is not tuple or len(message) != 2:
            raise ProtocolError("a message without a number")
        return message[0], message[1]

    def _unbox(self, package: Any) -> Any:
        """As rpyc's own; tuples of plain values, which is what nearly all messages are, in one step."""
        match package:
            case (consts.LABEL_VALUE, value):
                return value
            case (consts.LABEL_TUPLE, tuple(several)):
                return tuple([self._unbox(one) for one in several])
            case (consts.LABEL_LOCAL_REF, (str(), int(), int())):
                return super()._unbox(package)
            case (consts.LABEL_REMOTE_REF, (str(), int(), int())):
                return super()._unbox(package)
        raise ProtocolError("a value that is not packed as rpyc does it")

    def _netref_factory(self, id_pack: Any) -> Any:
        if not self.takes_objects:
            raise PermissionDenied("objects can not be passed here, only values")
        return Remote(self, id_pack)

    def _box_exc(self, typ: type[BaseException], val: BaseException, tb: object) -> Any:
        if isinstance(val, EOFError):  # whoever asked is gone
            raise val
        if isinstance(val, AttributeError | LookupError | TypeError | ValueError | RecursionError):
            return faults.dump(PermissionDenied("there is no such method here, or it can not be called so"), "a call")
        return faults.dump(val, "a call")

    def _unbox_exc(self, raw: Any) -> BaseException:
        return faults.load(raw)

    def close(self) -> None:
        if not self._closed:
            self._closed = True
            self._cleanup()

    def _cleanup(self, _anyway: bool = True) -> None:
        if self._local_root is not None:
            super()._cleanup(_anyway)
