"""The tasks of the emulator: they queue, copy real bytes, and go wrong in the way that their mood says."""

from __future__ import annotations

import random
import shutil
import threading
import time
import uuid
from collections import Counter
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from tests.network.globus.collection import Collection
from tests.network.globus.rules import moment

AT_ONCE = 3  # tasks of one identity and kind that are worked on
PENDING = ("ACTIVE", "INACTIVE")
SKIPPABLE = ("FILE_NOT_FOUND", "PERMISSION_DENIED")
LATE = 1.0  # seconds behind the end of its task at which a file is whole that was "late"


@dataclass
class Mood:
    """How a task misbehaves.  `after`: files that are done before."""

    after: int = 0
    hold: bool = False  # goes no further until `release`
    inactive: bool = False  # suspended until `resume`
    fail: str = ""  # FAILED with this code
    expire: bool = False
    cancel: str = ""  # by an administrator, who says so
    stuck: str = ""  # the code of a fault that does not go away
    faults: tuple[str, ...] = ()  # codes that come and go
    damaged: int = 0  # so many copies are damaged on their way, which verify_checksum notices
    wrong: dict[int, str] = field(default_factory=dict)  # by item: bytes, short, long, late, nothing
    shuffle: bool = False
    extra: bool = False
    pace: float = 0.0  # seconds for each file
    mute: bool = False  # it is called well, whatever it is in trouble with


@dataclass
class Task:
    """One task, and all that is told of it."""

    kind: str
    owner: str
    document: dict[str, Any]
    mood: Mood
    id: str = field(default_factory=lambda: str(uuid.uuid4()))
    status: str = "ACTIVE"
    begun: float = field(default_factory=time.time)
    ended: float = 0.0
    bytes: int = 0
    faults: int = 0
    trouble: str = "Queued"
    fatal: dict[str, str] | None = None
    by_admin: str = ""
    events: list[dict[str, Any]] = field(default_factory=list)  # the oldest first
    done: list[dict[str, str]] = field(default_factory=list)
    skipped: list[dict[str, Any]] = field(default_factory=list)
    waiting: list[tuple[int, dict[str, Any]]] = field(default_factory=list)
    cancelling: bool = False
    released: bool = False
    next_try: float = 0.0

    @property
    def pending(self) -> bool:
        return self.status in PENDING

    @property
    def deadline(self) -> float:
        return moment(self.document["deadline"]) if "deadline" in self.document else self.begun + 86_400.0

    def event(self, code: str, text: str, *, error: bool = False) -> None:
        row = {"DATA_TYPE": "event", "code": code, "is_error": error, "description": text, "details": text}
        self.events.append(row | {"time": _time(time.time()), "parent_task_id": None})

    def fault(self, code: str, text: str) -> None:
        self.faults += 1
        self.trouble = code
        self.next_try = time.time() + 0.1
        self.event(code, text, error=True)

    def over(self, status: str, code: str, text: str) -> None:
        self.status, self.ended, self.trouble = status, time.time(), ""
        if status == "FAILED":
            self.fatal = {"code": code, "description": text}
        self.event(code, text, error=False)


def _time(seconds: float) -> str | None:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds") if seconds else None


def described(task: Task, collections: dict[str, Collection]) -> dict[str, Any]:
    """The task document."""
    document, count = task.document, len(task.document["DATA"])
    over = not task.pending
    source = document.get("source_endpoint", document.get("endpoint"))
    target = document.get("destination_endpoint")
    nice = task.trouble if not task.mood.mute or over else "OK"
    said = {"": None, "OK": "OK", "Queued": "Queued"}.get(nice, nice.replace("_", " ").lower())
    left = count - len(task.done) - len(task.skipped)
    spent = max(0.001, (task.ended or time.time()) - task.begun)
    names = {key: found.name for key, found in collections.items()}
    return {
        "DATA_TYPE": "task",
        "task_id": task.id,
        "type": task.kind.upper(),
        "status": task.status,
        "label": document.get("label"),
        "owner_id": task.owner.partition("@")[0],
        "username": "u_" + task.owner[:8],
        "request_time": _time(task.begun),
        "completion_time": _time(task.ended),
        "deadline": _time(task.deadline),
        "source_endpoint_id": source,
        "source_endpoint_display_name": names.get(source, ""),
        "destination_endpoint_id": target,
        "destination_endpoint_display_name": names.get(target, "") if target else None,
        "files": 0 if task.trouble == "Queued" else count,
        "directories": 0,
        "files_skipped": 0,
        "files_transferred": len(task.done),
        "bytes_transferred": task.bytes,
        "bytes_checksummed": 0,
        "effective_bytes_per_second": int(task.bytes / spent),
        "subtasks_total": count,
        "subtasks_succeeded": len(task.done),
        "subtasks_skipped_errors": len(task.skipped),
        "subtasks_pending": left if not over else 0,
        "subtasks_retrying": int(bool(task.faults) and not over),
        "subtasks_failed": left if over and task.status == "FAILED" else 0,
        "subtasks_canceled": 0,
        "subtasks_expired": 0,
        "faults": task.faults,
        "is_ok": None if over else nice in ("OK", "Queued"),
        "is_paused": False,
        "nice_status": None if over else nice,
        "nice_status_short_description": None if over else said,
        "nice_status_details": None if over else said,
        "nice_status_expires_in": None if over else -1,
        "fatal_error": task.fatal,
        "history_deleted": False,
        "canceled_by_admin": "BOTH" if task.by_admin else None,
        "canceled_by_admin_message": task.by_admin or None,
        "skip_source_errors": document.get("skip_source_errors", False),
        "verify_checksum": document.get("verify_checksum", False),
        "encrypt_data": document.get("encrypt_data", False),
        "command": "API 0.10",
    }


class Engine:
    """Works on tasks in a thread."""

    def __init__(self, collections: dict[str, Collection]) -> None:
        self.lock = threading.RLock()
        self.collections = collections
        self.tasks: dict[str, Task] = {}
        self.late: list[tuple[float, Path, bytes]] = []
        self.most_working: Counter[str] = Counter()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="globus", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stop.set()
        self._thread.join(10)

    def add(self, task: Task) -> None:
        with self.lock:
            task.waiting = list(enumerate(task.document["DATA"]))
            if task.mood.shuffle:
                random.Random(len(self.tasks)).shuffle(task.waiting)
            self.tasks[task.id] = task

    def pending(self, owner: str) -> list[Task]:
        return [task for task in self.tasks.values() if task.owner == owner and task.pending]

    def cancel(self, task: Task, by_admin: str = "") -> None:
        with self.lock:
            if task.pending:
                task.by_admin = by_admin
                task.over("FAILED", "CANCELED", "The task was canceled" + (" by an administrator" if by_admin else ""))

    # --- the thread ------------------------------------------------------------------------

    def _run(self) -> None:
        while not self._stop.wait(0.01):
            with self.lock:
                self._finish_late()
                working: Counter[tuple[str, str]] = Counter()
                for task in list(self.tasks.values()):
                    if task.status == "ACTIVE":
                        self._turn(task, working)

    def _turn(self, task: Task, working: Counter[tuple[str, str]]) -> None:
        if task.deadline < time.time():
            task.over("FAILED", "EXPIRED", "The deadline has passed")
            return
        if working[task.owner, task.kind] >= AT_ONCE:
            return
        working[task.owner, task.kind] += 1
        if task.trouble == "Queued":
            task.trouble = "OK"
            task.event("STARTED", "started")
        if task.next_try <= time.time():
            self._step(task)

    def _step(self, task: Task) -> None:
        mood = task.mood
        if len(task.done) + len(task.skipped) >= mood.after and not task.released and self._moody(task, mood):
            return
        if not task.waiting:
            if task.skipped:
                task.event("SKIPPED_ERRORS", f"{len(task.skipped)} skipped")
            task.over("SUCCEEDED", "SUCCEEDED", "done")
            return
        position, item = task.waiting.pop(0)
        task.next_try = time.time() + mood.pace
        good = self._copied(task, position, item) if task.kind == "transfer" else self._deleted(task, item)
        if good:
            task.trouble = "OK"
        elif task.pending:
            task.waiting.append((position, item))

    def _moody(self, task: Task, mood: Mood) -> bool:
        """Whether the mood keeps the task from going on."""
        if mood.faults:
            code, *rest = mood.faults
            mood.faults = tuple(rest)
            task.fault(code, f"a fault, {code}, that goes away")
            return True
        if mood.inactive:
            task.status, task.trouble = "INACTIVE", "NO_CREDENTIALS"
            task.event("NO_CREDENTIALS", "credentials have expired", error=True)
        elif mood.fail:
            task.event(mood.fail, "this is fatal", error=True)
            task.over("FAILED", mood.fail, "this is fatal")
        elif mood.expire:
            task.over("FAILED", "EXPIRED", "the deadline has passed")
        elif mood.cancel:
            self.cancel(task, mood.cancel)
        elif mood.stuck:
            task.fault(mood.stuck, f"{mood.stuck} again")
        return bool(mood.hold or mood.stuck) or task.status != "ACTIVE"

    def _copied(self, task: Task, position: int, item: dict[str, Any]) -> bool:
        source = self.collections[task.document["source_endpoint"]]
        target = self.collections[task.document["destination_endpoint"]]
        if not (source.online and target.online):
            task.fault("GC_NOT_CONNECTED", "a collection is not connected")
            return False
        whole, code = source.read(item["source_path"], task.owner)
        if code:
            return self._unread(task, item, code)
        code = self._write(task, target, item["destination_path"], whole, task.mood.wrong.get(position, ""))
        if code:
            task.fault(code, f"{code}: {item['destination_path']}")
            return False
        task.bytes += len(whole)
        task.done.append(
            {"DATA_TYPE": "successful_transfer", **{k: item[k] for k in ("source_path", "destination_path")}}
        )
        return True

    def _unread(self, task: Task, item: dict[str, Any], code: str) -> bool:
        if not task.document.get("skip_source_errors") or code not in SKIPPABLE:
            task.fault(code, f"{code}: {item['source_path']}")
            return False
        row = {"DATA_TYPE": "skipped_error", **{k: item[k] for k in ("source_path", "destination_path")}}
        row |= {"error_code": code, "error_details": f"{code} at the source", "error_time": _time(time.time())}
        row |= {"is_directory": False, "is_symlink": False, "is_delete_destination_extra": False}
        task.skipped.append(row | {"external_checksum": None, "checksum_algorithm": None})
        return True

    def _write(self, task: Task, target: Collection, path: str, whole: bytes, wrong: str) -> str:
        """Put a file there, or less, or something else; the code of what is in the way."""
        place = target.place(path)
        if not target.writable(path, task.owner):
            return "PERMISSION_DENIED"
        if not place.parent.is_dir():
            if not target.makes_folders:
                return "FILE_NOT_FOUND"
            place.parent.mkdir(parents=True)
            place.parent.chmod(0o777 & ~target.umask)
        if place.is_dir():
            return "IS_A_DIRECTORY"
        middle = len(whole) // 2
        damaged = task.mood.damaged > 0
        task.mood.damaged -= damaged
        if (wrong == "bytes" or damaged) and whole:
            whole = whole[:middle] + bytes([whole[middle] ^ 0xFF]) + whole[middle + 1 :]
        self._put(place, whole, wrong, middle)
        if wrong != "nothing":
            place.chmod(0o666 & ~target.umask)
        if damaged and task.document.get("verify_checksum"):
            return "VERIFY_CHECKSUM"
        if task.mood.extra:
            (place.parent / f"{place.name}.globus-extra").write_bytes(b"nobody asked for this")
        return ""

    def _put(self, place: Path, whole: bytes, wrong: str, middle: int) -> None:
        if wrong == "nothing":
            return
        if wrong == "late":
            place.write_bytes(whole[:middle])
            self.late.append((time.time() + LATE, place, whole))
            return
        place.write_bytes({"short": whole[:middle], "long": whole + b"and more"}.get(wrong, whole))

    def _finish_late(self) -> None:
        due = [each for each in self.late if each[0] <= time.time()]
        self.late = [each for each in self.late if each not in due]
        for _, place, whole in due:
            if place.exists():
                with open(place, "r+b") as file:
                    file.write(whole)

    def _deleted(self, task: Task, item: dict[str, Any]) -> bool:
        target = self.collections[task.document["endpoint"]]
        place = target.place(item["path"])
        if not target.writable(item["path"], task.owner):
            task.fault("PERMISSION_DENIED", item["path"])
            return False
        if not place.exists() and not task.document.get("ignore_missing"):
            task.fault("FILE_NOT_FOUND", item["path"])
            return False
        if place.is_dir() and not task.document.get("recursive"):
            task.over("FAILED", "IS_A_DIRECTORY", item["path"])
            return False
        shutil.rmtree(place) if place.is_dir() else place.unlink(missing_ok=True)
        task.done.append({"path": item["path"]})
        return True
