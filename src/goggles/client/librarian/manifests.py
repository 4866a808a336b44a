"""The files of a manifest, from the drives that it came with, into the tree.

Law: only what lies below the root is read, through no link that leads out of it, and only what has the size and the
SHA-256 of its entry becomes a file.  An entry that is wrong stops no other.  A second run changes nothing.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any, TypeAlias

from goggles.checksums import is_digest
from goggles.client.librarian.answers import Answer
from goggles.client.librarian.line import Line
from goggles.client.librarian.uploading import digest, is_there
from goggles.client.session import Session
from goggles.client.trees import is_error
from goggles.errors import BadRequest, ChecksumMismatch, GogglesError, LocalFileError, Unavailable
from goggles.exceptions import LibrarianPartialError, LibrarianTimeoutError
from goggles.paths import parse, plain, show, split
from goggles.wire import faults

PAGE = 100
LONG = 600.0
PREFIX = "sha256:::"
Entry: TypeAlias = Mapping[str, Any]
NEEDED: dict[str, type] = {"name": str, "size": int, "checksum": str, "instance_path": str}


class Ingest:
    """One run over a manifest."""

    def __init__(self, session: Session, line: Line, manifest: Mapping[str, Any], root: Path) -> None:
        self._session = session
        self._line = line
        self._failed: list[tuple[str, str]] = []
        self._remarks: set[str] = set()
        self._done = self._there = self._bytes = 0
        self._source, self._entries = _content(manifest)
        if not os.path.isdir(root):
            raise LocalFileError(f"{show(str(root))} is not a folder", "give the root of the store that was shipped")
        self._root = root.resolve()

    def run(self) -> Answer:
        """What was done; LibrarianPartialError where some entries failed."""
        good = [entry for number, entry in enumerate(self._entries) if self._has_form(number, entry)]
        for start in range(0, len(good), PAGE):
            self._page(good[start : start + PAGE])
        made = Answer(files=self._done, bytes=self._bytes, already_there=self._there)
        made["remarks"] = sorted(self._remarks)
        if self._failed:
            raise LibrarianPartialError(
                f"{len(self._failed)} of {len(self._entries)} files of the manifest failed",
                self._failed,
                made,
                "mend what is wrong and run it again: what is done stays done",
            )
        return made

    def _has_form(self, number: int, entry: Any) -> bool:
        try:
            _check_form(entry)
        except GogglesError as error:
            name = entry.get("name") if isinstance(entry, Mapping) else None
            self._fail(str(name or f"entry {number + 1}"), error)
            return False
        return True

    def _page(self, entries: Sequence[Entry]) -> None:
        """Also what is here already is completed: an earlier run may have ended before that, or the file may have
        come another way, of which its source does not know."""
        staged = [(entry, said[0]) for entry, said in self._asked("stage_manifest_entries", entries)]
        fetched = {entry["name"] for entry, word in staged if word == "wanted" and self._bring(entry)}
        ready = [entry for entry, word in staged if word == "have" or entry["name"] in fetched]
        for entry, said in self._asked("complete_manifest_entries", ready):
            self._remarks |= {str(said[1])} - {""}
            if entry["name"] in fetched:
                self._done += 1
                self._bytes += entry["size"]
            else:
                self._there += 1

    def _asked(self, method: str, entries: Sequence[Entry]) -> Iterator[tuple[Entry, tuple[Any, ...]]]:
        """The entries that the librarian said yes to, with what it said; the others have failed."""
        if not entries:
            return
        told = tuple(tuple({**entry, "checksum": _digest_of(entry["checksum"])}.items()) for entry in entries)
        answers = self._line.ask(method, self._source, told, timeout=LONG)
        for entry, answer in zip(entries, answers, strict=True):
            if is_error(answer):
                self._fail(entry["name"], faults.from_tuple(*answer))
            else:
                yield entry, answer

    def _fail(self, name: str, error: GogglesError) -> None:
        self._failed.append((plain(name), str(error)))

    def _bring(self, entry: Entry) -> bool:
        """Upload one file, unless an earlier run did; False where that fails."""
        try:
            self._put(entry, self._place(entry["instance_path"]))
        except GogglesError as error:
            if isinstance(error, LibrarianTimeoutError) or (
                isinstance(error, Unavailable) and not self._line.connected
            ):
                raise  # it was waited for with all patience; the next file would wait as long
            self._fail(entry["name"], error)
            return False
        return True

    def _put(self, entry: Entry, local: Path) -> None:
        path, wanted = parse(entry["name"]), _digest_of(entry["checksum"])
        size, sha256 = digest(local)
        if (size, sha256) != (entry["size"], wanted):
            raise ChecksumMismatch(
                f"{show(str(local))} has {size} bytes with sha256 {sha256}",
                f"the manifest says {entry['size']} bytes with {wanted}: fetch it again from its source",
            )
        if is_there(self._session, path, local, size):
            return
        self._session.mkdir(split(path)[0], parents=True, exist_ok=True)
        self._session.put(local, path, overwrite=False)
        if getattr(self._session.stat(path), "hash", "") != wanted:
            raise ChecksumMismatch(f"{show(str(local))} changed while it was read", f"remove {path}, and run it again")

    def _place(self, text: str) -> Path:
        """The file of this instance path; an error where it is none below the root."""
        parts = PurePosixPath(text.lstrip("/")).parts
        if not parts or ".." in parts or "\0" in text:
            raise BadRequest(f"{show(text)} is no plain path", "the manifest is damaged, or somebody changed it")
        place = self._root.joinpath(*parts)
        try:
            real = place.resolve(strict=True)
        except (OSError, RuntimeError) as error:
            why = getattr(error, "strerror", None) or "its links go in circles"
            raise LocalFileError(f"{show(str(place))} can not be read: {why}", "is --store-root right?") from error
        if not real.is_relative_to(self._root):
            raise BadRequest(f"{show(str(place))} leads out of {self._root}", "nothing outside the root is read")
        if not os.path.isfile(real):
            raise LocalFileError(f"{show(str(place))} is not a regular file")
        return real


def _content(manifest: Mapping[str, Any]) -> tuple[str, list[Any]]:
    """(name of the librarian that it comes from, entries)."""
    source, entries = manifest.get("librarian_name"), manifest.get("store_files")
    if not isinstance(source, str) or not source or not isinstance(entries, list):
        raise BadRequest(
            "this is no manifest: librarian_name or store_files is missing", "get-store-manifest makes one"
        )
    return source, entries


def _check_form(entry: Any) -> None:
    if not isinstance(entry, Mapping):
        raise BadRequest("this is no entry of a manifest")
    for key, kind in NEEDED.items():
        if not isinstance(entry.get(key), kind) or isinstance(entry[key], bool):
            raise BadRequest(f"{key} is missing, or not of the right type")
    if not all(value is None or isinstance(value, str | int | float) for value in entry.values()):
        raise BadRequest("the entry has more than plain values")
    _digest_of(entry["checksum"])


def _digest_of(checksum: str) -> str:
    found = checksum.removeprefix(PREFIX).lower()
    if not is_digest(found):
        raise BadRequest(f"{checksum[:80]!r} is no SHA-256", "manifests of librarians like this one have sha256")
    return found
