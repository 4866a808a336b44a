"""A nameserver with simple doors where a librarian has a search, stores, manifests, errors and tasks.

They answer what a client must be able to read, and remember what it asked: run as a program by test_librarian_doors."""

from __future__ import annotations

import sys
from typing import Any

from goggles.cli import nameserver
from goggles.errors import NotFound
from goggles.librarian import librarian
from goggles.roles import Level, Role
from goggles.wire.service import exposed

FILES = [f"/found/{number}" for number in range(5)]
COPY = (("storage", "alice"), ("available", True), ("size", 3), ("checksum", "aa"), ("created", 1.0), ("verified", 2.0))
ELSEWHERE = (("librarian", "central"), ("store", "carol"), ("copied_at", 1.0), ("verified_at", 2.0), ("sender", "x"))
ASKED: list[tuple[str, Any]] = []
DONE: set[str] = set()


class FakeDoors(librarian.LibrarianService):
    """What is asked is remembered over connections."""

    @exposed(Role.ADMIN, level=Level.ADMIN)
    def asked(self, method: str) -> tuple[Any, ...]:
        return tuple(arguments for name, arguments in ASKED if name == method)

    @exposed(Role.ADMIN, Role.CLIENT, level=Level.READONLY)
    def search_files(self, query: tuple[Any, ...]) -> tuple[Any, ...]:
        wanted = dict(query)
        ASKED.append(("search_files", query))
        if wanted["name"] == "/nothing":
            return (), -1
        after, most = wanted["after"], min(2, wanted["max_results"])
        names = FILES[after : after + most]
        following = after + len(names)
        return tuple(_file(name) for name in names), following if following < len(FILES) else -1

    @exposed(Role.ADMIN, Role.CLIENT, level=Level.READONLY)
    def validate_file(self, path: str, patience: float) -> tuple[Any, ...]:
        was = (("original_checksum", "a"), ("original_size", 1), ("current_checksum", "a"), ("current_size", 1))
        copies = (("here", True), ("there", path != "/bad"))
        rows = [
            (("librarian", where), ("store", "s"), *was, ("computed_same_checksum", good), ("error", ""))
            for where, good in copies
        ]
        return tuple(rows) if path != "/none" else ()

    @exposed(Role.ADMIN, level=Level.ADMIN)
    def search_errors(self, query: tuple[Any, ...]) -> tuple[Any, ...]:
        ASKED.append(("search_errors", query))
        head = (("id", 7), ("severity", "error"), ("category", "transfer"), ("message", "\x1b[31mred"))
        return ((*head, ("caller", "me"), ("raised_time", 1.0), ("cleared", False), ("cleared_time", None)),)

    @exposed(Role.ADMIN, level=Level.ADMIN)
    def clear_error(self, id: int) -> None:  # noqa: A002
        if id != 7:
            raise NotFound(f"there is no error {id}")

    @exposed(Role.ADMIN, level=Level.ADMIN)
    def get_store_list(self) -> tuple[Any, ...]:
        sizes = (("free_space", 1 << 30), ("capacity", 1 << 40), ("used", 0), ("files", 0))
        flags = (("ingestable", True), ("available", True), ("enabled", False))
        return ((("name", "alice"), ("store_type", "local"), ("state", "active"), *sizes, *flags),)

    @exposed(Role.ADMIN, level=Level.ADMIN)
    def set_store_state(self, name: str, enabled: bool) -> None:
        ASKED.append(("set_store_state", (name, enabled)))

    @exposed(Role.ADMIN, level=Level.ADMIN)
    def get_store_manifest(
        self, store: str, destination: str, disable_store: bool, mark_unavailable: bool, after: int
    ) -> tuple[Any, ...]:
        ASKED.append(("get_store_manifest", (store, destination, disable_store, mark_unavailable, after)))
        head = (("librarian_name", "goggles"), ("store_name", store), ("format", 1))
        return head, ((("name", f"/{after}"), ("size", 1)),), after + 1 if after < 2 else -1

    @exposed(Role.ADMIN, level=Level.ADMIN)
    def stage_manifest_entries(self, source: str, entries: tuple[Any, ...]) -> tuple[Any, ...]:
        return tuple(self._staged(dict(entry)["name"]) for entry in entries)

    def _staged(self, name: str) -> tuple[str, ...]:
        if name == "/refused":
            return "conflict", "that is not for us", "carry it elsewhere"
        return ("have", "") if name in DONE else ("wanted", "")

    @exposed(Role.ADMIN, level=Level.ADMIN)
    def complete_manifest_entries(self, source: str, entries: tuple[Any, ...]) -> tuple[Any, ...]:
        ASKED.append(("complete_manifest_entries", (source, entries)))
        names = [dict(entry)["name"] for entry in entries]
        DONE.update(name for name in names if name != "/incomplete")
        remark = "somebody is not told" if source == "far_away" else ""
        return tuple(("done", remark) if name in DONE else ("not_found", "gone", "") for name in names)

    @exposed(Role.ADMIN, level=Level.ADMIN)
    def evict(self, path: str, copies: int) -> tuple[Any, ...]:
        return ("path", path), ("copies", copies)

    @exposed(Role.ADMIN, level=Level.ADMIN)
    def recall(self, path: str) -> tuple[Any, ...]:
        return (("path", path), ("librarian", "central"))

    @exposed(Role.ADMIN, Role.CLIENT, level=Level.READAPPEND)
    def set_deletion(self, path: str, allowed: bool) -> None:
        ASKED.append(("set_deletion", (path, allowed)))

    @exposed(Role.ADMIN, level=Level.ADMIN)
    def get_tasks(self) -> tuple[Any, ...]:
        head = (("name", "send"), ("kind", "send_clone"), ("every", 60.0), ("soft_timeout", None), ("began", 1.0))
        return ((*head, ("ended", 2.0), ("next", 3.0), ("result", "done"), ("message", ""), ("count", 0)),)

    @exposed(Role.ADMIN, level=Level.ADMIN)
    def get_transfers(self) -> tuple[Any, ...]:
        head = (
            ("peer", "far"),
            ("batch", "b"),
            ("manager", "globus"),
            ("state", "sent"),
            ("since", 86_400.0),
            ("tries", 0),
        )
        done = (("files", 9), ("files_done", 4), ("size", 2_048), ("size_done", 1_024), ("rate", 512.0))
        return ((*head, *done, ("task", "task-7"), ("trouble", "QUOTA_EXCEEDED")),)


def _file(path: str) -> tuple[Any, ...]:
    pairs = (("path", path), ("type", "FILE"), ("size", 3), ("hash", "aa"), ("created", 86_400.0), ("modified", 1.0))
    more = (("uploader", "ann"), ("source", "here"), ("copies", 1), ("live", 1), ("storages", ("alice",)))
    return (*pairs, *more, ("deletion", "allowed"), ("instances", (COPY,)), ("remote_instances", (ELSEWHERE,)))


if __name__ == "__main__":
    librarian.LibrarianService = FakeDoors  # type: ignore[misc]
    sys.exit(nameserver.main())
