"""When each background task runs, and with what: read from a file, checked before anything starts.

Format: JSON or TOML of the seeds' shape: by the kind of task a list of tables, each with `task_name`, `every`
("HH:MM:SS"), `soft_timeout` (the same, or null) and what the kind takes.  Law: a mistake names its key, and nothing is
started with half a schedule.
"""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

from goggles.contracts.peering import MAX_OFFER
from goggles.errors import SettingsError

_DURATION = re.compile(r"(\d{1,4}):([0-5]\d):([0-5]\d)\Z")
MAX_TASKS = 1_000


@dataclass(frozen=True, slots=True)
class Key:
    """One key of a task: how it is read, in words and in code, and what it is where it is missing."""

    shape: str
    read: Callable[[Any], Any]
    default: Any = None
    needed: bool = False
    says: str = ""


@dataclass(frozen=True, slots=True)
class Plan:
    """One task of the schedule; times in seconds."""

    kind: str
    name: str
    every: float
    soft_timeout: float | None = None
    values: Mapping[str, Any] = field(default_factory=lambda: MappingProxyType({}))

    def __getitem__(self, key: str) -> Any:
        return self.values[key]


def duration(text: Any) -> float:
    """Seconds in "HH:MM:SS"; ValueError."""
    match = _DURATION.match(text) if isinstance(text, str) else None
    if match is None:
        raise ValueError
    hours, minutes, seconds = (int(part) for part in match.groups())
    if not (total := 3600 * hours + 60 * minutes + seconds):
        raise ValueError
    return float(total)


def _or_none(read: Callable[[Any], Any]) -> Callable[[Any], Any]:
    return lambda value: None if value is None else read(value)


def _text(value: Any) -> str:
    if not isinstance(value, str) or not value:
        raise ValueError
    return value


def _number(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < 1e6:
        raise ValueError
    return float(value)


def _count(value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= 1_000_000:
        raise ValueError
    return value


def _switch(value: Any) -> bool:
    if not isinstance(value, bool):
        raise ValueError
    return value


def _texts(value: Any) -> tuple[str, ...]:
    return tuple(_text(one) for one in (value if isinstance(value, list | tuple) and value else [value]))


def _policy(value: Any) -> int:
    if isinstance(value, str):
        return ("DISALLOWED", "ALLOWED").index(value.upper())
    if isinstance(value, bool) or value not in (0, 1):
        raise ValueError
    return int(value)


def _staged(value: Any) -> int:
    if isinstance(value, bool) or value not in (2, "STAGED"):
        raise ValueError
    return 2


SWITCH = ("true or false", _switch)


def _batch(value: Any) -> int:
    if _count(value) > MAX_OFFER:
        raise ValueError
    return int(value)


TEXT, COUNT = ("a text", _text), ("a whole number from 1 up", _count)
DAYS, TEXT_OR_NULL = ("a number of days", _number), ("a text or null", _or_none(_text))
DAYS_OR_NULL = ("a number of days or null", _or_none(_number))

COMMON: dict[str, Key] = {
    "task_name": Key(*TEXT, needed=True, says="its name, in `tasks`, `run-task` and the log; no two tasks share one"),
    "every": Key("a time HH:MM:SS above zero", duration, needed=True, says="time between two runs"),
    "soft_timeout": Key(
        "a time HH:MM:SS or null", _or_none(duration), says="a run stops between two files after this time; null: 1 h"
    ),
}
_YOUNG = Key(*DAYS_OR_NULL, says="only files that were made in the last so many days; null: all")
KINDS: dict[str, dict[str, Key]] = {
    "send_clone": {
        "destination_librarian": Key(*TEXT, needed=True, says="where the files go, as `add-librarian` named it"),
        "age_in_days": _YOUNG,
        "store_preference": Key(*TEXT_OR_NULL, says="storage to send from where it has a copy"),
        "send_batch_size": Key(
            f"a whole number from 1 to {MAX_OFFER}", _batch, default=128, says="files that are offered at once"
        ),
        "warn_disabled_timer": Key(
            *DAYS_OR_NULL, says="days after which `search-errors` tells that transfers there are disabled; null: never"
        ),
    },
    "consume_queue": {},
    "check_consumed_queue": {
        "complete_status": Key(
            "2 or STAGED",
            _staged,
            default=2,
            says="what a file is there once its bytes have come; nothing else makes sense",
        )
    },
    "receive_clone": {
        "files_per_run": Key(*COUNT, default=1024, says="at most so many in one run"),
        "deletion_policy": Key(
            "0 (DISALLOWED) or 1 (ALLOWED)", _policy, default=0, says="whether `rolling_deletion` may let go what comes"
        ),
    },
    "outgoing_transfer_hypervisor": {
        "age_in_days": Key(*DAYS, default=7.0, says="of transfers that have not moved for so long")
    },
    "incoming_transfer_hypervisor": {
        "age_in_days": Key(*DAYS, default=30.0, says="the same; more than at the source, which asks first")
    },
    "check_integrity": {
        "age_in_days": Key(*DAYS, default=30.0, says="copies that were not read for so long"),
        "store_name": Key(*TEXT_OR_NULL, says="those on this storage; null: on all"),
    },
    "create_local_clone": {
        "age_in_days": _YOUNG,
        "clone_from": Key(*TEXT, needed=True, says="storage that the files are on"),
        "clone_to": Key(
            "a text or a list of texts", _texts, needed=True, says="drives; one copy on all of them together"
        ),
        "files_per_run": Key(*COUNT, default=1024, says="at most so many in one run"),
        "disable_store_on_full": Key(*SWITCH, default=False, says="a drive without room for the next file is disabled"),
    },
    "duplicate_remote_instance_hypervisor": {},
    "rolling_deletion": {
        "store_name": Key(*TEXT_OR_NULL, says="copies on this storage; null: all copies here"),
        "age_in_days": Key(*DAYS, needed=True, says="of files that were made longer ago"),
        "number_of_remote_copies": Key(
            *COUNT, default=3, says="good copies at other librarians that there must be; each storage there counts"
        ),
        "verify_downstream_checksums": Key(*SWITCH, default=True, says="they are read now; false: told within a day"),
        "mark_unavailable": Key(*SWITCH, default=True, says="remember which storage had the copy"),
        "force_deletion": Key(*SWITCH, default=False, says="also files whose deletion is not allowed"),
    },
    "corruption_fixer": {},
    "purge_transfers": {
        "age_in_days": Key(*DAYS, default=30.0, says="of transfers that have been over for so long"),
    },
}
WORK = {
    "send_clone": "offers files to a librarian, which makes places for them",
    "consume_queue": "begins to send what was offered",
    "check_consumed_queue": "looks how that goes, and tells the destination what has come",
    "receive_clone": "reads what has come, makes files of it, and tells the source",
    "outgoing_transfer_hypervisor": "settles with the destination what has become of old transfers",
    "incoming_transfer_hypervisor": "the same with the source",
    "check_integrity": "reads copies again",
    "create_local_clone": "fills drives that are to be carried",
    "duplicate_remote_instance_hypervisor": "compares what others are known to hold with what they hold",
    "rolling_deletion": "lets copies here go that others hold",
    "corruption_fixer": "has files made whole whose copies are bad: from copies here, else from another librarian",
    "purge_transfers": "forgets transfers that have been over for long; also runs where a schedule does not have it",
}
IGNORED = frozenset({"max_rsync_retries"})  # of existing librarians; there is nothing here that it would change
SPELLINGS = {"recieve_clone": "receive_clone", "recv_clone": "receive_clone"}

# Runs, unlisted, also where a schedule does not have the kind: schedules of existing librarians do not.
PURGE = Plan("purge_transfers", "purge transfers", 3600.0, None, MappingProxyType({"age_in_days": 30.0}))
DEFAULT = (
    Plan("consume_queue", "consume queue", 1.0),
    Plan("check_consumed_queue", "check consumed queue", 1.0, None, MappingProxyType({"complete_status": 2})),
    Plan("receive_clone", "receive clone", 1.0, None, MappingProxyType({"files_per_run": 1024, "deletion_policy": 0})),
    Plan("corruption_fixer", "corruption fixer", 60.0),
    Plan("outgoing_transfer_hypervisor", "outgoing hypervisor", 3600.0, None, MappingProxyType({"age_in_days": 1.0})),
    Plan("incoming_transfer_hypervisor", "incoming hypervisor", 3600.0, None, MappingProxyType({"age_in_days": 7.0})),
    PURGE,
)


def load(path: Path) -> tuple[Plan, ...]:
    """The schedule in a file; SettingsError names the file and the key that is wrong."""
    try:
        text = path.read_text("utf-8")
        data = tomllib.loads(text) if path.suffix == ".toml" else json.loads(text)
    except OSError as error:
        raise SettingsError(f"{path} can not be read: {error.strerror}", "see --background") from error
    except ValueError as error:
        raise SettingsError(f"{path} is not {'TOML' if path.suffix == '.toml' else 'JSON'}: {error}") from error
    try:
        return read(data)
    except SettingsError as error:
        raise SettingsError(f"{path}: {error.message}", error.hint) from error


def read(data: Any) -> tuple[Plan, ...]:
    """The schedule in a table of lists of tables; SettingsError names the key that is wrong."""
    if not isinstance(data, dict):
        raise SettingsError("a table is needed, by kind of task", "kinds: " + ", ".join(KINDS))
    plans: list[Plan] = []
    for word, tables in data.items():
        if word in IGNORED:
            continue
        kind = SPELLINGS.get(word, word)
        if kind not in KINDS:
            raise SettingsError(f"{word}: there is no such kind of task", "kinds: " + ", ".join(KINDS))
        if not isinstance(tables, list) or len(tables) > MAX_TASKS:
            raise SettingsError(f"{word}: a list of tables is needed")
        plans += [_plan(kind, f"{word}[{place}]", table) for place, table in enumerate(tables)]
    names = [plan.name for plan in plans]
    twice = [name for name in names if names.count(name) > 1]
    if twice:
        raise SettingsError(f"task_name {twice[0]!r} stands there twice", "give each task a name of its own")
    return tuple(plans)


def again(kind: str, name: str, soft_timeout: float | None, values: Mapping[str, Any]) -> Plan:
    """A task that was read from a schedule elsewhere, checked once more; SettingsError names what is wrong."""
    if kind not in KINDS:
        raise SettingsError(f"{kind[:80]}: there is no such kind of task", "kinds: " + ", ".join(KINDS))
    if soft_timeout is not None and not 0 < soft_timeout < 1e9:
        raise SettingsError(f"soft_timeout: {soft_timeout!r} is no number of seconds above zero")
    table = {key: list(value) if isinstance(value, tuple) else value for key, value in values.items()}
    plan = _plan(kind, kind, {**table, "task_name": name, "every": "00:00:01"})
    return replace(plan, every=0.0, soft_timeout=soft_timeout)


def _plan(kind: str, where: str, table: Any) -> Plan:
    if not isinstance(table, dict):
        raise SettingsError(f"{where}: a table is needed")
    keys = COMMON | KINDS[kind]
    for key in table:
        if key not in keys:
            raise SettingsError(f"{where}.{key}: there is no such key", "keys: " + ", ".join(keys))
    values = {key: _value(f"{where}.{key}", rule, table, key) for key, rule in keys.items()}
    own = MappingProxyType({key: values[key] for key in KINDS[kind]})
    return Plan(kind, values["task_name"], values["every"], values["soft_timeout"], own)


def _value(where: str, rule: Key, table: Mapping[str, Any], key: str) -> Any:
    if key not in table:
        if rule.needed:
            raise SettingsError(f"{where} is missing", f"it is {rule.shape}")
        return rule.default
    try:
        return rule.read(table[key])
    except (ValueError, TypeError) as error:
        raise SettingsError(f"{where}: {table[key]!r} is not {rule.shape}") from error
