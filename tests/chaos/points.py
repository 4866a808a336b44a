"""The failpoints of the source, by the tests that kill a process at them."""

from __future__ import annotations

import re
from pathlib import Path

from goggles.testing.cluster import SOURCE

BETWEEN = re.compile(r"librarian\.|storage\.ingest\.").match  # sites: tests/network

SELF_CHECK = (
    "nameserver.selfcheck.before_order",
    "storage.adopt.after_rename",
    "storage.adopt.before_fsync",
    "storage.adopt.before_rename",
    "storage.quarantine.after_rename",
    "storage.quarantine.before_rename",
    "storage.selfcheck.after_activate",
    "storage.selfcheck.before_activate",
    "storage.selfcheck.before_condemned",
    "storage.selfcheck.before_inventory",
    "storage.selfcheck.before_verdict",
)
TOGETHER = (
    "storage.together.after_notify",
    "storage.together.after_sync",
    "storage.together.before_notify",
    "storage.together.before_sync",
    "storage.together.some_staged",
)
TRIM = ("nameserver.trim.before_order",)
FORGET = ("nameserver.forget.after_page", "nameserver.forget.after_take_out", "nameserver.forget.before_take_out")
TRASH = ("storage.trash.before_empty",)
ACCEPT = ("nameserver.accept.before_order",)
FIRST_START = (
    "nameserver.import.before_commit",
    "nameserver.migrate.before_commit",
    "nameserver.migrate.before_first",
    "nameserver.start.before_epoch",
    "nameserver.start.before_first_rows",
)
ADMINISTRATOR = ("nameserver.start.after_administrator", "nameserver.start.before_administrator")
MIGRATION = ("nameserver.migrate.after_revision",)
EXPORT = ("nameserver.export.after_rename", "nameserver.export.before_fsync", "nameserver.export.before_rename")
GET = ("client.get.after_rename", "client.get.before_rename")
TOOLS = (
    "tools.backup.before_name",
    "tools.copy.before_commit",
    "tools.copy.before_rows",
    "tools.restoretree.before_rename",
)
ELSEWHERE = {
    *SELF_CHECK,
    *TOGETHER,
    *TRIM,
    *FORGET,
    *TRASH,
    *ACCEPT,
    *FIRST_START,
    *ADMINISTRATOR,
    *MIGRATION,
    *EXPORT,
    *GET,
    *TOOLS,
}


def points() -> list[str]:
    """Every failpoint of the source."""
    texts = (path.read_text("utf-8") for path in Path(SOURCE).rglob("*.py") if path.name != "failpoints.py")
    return sorted({name for text in texts for name in re.findall(r'failpoints\.hit(?:\(|, )"([^"]+)"\)', text)})


def ordinary() -> list[str]:
    """Those that are met in ordinary work within one site."""
    return [name for name in points() if name not in ELSEWHERE and not BETWEEN(name)]


def crash(point: str, nth: int = 1) -> dict[str, str]:
    """The environment of a process that is to die at the `nth` time it comes by."""
    return {"GOGGLES_FAILPOINTS": f"{point}=crash@{nth}"}
