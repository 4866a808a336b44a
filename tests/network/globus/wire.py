"""The wire of the emulator: what a request may meet before and behind the service."""

from __future__ import annotations

import json
import re
import socket
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Protocol

HTML = b"<html><head><title>502 Bad Gateway</title></head><body><h1>Bad Gateway</h1>nginx</body></html>"


@dataclass
class Trip:
    """Spoils requests whose `METHOD path` matches: `times` of them, after `skip` others, `seconds` late.

    how: reset-before, reset-after (carried out, no answer), html (a gateway), 504 (carried out, a gateway that did not
    wait), 500, 503 (maintenance), 429, slow, garbage (200, no JSON), empty (200, an empty document), cut (half an
    answer), 401, 403."""

    match: str
    how: str
    times: int = 1
    skip: int = 0
    seconds: float = 0.0


@dataclass
class Asked:
    """One request that was answered."""

    line: str
    status: int
    at: float = field(default_factory=time.monotonic)


class Service(Protocol):
    """What answers."""

    trips: list[Trip]
    asked: list[Asked]
    lock: threading.Lock

    def answer(self, method: str, target: str, headers: Any, body: bytes) -> tuple[int, Any, dict[str, str]]: ...


class Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 64
    globus: Service

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Callers may go away."""


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Server

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - as in the base
        """Nothing."""

    def do_GET(self) -> None:
        self._serve()

    do_POST = do_PUT = do_DELETE = do_GET

    def _serve(self) -> None:
        globus, line = self.server.globus, f"{self.command} {self.path}"
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        trip = next(self._trips(globus, line), None)
        how = trip.how if trip else ""
        if trip:
            time.sleep(trip.seconds)
        if how == "reset-before":
            self._reset(globus, line)
            return
        spoiled: dict[str, tuple[int, Any, dict[str, str]]] = {
            "html": (502, HTML, {}),
            "500": (500, {"code": "InternalError", "message": "Oops", "request_id": "x", "resource": "/"}, {}),
            "503": (503, {"code": "ServiceUnavailable.Maintenance", "message": "Down for maintenance"}, {}),
            "429": (429, {"code": "TooManyRequests", "message": "Slow down"}, {"Retry-After": "1"}),
            "401": (401, {"code": "AuthenticationFailed", "message": "Token is not active"}, {}),
            "403": (403, {"code": "PermissionDenied", "message": "No", "request_id": "x", "resource": "/"}, {}),
            "empty": (200, {}, {}),
            "garbage": (200, b"<!doctype html><p>Please log in to the wireless network", {}),
        }
        status, answer, headers = spoiled.get(how) or globus.answer(self.command, self.path, self.headers, body)
        if how == "reset-after":
            self._reset(globus, line)
            return
        if how == "504":
            status, answer, headers = 504, HTML.replace(b"502 Bad Gateway", b"504 Gateway Time-out"), {}
        globus.asked.append(Asked(line, status))
        self._send(status, answer, headers, cut=how == "cut")

    def _trips(self, globus: Service, line: str) -> Iterator[Trip]:
        with globus.lock:
            for trip in globus.trips:
                if re.search(trip.match, line) and (trip.times > 0 or trip.skip > 0):
                    if trip.skip > 0:
                        trip.skip -= 1
                        return
                    trip.times -= 1
                    yield trip
                    return

    def _send(self, status: int, answer: Any, headers: dict[str, str], *, cut: bool) -> None:
        raw = isinstance(answer, bytes)
        body = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
        self.send_response(status)
        self.send_header("Content-Type", "text/html" if raw else "application/json")
        self.send_header("Content-Length", str(len(body)))
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body[: len(body) // 2] if cut else body)
        if cut:
            self._close()

    def _reset(self, globus: Service, line: str) -> None:
        globus.asked.append(Asked(line, 0))
        self._close()

    def _close(self) -> None:
        self.close_connection = True
        self.wfile.flush()
        self.connection.shutdown(socket.SHUT_RDWR)
