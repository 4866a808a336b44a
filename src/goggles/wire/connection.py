"""rpyc's connection with fewer doors.

Law: the other side can fetch the root service, call the methods that the service declares, and use the file
objects that one of them hands out; nothing else of rpyc's protocol is answered.  Closing never waits for
the other side.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from rpyc.core import consts
from rpyc.core.protocol import Connection

from goggles.errors import PermissionDenied
from goggles.wire import faults

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

CONFIG = {
    "allow_safe_attrs": False,
    "allow_exposed_attrs": False,
    "allow_public_attrs": False,
    "include_local_traceback": False,
    "include_local_version": False,
    "propagate_KeyboardInterrupt_locally": True,
}


class GuardedConnection(Connection):  # type: ignore[misc]
    """A connection of a server, or of a client program of ours.

    `takes_objects`: whether the peer may pass file objects as arguments."""

    def __init__(self, root: Any, channel: Any, config: dict[str, Any], takes_objects: bool = False) -> None:
        self.takes_objects = takes_objects
        self._closed: bool
        super().__init__(root, channel, {**CONFIG, **config})

    @classmethod
    def _request_handlers(cls) -> dict[int, Callable[..., Any]]:
        every = super()._request_handlers()
        return {number: every[number] for number in _ANSWERED}

    def _dispatch(self, data: bytes) -> None:
        caller = getattr(self._local_root, "caller", None)
        if caller is None:
            super()._dispatch(data)
            return
        caller.busy += 1
        try:
            super()._dispatch(data)
        finally:
            caller.busy -= 1

    def _netref_factory(self, id_pack: Any) -> Any:
        if not self.takes_objects:
            raise PermissionDenied("objects can not be passed here, only values")
        return super()._netref_factory(id_pack)

    def _box_exc(self, typ: type[BaseException], val: BaseException, tb: object) -> Any:
        if isinstance(val, AttributeError | KeyError | TypeError):
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
