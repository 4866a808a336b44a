"""An emulator of Globus, written from its documentation alone: strict about what it is asked, and it misbehaves.

It is an HTTP server for Auth and Transfer at one address, reached by the stock SDK through `environment`.  `trip`
spoils requests, `moods` spoil tasks.  Nothing of it knows the program that it is used to test.
"""

from __future__ import annotations

import base64
import json
import threading
import time
import uuid
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Any, Self
from urllib.parse import parse_qsl, urlsplit

from tests.network.globus.auth import DATA_ACCESS, TRANSFER_ALL, Auth, AuthRefused, Token
from tests.network.globus.collection import Collection
from tests.network.globus.rules import (
    Refused,
    bad,
    check_document,
    chosen,
    matcher,
    need_uuid,
    number,
    ordered,
)
from tests.network.globus.tasks import Engine, Mood, Task, described
from tests.network.globus.wire import Asked, Handler, Server, Trip

MAX_PENDING = 100


class Globus:
    """The service."""

    def __init__(self) -> None:
        self.auth = Auth()
        self.collections: dict[str, Collection] = {}
        self.engine = Engine(self.collections)
        self.moods: deque[Mood] = deque()
        self.mood: Callable[[], Mood] = Mood
        self.lock = threading.Lock()
        self.trips: list[Trip] = []
        self.asked: list[Asked] = []
        self.submissions: dict[str, tuple[str, str]] = {}  # id: owner, task
        self.lag = 0.0  # seconds by which the list of tasks lags behind
        self.blind = 0.0  # seconds for which a new task is not found by its id
        self.rate = 0  # requests a second that an identity has; 0: no limit
        self.metered_over = 10.0  # seconds
        self.cancel_takes = 0.0
        self.max_pending = MAX_PENDING
        self.lists_break = False  # whether lists of a task come in pages of two
        self._recent: dict[str, deque[float]] = {}
        self._server = Server(("127.0.0.1", 0), Handler)
        self._server.globus = self
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}/"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)

    @property
    def environment(self) -> dict[str, str]:
        return {"GLOBUS_SDK_SERVICE_URL_TRANSFER": self.url, "GLOBUS_SDK_SERVICE_URL_AUTH": self.url}

    def __enter__(self) -> Self:
        self._thread.start()
        self.engine.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self.engine.stop()

    # --- for tests -------------------------------------------------------------------------

    def collection(self, folder: Path | str, **more: Any) -> Collection:
        made = Collection(str(uuid.uuid4()), Path(folder), f"collection {len(self.collections)}", **more)
        self.collections[made.id] = made
        return made

    def trip(self, match: str, how: str, times: int = 1, skip: int = 0, seconds: float = 0.0) -> None:
        self.trips.append(Trip(match, how, times, skip, seconds))

    def transfers(self) -> list[Task]:
        """All tasks that move files, the oldest first."""
        with self.engine.lock:
            return [task for task in self.engine.tasks.values() if task.kind == "transfer"]

    def resume(self) -> None:
        """Credentials are renewed, and what was held goes on."""
        with self.engine.lock:
            for task in self.engine.tasks.values():
                task.released = True
                if task.status == "INACTIVE":
                    task.status, task.trouble = "ACTIVE", "OK"

    def fill(self, owner: str, count: int) -> list[Task]:
        """Tasks of the same identity that somebody else submitted, and that stay."""
        ends = list(self.collections)
        document = {"source_endpoint": ends[0], "destination_endpoint": ends[-1], "label": "another program"}
        made = []
        for name in range(count):
            item = {"source_path": f"/nowhere/{uuid.uuid4()}", "destination_path": f"/nowhere/{name}"}
            task = Task("transfer", owner, {**document, "DATA": [item]}, Mood(hold=True))
            self.engine.add(task)
            made.append(task)
        return made

    # --- requests --------------------------------------------------------------------------

    def answer(self, method: str, target: str, headers: Any, body: bytes) -> tuple[int, Any, dict[str, str]]:
        url = urlsplit(target)
        query = dict(parse_qsl(url.query, keep_blank_values=True))
        try:
            if url.path.startswith("/v2/"):
                return 200, self._auth(method, url.path, headers, body, target), {}
            if not url.path.startswith("/v0.10/"):
                raise Refused(404, "ClientError.NotFound", f"No such resource {url.path}")
            token = self._allowed(headers)
            self._metered(token.grant.identity)
            parts = url.path.removeprefix("/v0.10/").split("/")
            document = self._document(method, headers, body)
            found = self._route(method, parts, query, token, document)
            status = 202 if found.get("code") in ("Accepted", "CancelAccepted") else 200
            return status, found | {"request_id": "req" + uuid.uuid4().hex[:6], "resource": url.path}, {}
        except AuthRefused as error:
            return error.status, error.body, {}
        except Refused as error:
            told = {"code": error.code, "message": error.message, "request_id": "req", "resource": url.path}
            return error.status, told | error.more, {"Retry-After": "1"} if error.status == 429 else {}

    def _auth(self, method: str, path: str, headers: Any, body: bytes, target: str) -> Any:
        if (method, path) == ("GET", "/v2/oauth2/authorize"):
            return {"location": self.auth.redirect(target, "person@example.org")}
        if (method, path) != ("POST", "/v2/oauth2/token"):
            raise AuthRefused(404, "not_found")
        if not headers.get("Content-Type", "").startswith("application/x-www-form-urlencoded"):
            raise AuthRefused(400, "invalid_request", "no form")
        kind, _, text = headers.get("Authorization", "").partition(" ")
        basic = None
        if kind == "Basic":
            name, _, secret = base64.b64decode(text).decode().partition(":")
            basic = name, secret
        return self.auth.token(dict(parse_qsl(body.decode())), basic)

    def _allowed(self, headers: Any) -> Token:
        token = self.auth.who(headers.get("Authorization", ""))
        if token is None:
            raise Refused(
                401, "AuthenticationFailed", f"{headers.get('Authorization') if self.auth.echoes else ''} is not active"
            )
        if TRANSFER_ALL not in token.scopes:
            raise Refused(403, "PermissionDenied", "Token lacks the scope of Transfer")
        return token

    def _metered(self, identity: str) -> None:
        if not self.rate:
            return
        now, seen = time.monotonic(), self._recent.setdefault(identity, deque())
        while seen and seen[0] < now - self.metered_over:
            seen.popleft()
        if len(seen) >= self.metered_over * self.rate:
            raise Refused(429, "TooManyRequests", "Slow down")
        seen.append(now)

    def _document(self, method: str, headers: Any, body: bytes) -> Any:
        if method == "GET" or not body:
            return None
        if not headers.get("Content-Type", "").startswith("application/json"):
            raise Refused(415, "UnsupportedMediaType", "no JSON")
        try:
            return json.loads(body)
        except ValueError:
            raise bad("The body is no JSON") from None

    def _route(  # noqa: C901 - a table
        self, method: str, parts: list[str], query: dict[str, str], token: Token, document: Any
    ) -> Any:
        owner = token.grant.identity
        match [method, *parts]:
            case ["GET", "submission_id"]:
                value = str(uuid.uuid4())
                self.submissions[value] = owner, ""
                return {"value": value}
            case ["POST", ("transfer" | "delete") as kind]:
                return self._submit(kind, token, document)
            case ["GET", "task_list"]:
                return self._task_list(owner, query)
            case ["GET", "task", key]:
                return chosen(described(self._task(owner, key), self.collections), query.get("fields", ""))
            case ["POST", "task", key, "cancel"]:
                return self._cancel(self._task(owner, key))
            case ["GET", "task", key, "event_list"]:
                return self._events(self._task(owner, key), query)
            case ["GET", "task", key, ("successful_transfers" | "skipped_errors") as what]:
                return self._results(self._task(owner, key), what, query)
            case ["GET", "endpoint", key]:
                return self._collection(key).described()
            case ["GET", "operation", "endpoint", key, ("ls" | "stat") as verb]:
                return self._open(key, token).look(verb, query)
            case ["POST", "operation", "endpoint", key, "mkdir"]:
                return self._open(key, token).mkdir(owner, document)
        raise Refused(404, "ClientError.NotFound", f"No such resource {'/'.join(parts)}")

    # --- tasks -----------------------------------------------------------------------------

    def _submit(self, kind: str, token: Token, document: Any) -> Any:
        owner = token.grant.identity
        check_document(document, kind)
        key = need_uuid(document["submission_id"], "submission_id")
        with self.engine.lock:
            if self.submissions.get(key, ("", ""))[0] != owner:
                raise bad(f"Submission id {key} was not given to you", "ClientError.BadRequest.InvalidSubmissionId")
            there = self.submissions[key][1]
            if there:
                if self.engine.tasks[there].kind != kind:
                    raise Refused(409, "ClientError.Conflict", "Submission id is used up by another kind of task")
                return self._accepted(kind, key, there, "Duplicate")
            ends = ("source_endpoint", "destination_endpoint") if kind == "transfer" else ("endpoint",)
            for end in ends:
                self._open(document[end], token)
            pending = self.engine.pending(owner)
            if len(pending) >= self.max_pending:
                raise Refused(409, "ClientError.Conflict.TooManyPendingJobs", "You have too many pending jobs")
            if kind == "transfer" and any(_same(task.document, document) for task in pending):
                raise Refused(409, "Conflict", "A transfer with identical paths has not yet completed")
            mood = Mood() if kind == "delete" else self.moods.popleft() if self.moods else self.mood()
            task = Task(kind, owner, document, mood)
            self.submissions[key] = owner, task.id
            self.engine.add(task)
            return self._accepted(kind, key, task.id, "Accepted")

    def _accepted(self, kind: str, key: str, task: str, code: str) -> Any:
        link = {"DATA_TYPE": "link", "href": f"task/{task}?format=json", "rel": "related", "resource": "task"}
        made = {"DATA_TYPE": f"{kind}_result", "code": code, "message": code, "submission_id": key, "task_id": task}
        return made | {"task_link": link}

    def _task(self, owner: str, key: str) -> Task:
        task = self.engine.tasks.get(need_uuid(key, "task"))
        if task is None or task.owner != owner or time.time() - task.begun < self.blind:
            raise Refused(404, "TaskNotFound", f"No such task {key}")
        return task

    def _task_list(self, owner: str, query: dict[str, str]) -> Any:
        wanted = matcher(query.get("filter", ""))
        limit, offset = number(query, "limit", 10, 1000, 1), number(query, "offset", 0, 1_000_000)
        with self.engine.lock:
            old = time.time() - self.lag
            tasks = [task for task in self.engine.tasks.values() if task.owner == owner and task.begun <= old]
            rows = [described(task, self.collections) for task in tasks]
        rows = [row for row in rows if all(str(row[key]) in values for key, values in wanted.items())]
        rows = ordered(rows, query.get("orderby", "request_time DESC"))
        page = [chosen(row, query.get("fields", "")) for row in rows[offset : offset + limit]]
        counts = {"length": len(page), "limit": limit, "offset": offset, "total": len(rows)}
        return {"DATA_TYPE": "task_list", "DATA": page, **counts}

    def _cancel(self, task: Task) -> Any:
        if not task.pending:
            return {"DATA_TYPE": "result", "code": "TaskComplete", "message": "The task is complete already"}
        if self.cancel_takes:
            threading.Timer(self.cancel_takes, self.engine.cancel, [task]).start()
            return {"DATA_TYPE": "result", "code": "CancelAccepted", "message": "The task will be cancelled"}
        self.engine.cancel(task)
        return {"DATA_TYPE": "result", "code": "Canceled", "message": "The task has been cancelled successfully."}

    def _events(self, task: Task, query: dict[str, str]) -> Any:
        limit, offset = number(query, "limit", 10, 1000, 1), number(query, "offset", 0, 1_000_000)
        rows = [row for row in reversed(task.events) if row["is_error"] or query.get("filter") != "is_error:1"]
        page = rows[offset : offset + limit]
        counts = {"length": len(page), "limit": limit, "offset": offset, "total": len(rows)}
        return {"DATA_TYPE": "event_list", "DATA": page, **counts}

    def _results(self, task: Task, what: str, query: dict[str, str]) -> Any:
        if task.pending:
            raise bad(f"Task {task.id} is still in progress")
        rows = task.done if what == "successful_transfers" else task.skipped
        start = int(base64.b64decode(query["marker"]).decode()) if "marker" in query else 0
        size = 2 if self.lists_break else number(query, "page_size", 100, 1000, 1)
        more = base64.b64encode(str(start + size).encode()).decode() if start + size < len(rows) else None
        page = {"DATA_TYPE": what, "marker": query.get("marker"), "next_marker": more}
        return page | {"DATA": rows[start : start + size]}

    # --- collections -----------------------------------------------------------------------

    def _collection(self, key: str) -> Collection:
        found = self.collections.get(need_uuid(key, "endpoint"))
        if found is None:
            raise Refused(404, "EndpointNotFound", f"No such endpoint {key!r}")
        return found

    def _open(self, key: str, token: Token) -> Collection:
        """A collection for this token, with consent and session as it asks for."""
        found = self._collection(key)
        if found.consent and found.id not in token.grant.consents:
            scopes = [f"{TRANSFER_ALL}[{DATA_ACCESS.format(found.id)}]"]
            message = "Missing required data_access consent"
            raise Refused(403, "ConsentRequired", message, required_scopes=scopes)
        if found.session and not set(found.session) - {"session_message"} <= set(token.grant.session):
            message = "The session does not do"
            raise Refused(403, "PermissionDenied", message, authorization_parameters=found.session)
        return found


def _same(one: dict[str, Any], other: dict[str, Any]) -> bool:
    def pairs(document: dict[str, Any]) -> set[tuple[str, str]]:
        return {(item["source_path"], item["destination_path"]) for item in document["DATA"] if "source_path" in item}

    ends = ("source_endpoint", "destination_endpoint")
    return all(one.get(end) == other.get(end) for end in ends) and pairs(one) == pairs(other)
