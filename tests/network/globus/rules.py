"""What the emulator takes as a document, a filter, a path: everything else is refused, as the service does."""

from __future__ import annotations

import re
import uuid
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

LABEL = re.compile(r"[A-Za-z0-9 ,_-]{0,128}")
COMMON = {
    "DATA_TYPE": str,
    "DATA": list,
    "submission_id": str,
    "label": str,
    "deadline": str,
    "notify_on_succeeded": bool,
    "notify_on_failed": bool,
    "notify_on_inactive": bool,
}
TRANSFER = COMMON | {
    "source_endpoint": str,
    "destination_endpoint": str,
    "source_local_user": str,
    "destination_local_user": str,
    "verify_checksum": bool,
    "preserve_timestamp": bool,
    "encrypt_data": bool,
    "skip_source_errors": bool,
    "fail_on_quota_errors": bool,
    "delete_destination_extra": bool,
    "recursive_symlinks": str,
    "sync_level": int,
    "filter_rules": list,
}
DELETE = COMMON | {
    "endpoint": str,
    "local_user": str,
    "recursive": bool,
    "ignore_missing": bool,
    "interpret_globs": bool,
}
ITEM = {
    "DATA_TYPE": str,
    "source_path": str,
    "destination_path": str,
    "recursive": bool,
    "external_checksum": str,
    "checksum_algorithm": str,
}
DELETE_ITEM = {"DATA_TYPE": str, "path": str}
STATUSES = {"ACTIVE", "INACTIVE", "SUCCEEDED", "FAILED"}
FILTERS = {"task_id", "type", "status", "label", "request_time", "completion_time", "owner_id"}
ORDERS = {"task_id", "type", "status", "label", "request_time", "completion_time", "deadline"}


class Refused(Exception):
    """An answer of Transfer that is an error."""

    def __init__(self, status: int, code: str, message: str, **more: Any) -> None:
        super().__init__(code)
        self.status, self.code, self.message, self.more = status, code, message, more


def bad(message: str, code: str = "ClientError.BadRequest") -> Refused:
    return Refused(400, code, message)


def check_document(document: Any, kind: str) -> None:
    """A submission: types, fields, label, deadline, paths."""
    fields, item_fields = (TRANSFER, ITEM) if kind == "transfer" else (DELETE, DELETE_ITEM)
    if not isinstance(document, dict) or document.get("DATA_TYPE") != kind:
        raise bad(f"DATA_TYPE has to be {kind!r}")
    _typed(document, fields, kind)
    for needed in ("submission_id", *(("source_endpoint", "destination_endpoint") if kind == "transfer" else ())):
        if needed not in document:
            raise bad(f"Missing required field {needed!r}")
    if not LABEL.fullmatch(document.get("label", "")):
        raise bad("Label can contain at most 128 letters, numbers, spaces, dashes, underscores and commas")
    if "deadline" in document and moment(document["deadline"]) <= datetime.now(UTC).timestamp():
        raise bad("Deadline is in the past")
    if not document.get("DATA"):
        raise bad("A transfer requires at least one item", "ClientError.BadRequest.NoTransferItems")
    places: set[str] = set()
    for item in document["DATA"]:
        check_item(item, item_fields, kind)
        place = item.get("destination_path", item.get("path"))
        if place in places:
            raise bad(f"{place!r} is the destination of two items")
        places.add(place)


def _typed(document: Mapping[str, Any], fields: Mapping[str, type], kind: str) -> None:
    for name, value in document.items():
        if name not in fields:
            raise bad(f"Unknown field {name!r} in a {kind} document")
        wrong = not isinstance(value, fields[name]) or (fields[name] is int and isinstance(value, bool))
        if wrong:
            raise bad(f"Field {name!r} has to be {fields[name].__name__}")


def check_item(item: Any, fields: Mapping[str, type], kind: str) -> None:
    if not isinstance(item, dict) or item.get("DATA_TYPE") != f"{kind}_item":
        raise bad(f"DATA_TYPE of an item has to be '{kind}_item'")
    _typed(item, fields, f"{kind}_item")
    for name in ("source_path", "destination_path") if kind == "transfer" else ("path",):
        if name not in item:
            raise bad(f"Missing required field {name!r}")
        check_path(item[name])
        if kind == "transfer" and not item.get("recursive") and item[name].endswith("/"):
            raise bad(f"{item[name]!r} is no path of a file")


def check_path(path: str) -> None:
    if not path.startswith(("/", "~/")) or "//" in path or "\0" in path or "\n" in path or len(path) > 4096:
        raise bad(f"Invalid path {path!r}", "ClientError.BadRequest.InvalidPath")
    if ".." in path.split("/") or "." in path.split("/"):
        raise bad(f"Invalid path {path!r}", "ClientError.BadRequest.InvalidPath")


def moment(text: str) -> float:
    """Seconds since 1970 of a time as the service takes it."""
    try:
        found = datetime.fromisoformat(text.replace("Z", "+00:00"))
    except ValueError:
        raise bad(f"{text!r} is no time") from None
    return (found if found.tzinfo else found.replace(tzinfo=UTC)).timestamp()


def need_uuid(text: str, what: str) -> str:
    try:
        return str(uuid.UUID(text))
    except ValueError:
        raise bad(f"{what} {text!r} is no UUID") from None


def number(query: Mapping[str, str], name: str, default: int, most: int, least: int = 0) -> int:
    text = query.get(name, str(default))
    if not text.isdigit() or not least <= int(text) <= most:
        raise bad(f"{name} has to be from {least} to {most}")
    return int(text)


def matcher(text: str) -> Mapping[str, list[str]]:
    """A filter `key:v1,v2/key2:v`."""
    found: dict[str, list[str]] = {}
    for part in text.split("/") if text else []:
        key, colon, values = part.partition(":")
        if not colon or key not in FILTERS:
            raise bad(f"Invalid filter {part!r}")
        found[key] = values.split(",")
        if key == "status" and not set(found[key]) <= STATUSES:
            raise bad(f"Invalid status in {part!r}")
    return found


def ordered(rows: list[dict[str, Any]], text: str) -> list[dict[str, Any]]:
    for part in reversed(text.split(",") if text else []):
        name, _, way = part.partition(" ")
        if name not in ORDERS or way not in ("", "ASC", "DESC"):
            raise bad(f"Invalid orderby {part!r}")
        rows = sorted(rows, key=lambda row: str(row[name] or ""), reverse=way == "DESC")
    return rows


def chosen(row: dict[str, Any], fields: str) -> dict[str, Any]:
    """Only the fields that were asked for."""
    return row if not fields else {key: row[key] for key in ("DATA_TYPE", *fields.split(",")) if key in row}
