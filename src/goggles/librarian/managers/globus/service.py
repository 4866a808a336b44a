"""The Globus service, as far as a librarian needs it: every call of the SDK, and what its errors mean to us.

Law: rate limits and retries are the SDK's.  What is left over is Unavailable where the service could not be asked or
its answer makes no sense, Overloaded where it wants us to wait, PermissionDenied where a person has to do something
(the hint says what), and NotFound or BadRequest where it is certain that nothing was done.  What the service says is
shown without our secrets, whatever it repeats.
"""

from __future__ import annotations

import logging
import re
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

from globus_sdk import (
    AuthAPIError,
    DeleteData,
    GlobusAPIError,
    GlobusError,
    NetworkError,
    TransferClient,
    TransferData,
)
from globus_sdk.transport import RequestsTransport, RetryCheckResult, RetryConfig, RetryContext

from goggles.errors import BadRequest, GogglesError, NotFound, Overloaded, PermissionDenied, Unavailable
from goggles.librarian.managers.globus.credentials import ALL, LOGIN, RETRIES, TIMEOUT, Credentials

log = logging.getLogger(__name__)
T = TypeVar("T")
LIVE = ("ACTIVE", "INACTIVE")
SILENT = 10.0  # seconds for which a service that was not there is not asked again, for others wait meanwhile
LAG = 60.0  # seconds after which a new task is in the list of tasks for sure
EVENTS = 50  # the newest of a task that are looked at
NONSENSE = (ValueError, KeyError, TypeError, AttributeError)  # what the SDK raises, and we, at an answer that is none
COLLECTION = re.compile(r"/scopes/([0-9a-fA-F-]{36})/data_access")


class Globus:
    """One identity at Globus."""

    def __init__(self, credentials: Credentials) -> None:
        self._credentials = credentials
        self._lock = threading.Lock()
        self._client: TransferClient | None = None  # guarded by _lock
        self._scopes = [ALL]  # guarded by _lock
        self._fresh: dict[str, float] = {}  # tasks that the list may not have yet: since when; guarded by _lock
        self._silent = 0.0  # monotonic seconds until which it is not asked
        self._heard = threading.local()  # .lost: whether an answer to this call was
        self._closing = threading.Event()

    def close(self) -> None:
        """No call is tried once more."""
        self._closing.set()

    # --- tasks -----------------------------------------------------------------------------

    def pending(self) -> int:
        """Tasks that this identity has at Globus and that are not over, whoever submitted them.

        The list of tasks may lag behind: what was just submitted from here is counted in any case."""

        def ask(client: TransferClient) -> tuple[int, set[str]]:
            found = client.task_list(filter={"status": list(LIVE)}, limit=1_000)
            return int(found["total"]), {str(row["task_id"]) for row in found["DATA"]}

        total, listed = self._call("count the tasks", ask)
        before = time.monotonic() - LAG
        with self._lock:
            self._fresh = {task: since for task, since in self._fresh.items() if since > before}
            return total + len(self._fresh.keys() - listed)

    def submission_id(self) -> str:
        return self._call("get a submission id", lambda client: _text(client.get_submission_id()["value"]))

    def submit(self, job: Mapping[str, Any]) -> str:
        """The task of this job; the one that there is where it was submitted before.

        Unavailable where an answer was lost, whatever the SDK heard when it asked again: the task may be there."""
        data = TransferData(
            job["source"],
            job["destination"],
            label=job["label"],
            submission_id=job["submission"],
            verify_checksum=True,
            encrypt_data=True,
            skip_source_errors=True,
            deadline=job["deadline"],
            notify_on_succeeded=False,
            notify_on_failed=False,
            notify_on_inactive=False,
        )
        for source, destination in job["items"].values():
            data.add_item(source, destination)
        self._heard.lost = False
        try:
            task = self._call("submit a task", lambda client: _text(client.submit_transfer(data)["task_id"]))
        except Unavailable:
            raise
        except GogglesError as error:
            if self._heard.lost:
                raise Unavailable(f"an answer of Globus was lost, then: {error.message}", error.hint) from error
            raise
        with self._lock:
            self._fresh[task] = time.monotonic()
        return task

    def task(self, task: str) -> dict[str, Any]:
        found = self._call("look at a task", lambda client: _task(client.get_task(task).data))
        if found["status"] not in LIVE:
            with self._lock:
                self._fresh.pop(task, None)
        return found

    def events(self, task: str) -> list[dict[str, Any]]:
        """The newest events of a task, the newest first."""
        return self._call(
            "read events", lambda client: [dict(row) for row in client.task_event_list(task, limit=EVENTS)["DATA"]]
        )

    def successes(self, task: str) -> set[str]:
        """Where files have arrived, of a task that is over."""
        return {row["destination_path"] for row in self._pages("successful_transfers", task, "destination_path")}

    def skipped(self, task: str) -> dict[str, str]:
        """What was left out, by where it would have arrived: the code of the error."""
        rows = self._pages("skipped_errors", task, "destination_path", "error_code")
        return {row["destination_path"]: row["error_code"] for row in rows}

    def _pages(self, what: str, task: str, *keys: str) -> list[dict[str, str]]:
        """All rows of one of the two lists of a task that is over."""

        def ask(client: TransferClient) -> list[dict[str, str]]:
            method = client.task_successful_transfers if what == "successful_transfers" else client.task_skipped_errors
            rows: list[dict[str, str]] = []
            marker: dict[str, Any] = {}
            while True:
                page = method(task, **marker)
                rows += [{key: str(row[key]) for key in keys} for row in page["DATA"]]
                if not page.get("next_marker"):
                    return rows
                marker = {"marker": page["next_marker"]}

        return self._call(f"read {what}", ask)

    def cancel(self, task: str) -> None:
        self._call("cancel a task", lambda client: client.cancel_task(task))

    # --- collections -----------------------------------------------------------------------

    def endpoint(self, endpoint: str) -> dict[str, Any]:
        return self._call(f"look at collection {endpoint}", lambda client: dict(client.get_endpoint(endpoint).data))

    def listing(self, endpoint: str, path: str) -> list[str]:
        """The first names in a folder."""

        def ask(client: TransferClient) -> list[str]:
            found = client.operation_ls(endpoint, path, limit=100, show_hidden=True)
            return [str(row["name"]) for row in found["DATA"]]

        return self._call(f"list {path} on collection {endpoint}", ask)

    def make_folder(self, endpoint: str, path: str) -> None:
        self._call(
            f"make {path} on collection {endpoint}",
            lambda client: _text(client.operation_mkdir(endpoint, path)["code"]),
        )

    def remove(self, endpoint: str, path: str) -> str:
        """Submit the removal of a folder; its task."""

        def ask(client: TransferClient) -> str:
            data = DeleteData(endpoint, recursive=True, label="goggles probe", notify_on_succeeded=False)
            data.add_item(path)
            return _text(client.submit_delete(data)["task_id"])

        return self._call(f"remove {path} on collection {endpoint}", ask)

    def log_in(self) -> None:
        """Log in anew; raises what is wrong."""
        self._forget()
        self._silent = 0.0
        self._call("log in", lambda client: client.get_submission_id())

    # --- calling ---------------------------------------------------------------------------

    def _call(self, what: str, ask: Callable[[TransferClient], T]) -> T:
        if time.monotonic() < self._silent:
            raise Unavailable("Globus could not be reached a moment ago", "it is tried again")
        try:
            try:
                return ask(self._connected())
            except GlobusAPIError as error:
                if not self._is_curable(error):
                    raise
                return ask(self._connected())
        except GlobusError as error:
            found = explained(error, what, self._credentials.native, self._hushed)
            if _needs_login(error):
                self._forget()  # what is in the file next time may be better
            if isinstance(error, NetworkError):
                self._silent = time.monotonic() + SILENT
            raise found from None  # its text may repeat a secret
        except NONSENSE as error:
            log.info("an answer of Globus to %r makes no sense: %s", what, type(error).__name__)
            raise Unavailable(f"Globus could not be asked to {what}: its answer makes no sense") from None

    def _connected(self) -> TransferClient:
        with self._lock:
            if self._client is None:
                authorizer = self._credentials.authorizer(self._scopes, self._retries())
                transport = RequestsTransport(http_timeout=TIMEOUT)
                self._client = TransferClient(authorizer=authorizer, transport=transport, retry_config=self._retries())
            return self._client

    def _retries(self) -> RetryConfig:
        made = RetryConfig(max_retries=RETRIES)
        made.checks.register_check(self._listen)  # before those of the SDK
        return made

    def _listen(self, heard: RetryContext) -> RetryCheckResult:
        """Called after each try of the SDK, for it hides all but the last."""
        if heard.response is None or heard.response.status_code >= 500:
            self._heard.lost = True
        return RetryCheckResult.do_not_retry if self._closing.is_set() else RetryCheckResult.no_decision

    def _hushed(self, text: str) -> str:
        """A text of somebody else, without a secret or a token of ours that it repeats."""
        with self._lock:
            authorizer = None if self._client is None else self._client.authorizer
        for name in ("access_token", "refresh_token"):
            token = getattr(authorizer, name, None)
            text = text.replace(token, "(a token)") if token else text
        return self._credentials.hushed(text)

    def _forget(self) -> None:
        with self._lock:
            self._client = None

    def _is_curable(self, error: GlobusAPIError) -> bool:
        """Whether the same call may go well with a new login: the SDK renews a token on its first try only."""
        if error.http_status == 401 and not isinstance(error, AuthAPIError):
            self._forget()
            return True
        return self._widened(error)

    def _widened(self, error: GlobusAPIError) -> bool:
        """A confidential app gives the consents that it is asked for to itself."""
        wanted: Sequence[str] = error.info.consent_required.required_scopes
        with self._lock:
            new = [scope for scope in wanted if scope not in self._scopes]
            if self._credentials.native or not new:
                return False
            self._scopes, self._client = [*self._scopes, *new], None
        log.info("Globus asks for consent: %s", ", ".join(new))
        return True


def _text(value: object) -> str:
    """A word that an answer has to have."""
    if not isinstance(value, str) or not value:
        raise ValueError
    return value


def _task(value: Any) -> dict[str, Any]:
    """A task document that says at least whose it is, and how it is."""
    found = dict(value)
    _text(found["task_id"])
    _text(found["status"])
    return found


# --- errors ------------------------------------------------------------------------------------


def explained(error: GlobusError, what: str, native: bool, hushed: Callable[[str], str]) -> GogglesError:
    """What an error of the SDK means; `hushed` takes our secrets out of what the service says."""
    if isinstance(error, NetworkError):
        return Unavailable(f"Globus could not be reached to {what} ({type(error).__name__})", "it is tried again")
    if not isinstance(error, GlobusAPIError):
        return Unavailable(f"Globus could not be asked to {what}: {hushed(str(error))}")
    told = hushed(_said(error))
    said = f"Globus did not {what}: {told}"
    status, code = error.http_status, error.code or ""
    if "TooManyPendingJobs" in code:
        return Overloaded("Globus has as many tasks of this identity as it takes", "the next ones wait")
    if status == 429 or status >= 500:
        return Unavailable(said, "it is tried again")
    if isinstance(error, AuthAPIError):
        return PermissionDenied(f"Globus does not let us log in: {told}", _login(native))
    if _needs_login(error):
        return PermissionDenied(said, _remedy(error, native))
    if status == 403:
        return PermissionDenied(said, "the identity that we log in with needs the right to do it; see: check-globus")
    if status == 409:
        return Overloaded(said, "it goes on when what is in the way is over")
    if status == 404:
        return NotFound(said)
    return BadRequest(said)


def _needs_login(error: GlobusError) -> bool:
    """Whether a person, or a new secret, can make this good."""
    if isinstance(error, AuthAPIError):
        return True
    if not isinstance(error, GlobusAPIError):
        return False
    return error.http_status == 401 or bool(error.info.consent_required or error.info.authorization_parameters)


def _said(error: GlobusAPIError) -> str:
    return " ".join(f"{error.message or ''} [{error.code or error.http_status}]".split())[:500]


def _login(native: bool) -> str:
    return f"run: {LOGIN}" if native else "check globus_client_id and the file globus_client_secret_file"


def _remedy(error: GlobusAPIError, native: bool) -> str:
    """The command that a person has to run."""
    collections = COLLECTION.findall(" ".join(error.info.consent_required.required_scopes))
    flags = [f"--consent {collection}" for collection in collections] + session_flags(error)
    if flags and native:
        return f"run: {LOGIN} {' '.join(flags)}"
    if flags:
        return "an application can not give what this collection asks for: use a native app, or change its policy"
    return _login(native)


def session_flags(error: GlobusAPIError) -> list[str]:
    """What a collection asks of the login, as flags of globus-login."""
    wanted = error.info.authorization_parameters
    flags = [f"--session_identity {each}" for each in wanted.session_required_identities or ()]
    flags += [f"--session_domain {each}" for each in wanted.session_required_single_domain or ()]
    flags += [f"--session_policy {each}" for each in wanted.session_required_policies or ()]
    flags += ["--session_mfa"] if wanted.session_required_mfa else []
    return flags or (["--again"] if wanted else [])
