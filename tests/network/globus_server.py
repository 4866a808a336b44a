"""Globus on this machine: the calls of the stock SDK over real HTTP, and real bytes between folders that stand for
collections.

Law: everything that the real service is known to do to a client can be had here, switched on by a test (`Whims`).  What
was submitted is kept, so that a test can count it.  Nothing outside a collection's folder is read or written.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import os
import re
import secrets
import threading
import time
import uuid
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

SERVER = "transfer.api.globus.org"
SCOPE = "urn:globus:auth:scope:transfer.api.globus.org:all"
DATA_ACCESS = "https://auth.globus.org/scopes/{}/data_access"
AT_ONCE = 3  # tasks that are worked on, others are queued
PENDING = ("ACTIVE", "INACTIVE")


class Refused(Exception):
    """An answer that is an error."""

    def __init__(self, status: int, code: str, message: str = "", headers: dict[str, str] | None = None, **more: Any):
        super().__init__(code)
        self.status = status
        self.headers = headers or {}
        self.body = {"code": code, "message": message or code, "request_id": "r", "resource": "/", **more}


@dataclass
class Collection:
    """A folder.  What a path on it means: `base` and the path; nothing but what is below `base` can be reached."""

    base: Path
    needs_consent: bool = False
    session: dict[str, Any] | None = None
    writable: bool = True

    def real(self, path: str) -> Path:
        found = Path(os.path.normpath(f"{self.base}/{path}"))
        if not found.is_relative_to(self.base):
            raise Refused(403, "EndpointPermissionDenied", "that is outside the collection")
        return found


@dataclass
class Whims:
    """What goes wrong."""

    answers: deque[Refused] = field(default_factory=deque)  # to the next calls, whatever they are
    submissions: deque[Refused] = field(default_factory=deque)  # to the next submissions; nothing is done
    drop_replies: int = 0  # of accepted submissions, so many answers are lost
    faults: int = 0  # of each task, so many tries of a file fail before one is good
    corrupt: int = 0  # so many files are damaged on their way; verify_checksum notices it
    silent_corruption: bool = False  # files are damaged so that nobody notices
    hold: bool = False  # tasks do not begin
    inactive: bool = False  # tasks are suspended
    fail_after: int = -1  # a task fails for good after so many files
    code: str = ""  # the fault that every try meets
    rate: int = 0  # calls a second that are answered; 0: all
    pending: int = 100
    token_life: int = 172_800


@dataclass(eq=False)
class Task:
    """One task, and what became of its files."""

    id: str
    owner: str
    body: dict[str, Any]
    status: str = "ACTIVE"
    nice: str | None = "OK"
    faults: int = 0
    events: list[dict[str, Any]] = field(default_factory=list)
    done: list[dict[str, str]] = field(default_factory=list)
    skipped: list[dict[str, str]] = field(default_factory=list)
    size: int = 0
    cancelled: bool = False
    fatal: dict[str, str] | None = None

    def say(self, code: str, is_error: bool = False) -> None:
        row = {"DATA_TYPE": "event", "code": code, "is_error": is_error, "description": code.lower().replace("_", " ")}
        self.events.insert(0, {**row, "details": "", "time": datetime.now(UTC).isoformat()})

    def document(self, queued: bool) -> dict[str, Any]:
        nice = None if self.status not in PENDING else "Queued" if queued and self.nice == "OK" else self.nice
        items = self.body.get("DATA", [])
        return {
            "DATA_TYPE": "task", "task_id": self.id, "status": self.status, "type": "TRANSFER",
            "label": self.body.get("label"), "owner_id": self.owner, "files": len(items),
            "files_transferred": len(self.done), "bytes_transferred": self.size, "effective_bytes_per_second": 1000,
            "faults": self.faults, "nice_status": nice, "nice_status_short_description": (nice or "").lower(),
            "nice_status_details": None, "subtasks_skipped_errors": len(self.skipped), "fatal_error": self.fatal,
            "deadline": self.body.get("deadline"), "completion_time": None, "is_paused": False,
            "canceled_by_admin": None,
        }  # fmt: skip


class Globus:
    """The service; `environment` points the SDK of another process at it."""

    def __init__(self, collections: dict[str, Collection]) -> None:
        self.collections = collections
        self.whims = Whims()
        self.lock = threading.RLock()
        self.tasks: dict[str, Task] = {}
        self.submissions: dict[str, str] = {}  # submission id: task
        self.clients = {str(uuid.uuid4()): "application-secret-1"}
        self.tokens: dict[str, tuple[str, str]] = {}  # access token: (identity, scopes)
        self.refresh: dict[str, tuple[str, str]] = {}
        self.codes: dict[str, tuple[str, str, str]] = {}  # code: (client, challenge, scopes)
        self.called: list[str] = []
        self._times: deque[float] = deque()
        self._running = True
        self._http = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        self.url = f"http://127.0.0.1:{self._http.server_address[1]}/"
        self._threads = [threading.Thread(target=self._http.serve_forever, args=(0.05,), daemon=True)]
        self._threads += [threading.Thread(target=self._work, daemon=True)]
        for thread in self._threads:
            thread.start()

    @property
    def environment(self) -> dict[str, str]:
        return {"GLOBUS_SDK_SERVICE_URL_TRANSFER": self.url, "GLOBUS_SDK_SERVICE_URL_AUTH": self.url}

    def flags(self, folder: Path, endpoint: str) -> list[str]:
        """Of a nameserver that logs in as a confidential app."""
        client, secret = next(iter(self.clients.items()))
        file = folder / "globus-secret"
        with open(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as out:
            out.write(secret)
        flags = ["--globus_enable", "--globus_client_id", client, "--globus_client_secret_file", str(file)]
        return [*flags, "--globus_local_endpoint_id", endpoint]

    def stop(self) -> None:
        self._running = False
        self._http.shutdown()
        self._http.server_close()
        for thread in self._threads:
            thread.join()

    # --- the work --------------------------------------------------------------------------

    def _work(self) -> None:
        while self._running:
            with self.lock:
                live = [task for task in self.tasks.values() if task.status in PENDING][:AT_ONCE]
            for task in live:
                self._step(task)
            time.sleep(0.02)

    def _step(self, task: Task) -> None:
        with self.lock:
            if task.cancelled:
                self._end(task, "FAILED", "CANCELED")
                return
            deadline = task.body.get("deadline")
            if deadline and datetime.now(UTC) > datetime.fromisoformat(deadline):
                self._end(task, "FAILED", "EXPIRED")
                return
            task.status = "INACTIVE" if self.whims.inactive else "ACTIVE"
            if self.whims.inactive or self.whims.hold:
                return
            if task.body["DATA_TYPE"] == "delete":
                self._delete(task)
            else:
                self._files(task)

    def _end(self, task: Task, status: str, code: str) -> None:
        task.status, task.nice = status, None
        task.say(code)

    def _delete(self, task: Task) -> None:
        import shutil

        for item in task.body["DATA"]:
            shutil.rmtree(self.collections[task.body["endpoint"]].real(item["path"]), ignore_errors=True)
        self._end(task, "SUCCEEDED", "SUCCEEDED")

    def _files(self, task: Task) -> None:
        over = {row["destination_path"] for row in (*task.done, *task.skipped)}
        for item in task.body["DATA"]:
            if item["destination_path"] in over:
                continue
            if 0 <= self.whims.fail_after <= len(task.done):
                task.fatal = {"code": "ENDPOINT_ERROR", "description": "the collection is gone"}
                self._end(task, "FAILED", "ENDPOINT_ERROR")
                return
            fault = self._one(task, item)
            if fault.startswith("SOURCE_") and task.body.get("skip_source_errors"):
                task.skipped.append(
                    {
                        "error_code": fault.removeprefix("SOURCE_"),
                        "error_details": "",
                        "is_directory": "",
                        **_paths(item),
                    }
                )
            elif fault:
                task.faults, task.nice = task.faults + 1, fault.removeprefix("SOURCE_")
                task.say(task.nice, is_error=True)
                return
            else:
                task.nice = "OK"
                task.done.append({"DATA_TYPE": "successful_transfer", **_paths(item)})
        self._end(task, "SUCCEEDED", "SUCCEEDED")

    def _one(self, task: Task, item: dict[str, Any]) -> str:
        """Copy a file; the code of what went wrong."""
        if self.whims.code:
            return self.whims.code
        if task.faults < self.whims.faults:
            return "CONNECTION_RESET"
        source = self.collections[task.body["source_endpoint"]].real(item["source_path"])
        target = self.collections[task.body["destination_endpoint"]].real(item["destination_path"])
        try:
            data = source.read_bytes()
        except FileNotFoundError:
            return "SOURCE_FILE_NOT_FOUND"
        sent = data
        if self.whims.corrupt > 0 or self.whims.silent_corruption:
            self.whims.corrupt -= 1
            sent = bytes([data[0] ^ 1]) + data[1:] if data else b"x"
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(sent)
        except OSError:
            return "PERMISSION_DENIED"
        good = hashlib.md5(sent).digest() == hashlib.md5(data).digest() or self.whims.silent_corruption
        if task.body.get("verify_checksum") and not good:
            return "VERIFY_CHECKSUM"
        task.size += len(data)
        return ""

    # --- calls -----------------------------------------------------------------------------

    def answer(self, method: str, path: str, query: dict[str, str], body: Any, token: str) -> tuple[int, Any]:
        with self.lock:
            self.called.append(f"{method} {path}")
            self._meter()
            if self.whims.answers:
                raise self.whims.answers.popleft()
            for verb, pattern, handle in ROUTES:
                found = re.fullmatch(pattern, path)
                if verb == method and found:
                    owner, scopes = self._known(token)
                    return handle(self, _Call(owner, scopes, query, body, found.groups()))
        raise Refused(404, "ClientError.NotFound", path)

    def _meter(self) -> None:
        now = time.monotonic()
        while self._times and now - self._times[0] > 1:
            self._times.popleft()
        if self.whims.rate and len(self._times) >= self.whims.rate:
            raise Refused(429, "RateLimitExceeded", headers={"Retry-After": "1"})
        self._times.append(now)

    def _known(self, token: str) -> tuple[str, str]:
        if token not in self.tokens:
            raise Refused(401, "AuthenticationFailed")
        return self.tokens[token]

    def revoke(self) -> None:
        """All access tokens; what refreshes them still holds."""
        with self.lock:
            self.tokens.clear()

    def issue(self, owner: str, scopes: str, refresh: bool = False) -> dict[str, Any]:
        access = "access-" + secrets.token_hex(16)
        self.tokens[access] = (owner, scopes)
        made = {"access_token": access, "scope": scopes, "expires_in": self.whims.token_life, "token_type": "Bearer"}
        if refresh:
            made["refresh_token"] = "refresh-" + secrets.token_hex(16)
            self.refresh[made["refresh_token"]] = (owner, scopes)
        return {**made, "resource_server": SERVER, "other_tokens": []}

    def of(self, owner: str, task: str) -> Task:
        found = self.tasks.get(task)
        if found is None or found.owner != owner:
            raise Refused(404, "ClientError.NotFound", f"Task ID {task} not found")
        return found

    def allow(self, call: _Call, endpoint: str) -> Collection:
        found = self.collections.get(endpoint)
        if found is None:
            raise Refused(404, "EndpointNotFound", f"No such endpoint '{endpoint}'")
        if found.session:
            raise Refused(403, "PermissionDenied", "session", authorization_parameters=found.session)
        wanted = f"{SCOPE}[*{DATA_ACCESS.format(endpoint)}]"
        if found.needs_consent and wanted not in call.scopes:
            raise Refused(403, "ConsentRequired", "Missing required data_access consent", required_scopes=[wanted])
        return found


@dataclass(frozen=True)
class _Call:
    owner: str
    scopes: str
    query: dict[str, str]
    body: Any
    parts: tuple[str, ...]


def _paths(item: dict[str, Any]) -> dict[str, str]:
    return {key: item[key] for key in ("source_path", "destination_path")}


def _submission(globus: Globus, call: _Call) -> tuple[int, Any]:
    return 200, {"value": str(uuid.uuid1())}


def _submit(globus: Globus, call: _Call) -> tuple[int, Any]:
    body, kind = call.body, call.body["DATA_TYPE"]
    known = globus.submissions.get(body["submission_id"])
    reply = {"DATA_TYPE": f"{kind}_result", "submission_id": body["submission_id"], "request_id": "r", "message": ""}
    if known and globus.whims.drop_replies > 0:
        globus.whims.drop_replies -= 1
        raise ConnectionAbortedError
    if known:
        return 200, {**reply, "code": "Duplicate", "task_id": known}
    if globus.whims.submissions:
        raise globus.whims.submissions.popleft()
    mine = [task for task in globus.tasks.values() if task.owner == call.owner and task.status in PENDING]
    if len(mine) >= globus.whims.pending:
        raise Refused(409, "ClientError.Conflict.TooManyPendingJobs")
    if not body["DATA"]:
        raise Refused(400, "ClientError.BadRequest.NoTransferItems")
    if any(task.body["DATA"] == body["DATA"] for task in mine):
        raise Refused(409, "Conflict", "A transfer with identical paths has not yet completed")
    for key in ("source_endpoint", "destination_endpoint") if kind == "transfer" else ("endpoint",):
        globus.allow(call, body[key])
    task = Task(str(uuid.uuid1()), call.owner, body)
    task.say("STARTED")
    globus.tasks[task.id], globus.submissions[body["submission_id"]] = task, task.id
    if globus.whims.drop_replies > 0:
        globus.whims.drop_replies -= 1
        raise ConnectionAbortedError
    return 202, {**reply, "code": "Accepted", "task_id": task.id}


def _document(globus: Globus, task: Task) -> dict[str, Any]:
    ahead = list(itertools.takewhile(lambda t: t is not task, globus.tasks.values()))
    return task.document(sum(t.status in PENDING for t in ahead) >= AT_ONCE)


def _task(globus: Globus, call: _Call) -> tuple[int, Any]:
    return 200, _document(globus, globus.of(call.owner, call.parts[0]))


def _cancel(globus: Globus, call: _Call) -> tuple[int, Any]:
    task = globus.of(call.owner, call.parts[0])
    if task.status not in PENDING:
        return 200, {"DATA_TYPE": "result", "code": "TaskComplete", "message": "", "request_id": "r"}
    task.cancelled = True
    return 200, {"DATA_TYPE": "result", "code": "Canceled", "message": "", "request_id": "r"}


def _task_list(globus: Globus, call: _Call) -> tuple[int, Any]:
    clauses = dict(clause.partition(":")[::2] for clause in call.query.get("filter", "").split("/") if clause)
    wanted = clauses.get("status", "").split(",") if clauses.get("status") else None
    rows = [
        _document(globus, task)
        for task in globus.tasks.values()
        if task.owner == call.owner and (wanted is None or task.status in wanted)
    ]
    limit = int(call.query.get("limit", 10))
    return 200, {"DATA_TYPE": "task_list", "DATA": rows[:limit], "limit": limit, "offset": 0, "total": len(rows)}


def _events(globus: Globus, call: _Call) -> tuple[int, Any]:
    rows = globus.of(call.owner, call.parts[0]).events
    return 200, {"DATA_TYPE": "event_list", "DATA": rows, "total": len(rows), "limit": 1000, "offset": 0}


def _of_one_that_is_over(rows: Callable[[Task], list[dict[str, str]]]) -> Callable[[Globus, _Call], tuple[int, Any]]:
    def handle(globus: Globus, call: _Call) -> tuple[int, Any]:
        task = globus.of(call.owner, call.parts[0])
        if task.status in PENDING:
            raise Refused(400, "ClientError.BadRequest", "task is still in progress")
        at = int(call.query.get("marker", 0))
        page = rows(task)[at : at + 2]  # so small that paging is seen
        following = at + 2 if at + 2 < len(rows(task)) else None
        return 200, {"DATA": page, "marker": at, "next_marker": None if following is None else str(following)}

    return handle


def _endpoint(globus: Globus, call: _Call) -> tuple[int, Any]:
    if call.parts[0] not in globus.collections:
        raise Refused(404, "EndpointNotFound", f"No such endpoint '{call.parts[0]}'")
    return 200, {"DATA_TYPE": "endpoint", "id": call.parts[0], "display_name": "a collection", "entity_type": "x"}


def _ls(globus: Globus, call: _Call) -> tuple[int, Any]:
    folder = globus.allow(call, call.parts[0]).real(call.query.get("path", "/"))
    if not folder.is_dir():
        raise Refused(404, "ClientError.NotFound", f"Directory '{call.query.get('path')}' not found")
    rows = [{"DATA_TYPE": "file", "name": name} for name in sorted(os.listdir(folder))]
    return 200, {"DATA_TYPE": "file_list", "DATA": rows, "total": len(rows)}


def _mkdir(globus: Globus, call: _Call) -> tuple[int, Any]:
    collection = globus.allow(call, call.parts[0])
    if not collection.writable:
        raise Refused(403, "EndpointPermissionDenied", "Permission denied")
    folder = collection.real(call.body["path"])
    if folder.exists():
        raise Refused(502, "ExternalError.MkdirFailed.Exists", "Path already exists")
    folder.mkdir()
    return 202, {"DATA_TYPE": "mkdir_result", "code": "DirectoryCreated", "message": "", "request_id": "r"}


V = "/v0.10"
TASK = rf"{V}/task/([0-9a-f-]+)"
AT = rf"{V}/operation/endpoint/([^/]+)"
ROUTES: list[tuple[str, str, Callable[[Globus, _Call], tuple[int, Any]]]] = [
    ("GET", f"{V}/submission_id", _submission),
    ("POST", f"{V}/transfer", _submit),
    ("POST", f"{V}/delete", _submit),
    ("GET", TASK, _task),
    ("POST", f"{TASK}/cancel", _cancel),
    ("GET", f"{V}/task_list", _task_list),
    ("GET", f"{TASK}/event_list", _events),
    ("GET", f"{TASK}/successful_transfers", _of_one_that_is_over(lambda task: task.done)),
    ("GET", f"{TASK}/skipped_errors", _of_one_that_is_over(lambda task: task.skipped)),
    ("GET", rf"{V}/endpoint/([^/]+)", _endpoint),
    ("GET", f"{AT}/ls", _ls),
    ("POST", f"{AT}/mkdir", _mkdir),
]


# --- Globus Auth -----------------------------------------------------------------------------


def _auth_error(status: int, error: str) -> Refused:
    found = Refused(status, error)
    found.body = {
        "error": error,
        "errors": [{"id": "e", "status": str(status), "code": error.upper(), "detail": error}],
    }
    return found


def token(globus: Globus, form: dict[str, str], authorization: str) -> Any:
    """POST /v2/oauth2/token."""
    import base64

    if form["grant_type"] == "client_credentials":
        name, _, secret = base64.b64decode(authorization.removeprefix("Basic ")).decode().partition(":")
        if globus.clients.get(name) != secret:
            raise _auth_error(401, "invalid_client")
        return globus.issue(name, form["scope"])
    if form["grant_type"] == "refresh_token":
        if form["refresh_token"] not in globus.refresh:
            raise _auth_error(400, "invalid_grant")
        made = globus.issue(*globus.refresh[form["refresh_token"]])
        return {"refresh_token": form["refresh_token"], **made}  # the same again
    client, challenge, scopes = globus.codes.pop(form["code"], ("", "", ""))
    proof = base64.urlsafe_b64encode(hashlib.sha256(form["code_verifier"].encode()).digest()).decode().rstrip("=")
    if client != form["client_id"] or challenge != proof:
        raise _auth_error(400, "invalid_grant")
    return globus.issue(f"person-of-{client}", scopes, refresh=True)


def visit(globus: Globus, url: str) -> str:
    """What a person does with an authorize URL; the code that the page shows."""
    asked = {key: values[0] for key, values in parse_qs(urlsplit(url).query).items()}
    assert urlsplit(url).path == "/v2/oauth2/authorize" and asked["code_challenge_method"] == "S256"
    assert asked["access_type"] == "offline", "no refresh token was asked for"
    code = "code-" + secrets.token_hex(8)
    globus.codes[code] = (asked["client_id"], asked["code_challenge"], asked["scope"])
    return code


def _handler(globus: Globus) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_: object) -> None:
            """Say nothing."""

        def _do(self, method: str) -> None:
            raw = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            parts = urlsplit(self.path)
            query = {key: values[0] for key, values in parse_qs(parts.query).items()}
            authorization = self.headers.get("Authorization", "")
            try:
                if parts.path == "/v2/oauth2/token":
                    form = {key: values[0] for key, values in parse_qs(raw.decode()).items()}
                    with globus.lock:
                        self._send(200, token(globus, form, authorization))
                    return
                body = json.loads(raw) if raw else None
                bearer = authorization.removeprefix("Bearer ")
                self._send(*globus.answer(method, unquote(parts.path), query, body, bearer))
            except Refused as refused:
                self._send(refused.status, refused.body, refused.headers)
            except ConnectionAbortedError:
                self.close_connection = True
                self.connection.close()

        def _send(self, status: int, body: Any, headers: dict[str, str] | None = None) -> None:
            data = json.dumps(body).encode()
            self.send_response(status)
            for name, value in (headers or {}).items():
                self.send_header(name, value)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def do_GET(self) -> None:
            self._do("GET")

        def do_POST(self) -> None:
            self._do("POST")

    return Handler
