"""A hostile peer, from scratch: TLS, rpyc's frames and brine by hand, and the frames of the data plane.

Law: nothing of `goggles.wire` and nothing of rpyc is used here, so that anything can be sent, also what these would
never send.  It has the certificate that it is given, and no other power.
"""

from __future__ import annotations

import itertools
import socket
import ssl
import struct
from pathlib import Path
from types import EllipsisType
from typing import Any, Self

REQUEST, REPLY, EXCEPTION = 1, 2, 3  # messages
VALUE, TUPLE, LOCAL, REMOTE = 1, 2, 3, 4  # how a value is boxed
PING, CLOSE, GETROOT, GETATTR, DELATTR, SETATTR, CALL, CALLATTR = range(1, 9)
METHOD = 64  # ours: a method of the root service, in one piece
REPR, STR, CMP, HASH, DIR, PICKLE, DEL, INSPECT, BUFFITER, OLDSLICING, CTXEXIT, INSTANCECHECK = range(9, 21)
ASK, DATA, END, ABORT, OK, ERROR = range(1, 7)  # kinds of frames of the data plane

# --- brine -----------------------------------------------------------------------------------


def brine(value: Any) -> bytes:  # noqa: C901 - one case for each kind
    """`value` in rpyc's encoding."""
    match value:
        case None:
            return b"\0"
        case bool():
            return b"\3" if value else b"\4"
        case int() if -0x30 <= value < 0xA0:
            return bytes([value + 0x50])
        case int():
            return _long(0x16, 0x17, str(value).encode())
        case float():
            return b"\x18" + struct.pack("!d", value)
        case bytes():
            return b"\1" if not value else _long(0x0E, 0x0F, value)
        case str():
            return b"\x08" + brine(value.encode("utf-8", "surrogatepass"))
        case tuple():
            head = struct.pack("!B", len(value)) if len(value) < 256 else struct.pack("!L", len(value))
            body = b"".join(map(brine, value))
            return b"\2" if not value else (b"\x14" if len(value) < 256 else b"\x15") + head + body
        case slice():
            return b"\x19" + brine((value.start, value.stop, value.step))
        case frozenset():
            return b"\x1a" + brine(tuple(value))
        case complex():
            return b"\x1b" + struct.pack("!dd", value.real, value.imag)
        case EllipsisType():
            return b"\6"
    raise TypeError(value)


def _long(short: int, long: int, data: bytes) -> bytes:
    if len(data) < 256:
        return bytes([short, len(data)]) + data
    return bytes([long]) + struct.pack("!L", len(data)) + data


def unbrine(data: bytes) -> Any:
    """What is encoded in `data`."""
    return _one(memoryview(data), 0)[0]


def _one(data: memoryview, at: int) -> tuple[Any, int]:
    tag, at = data[at], at + 1
    if 0x20 <= tag < 0xF0:
        return tag - 0x50, at
    plain = {0: None, 1: b"", 2: (), 3: True, 4: False, 5: NotImplemented, 6: ...}
    if tag in plain:
        return plain[tag], at
    if tag == 0x08:
        text, at = _one(data, at)
        return text.decode(), at
    if 0x0A <= tag <= 0x0D:
        return bytes(data[at : at + tag - 9]), at + tag - 9
    if tag in (0x0E, 0x0F, 0x16, 0x17):
        size, at = _size(data, at, tag in (0x0E, 0x16))
        found = bytes(data[at : at + size])
        return (int(found) if tag > 0x10 else found), at + size
    if 0x10 <= tag <= 0x15:
        count, at = (tag - 0x0F, at) if tag < 0x14 else _size(data, at, tag == 0x14)
        items = []
        for _ in range(count):
            item, at = _one(data, at)
            items.append(item)
        return tuple(items), at
    if tag == 0x18:
        return struct.unpack("!d", data[at : at + 8])[0], at + 8
    raise ValueError(f"tag {tag}")


def _size(data: memoryview, at: int, short: bool) -> tuple[int, int]:
    return (data[at], at + 1) if short else (struct.unpack("!L", data[at : at + 4])[0], at + 4)


def box(value: Any) -> tuple[Any, ...]:
    """By value, as an argument of a request."""
    return VALUE, value


# --- connections -----------------------------------------------------------------------------


class Refused(Exception):
    """The other side answered with an error of this `code`."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(f"{code}: {message}")
        self.code = code
        self.message = message


class Gone(Exception):
    """The other side ended the connection."""


class Line:
    """A TLS connection to `port` of this host."""

    def __init__(self, port: int, files: tuple[Path, Path], alpn: str = "", timeout: float = 20.0) -> None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        context.load_cert_chain(*files)
        if alpn:
            context.set_alpn_protocols([alpn])
        plain = socket.create_connection(("127.0.0.1", port), timeout)
        self.sock = context.wrap_socket(plain, server_hostname="localhost")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.sock.close()

    def raw(self, data: bytes) -> None:
        try:
            self.sock.sendall(data)
        except OSError as error:
            raise Gone(str(error)) from error

    def read(self, count: int) -> bytes:
        found = bytearray()
        while len(found) < count:
            try:
                piece = self.sock.recv(count - len(found))
            except TimeoutError:
                raise
            except OSError as error:
                raise Gone(str(error)) from error
            if not piece:
                raise Gone("closed")
            found += piece
        return bytes(found)

    def ended(self, seconds: float = 20.0) -> bool:
        """Whether the other side ends the connection within this time; what it says before is read and forgotten."""
        self.sock.settimeout(seconds)
        try:
            while self.sock.recv(65536):
                pass
        except TimeoutError:
            return False
        except OSError:
            return True
        return True


class Calls(Line):
    """rpyc by hand."""

    def __init__(self, port: int, files: tuple[Path, Path], alpn: str = "goggles-rpc", timeout: float = 20.0) -> None:
        super().__init__(port, files, alpn, timeout)
        self._numbers = itertools.count(1)
        self.root: Any = None

    def frame(self, payload: bytes, compressed: bool = False) -> None:
        self.raw(struct.pack("!LB", len(payload), compressed) + payload + b"\n")

    def message(self, kind: int, value: Any) -> None:
        self.frame(bytes([kind]) + brine(value))

    def send(self, handler: Any, *boxed: Any) -> int:
        """A request whose arguments are boxed already; its number."""
        number = next(self._numbers)
        self.message(REQUEST, (number, (handler, (TUPLE, tuple(boxed)))))
        return number

    def receive(self) -> tuple[int, int, Any]:
        """(message, number, boxed value) of the next frame."""
        size, _ = struct.unpack("!LB", self.read(5))
        data = self.read(size + 1)[:-1]
        return data[0], *unbrine(data[1:])

    def answer(self, number: int) -> Any:
        """The boxed answer to a request; Refused where it is an error."""
        while True:
            kind, which, value = self.receive()
            if which != number:
                continue
            if kind == REPLY:
                return value
            facts = dict(value[2]) if isinstance(value, tuple) else {}
            raise Refused(facts.get("code", "?"), facts.get("message", str(value)))

    def ask(self, handler: Any, *boxed: Any) -> Any:
        return self.answer(self.send(handler, *boxed))

    def get_root(self) -> Any:
        """How the other side calls its service, as a reference to it is sent back."""
        if self.root is None:
            self.root = self.reference(GETROOT)
        return self.root

    def reference(self, handler: Any, *boxed: Any) -> Any:
        """The object that is answered, as a reference to it is sent back."""
        return LOCAL, self.ask(handler, *boxed)[1]

    def call(self, method: str, *args: Any, **named: Any) -> Any:
        """The boxed answer of an exposed method."""
        pairs = tuple((VALUE, pair) for pair in named.items())
        return self.ask(CALLATTR, self.get_root(), box(method), box(args), (TUPLE, pairs))

    def value(self, method: str, *args: Any) -> Any:
        """The answer of a method that gives values."""
        return unbox(self.call(method, *args))


def unbox(boxed: Any) -> Any:
    label, value = boxed
    return tuple(unbox(one) for one in value) if label == TUPLE else value


class Bytes(Line):
    """The data plane by hand."""

    def __init__(self, port: int, files: tuple[Path, Path], timeout: float = 20.0) -> None:
        super().__init__(port, files, "goggles-data", timeout)

    def frame(self, kind: int, payload: bytes) -> None:
        self.raw(struct.pack("!IB", len(payload), kind) + payload)

    def send(self, kind: int, value: Any) -> None:
        self.frame(kind, brine(value))

    def receive(self) -> tuple[int, Any]:
        size, kind = struct.unpack("!IB", self.read(5))
        data = self.read(size)
        return kind, data if kind == DATA else unbrine(data)

    def answer(self) -> Any:
        """The value of OK; Refused where an error comes."""
        kind, value = self.receive()
        if kind == ERROR:
            raise Refused(*value[:2])
        assert kind == OK, (kind, value)
        return value

    def ask(self, *request: Any) -> Any:
        self.send(ASK, request)
        return self.answer()
