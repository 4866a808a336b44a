"""Validation of a file wherever it is: every copy is read anew, here and at those who hold it.

Law: each librarian asks only those that it knows to hold the file, and none that has been asked already, so that rings
end.  Every copy is told once.  Who can not be reached is told as such.  A librarian that is about to let its copies go
vouches for none of them, nor for those that it let go while they were read, so that two can not rely on each other.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, cast

from goggles.contracts.peering import Checksum
from goggles.errors import Conflict, GogglesError
from goggles.librarian.peers import PeerInfo, Peers
from goggles.nameserver.site import Site
from goggles.nameserver.verifying import Reading, Verifying
from goggles.paths import parse

PATIENCE, LONGEST = 25.0, 600.0  # seconds that reading may take
AT_ONCE = 8  # librarians asked at the same moment
MOST = 10_000  # copies in an answer
LEAVING = "its copies here are being let go"


class Validating:
    """Reads copies here, and has others read theirs."""

    def __init__(self, site: Site, peers: Peers, verifying: Verifying) -> None:
        self._site = site
        self._peers = peers
        self._verifying = verifying
        self._lock = threading.Lock()
        self._leaving: set[str] = set()  # paths whose copies are about to be let go; guarded by _lock

    @contextmanager
    def leaving(self, path: str) -> Iterator[None]:
        """While copies of this file are about to be let go; Conflict where they are already."""
        with self._lock:
            if path in self._leaving:
                raise Conflict(f"{path} is being let go already", "wait for that to end")
            self._leaving.add(path)
        try:
            yield
        finally:
            with self._lock:
                self._leaving.discard(path)

    def validate(self, path: str, visited: Sequence[str] = (), patience: float = PATIENCE) -> list[Checksum]:
        """All copies of the file, here and there, each as it is now; NotFound where it is not known here."""
        patience = min(max(1.0, patience), LONGEST)
        with self._site.look() as tree:
            entry = tree.need_file(parse(path))
            known = tree.holders_elsewhere([entry.id]).get(entry.id)
        found = self.here(path, entry.sha256, entry.size, patience)
        holders = sorted({librarian for librarian, *_ in known.remote}) if known is not None else []
        return _once(found + self.elsewhere(path, holders, visited, patience))

    def here(self, path: str, sha256: str, size: int, patience: float) -> list[Checksum]:
        """The copies here, each read anew."""
        readings = self._verifying.read_again(path, patience)
        leaving = self.is_leaving(path)  # after the reading: whoever began to let go meanwhile is seen,
        (left,) = self.whereabouts([(path, size, sha256)], staying=False)  # and after that whoever is done with it
        return [
            self._own(one, sha256, size, leaving or (one.verdict == "good" and one.storage not in left))
            for one in readings
        ]

    def is_leaving(self, path: str) -> bool:
        """Whether copies of this file are about to be let go."""
        with self._lock:
            return path in self._leaving

    def whereabouts(self, files: Sequence[tuple[str, int, str]], staying: bool) -> list[tuple[str, ...]]:
        """For each (path, size, sha256) the storages here that hold these very bytes; with `staying` none where they
        are about to be let go."""
        leaving = {path for path, _, _ in files if staying and self.is_leaving(path)}
        found: list[tuple[str, ...]] = []
        with self._site.look() as tree:  # after that: whoever is done with letting go has struck its copies
            for path, size, sha256 in files:
                entry = tree.find(parse(path))
                same = entry is not None and (entry.size, entry.sha256) == (size, sha256) and path not in leaving
                holders = tree.instances_of([entry.id]).get(entry.id, []) if entry is not None and same else []
                found.append(tuple(self._site.roster.get(holder).name for holder in holders))
        return found

    def _own(self, reading: Reading, sha256: str, size: int, leaving: bool) -> Checksum:
        good = reading.verdict == "good" and not leaving
        error = "" if reading.verdict in ("good", "bad") else reading.verdict
        return Checksum(
            self._site.name,
            reading.storage,
            sha256,
            size,
            reading.sha256,
            reading.size,
            good,
            LEAVING if leaving else error,
        )

    def elsewhere(self, path: str, holders: Sequence[str], visited: Sequence[str], patience: float) -> list[Checksum]:
        """What these librarians say of their copies, and those beyond them."""
        asked = [name for name in holders if name not in visited and name != self._site.name]
        if not asked:
            return []
        seen = tuple(dict.fromkeys([*visited, self._site.name, *asked]))
        with ThreadPoolExecutor(min(AT_ONCE, len(asked)), "validate") as pool:
            answers = pool.map(lambda name: self._ask(name, path, seen, patience), asked)
            return [checksum for answer in answers for checksum in answer]

    def _ask(self, name: str, path: str, visited: tuple[str, ...], patience: float) -> list[Checksum]:
        try:
            peer: PeerInfo = self._peers.need(name)
            answer = self._peers.call(peer, "validate_for", path, visited, patience * 0.8, timeout=patience + 15.0)
            return [_checked(Checksum.from_wire(pairs)) for pairs in answer[:MOST]]
        except GogglesError as error:
            return [Checksum(name, "", "", -1, "", -1, False, error.message)]
        except (TypeError, ValueError):
            return [Checksum(name, "", "", -1, "", -1, False, "its answer makes no sense")]


def _checked(told: Any) -> Checksum:
    """What another librarian says, if it is of the right shape: ValueError."""
    texts = (told.librarian, told.store, told.original_checksum, told.current_checksum, told.error)
    if not all(isinstance(text, str) and len(text) <= 1000 for text in texts):
        raise ValueError(told)
    if not isinstance(told.original_size, int) or not isinstance(told.current_size, int):
        raise ValueError(told)
    return cast(Checksum, replace(told, computed_same_checksum=told.computed_same_checksum is True))


def _once(found: Sequence[Checksum]) -> list[Checksum]:
    """Each copy once: where two answers tell of it, the one that read it."""
    kept: dict[tuple[str, str], Checksum] = {}
    for checksum in found:
        key = (checksum.librarian, checksum.store)
        if key not in kept or (kept[key].error and not checksum.error):
            kept[key] = checksum
    return list(kept.values())


def good_copies(found: Sequence[Checksum], own: str, sha256: str, size: int) -> list[Checksum]:
    """Those copies at other librarians that were read just now and have these bytes, each once."""
    return [
        one
        for one in _once(found)
        if one.librarian != own
        and one.store
        and one.computed_same_checksum
        and (one.current_checksum, one.current_size) == (sha256, size)
    ]
