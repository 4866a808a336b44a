"""Large uploads that were interrupted, kept for a while so that their writers can go on.

Law: an upload is gone on with only by its holder, with the same source (its `mark`), and while every storage of its
chain takes files.  One that nobody was heard of for its lease is in nobody's way: it goes when its time is over, when
its holder has too many of them, or when the room is needed.  All with the global lock held.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from goggles.nameserver.site import Site
from goggles.nameserver.uploads import Upload

MOST = 8  # of one holder
ALIVE = 3  # heartbeats within which a writer at work is heard of


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a writer wants to go on with; `parent` is an entry's id."""

    parent: int
    name: str
    size: int
    holder: str
    mark: str


class Keeping:
    """`release` forgets an upload."""

    def __init__(self, site: Site, release: Callable[[str], None]) -> None:
        self._site = site
        self._release = release

    def find(self, wanted: Wanted, avoid: Sequence[str]) -> Upload | None:
        """The upload to go on with.  Those like it that can not be gone on with are released, unless somebody is at
        work on them."""
        site, found = self._site, None
        now = site.clock.monotonic()
        for upload in site.uploads.marked(wanted.mark):
            if Wanted(upload.parent, upload.name, upload.size, upload.holder, upload.mark) != wanted:
                continue
            if self._usable(upload, avoid):
                found = upload
            elif upload.deadline < now + site.policy.lease - ALIVE * site.policy.heartbeat:
                self._release(upload.id)
        if found is not None:
            found.deadline = now + site.policy.lease
        return found

    def _usable(self, upload: Upload, avoid: Sequence[str]) -> bool:
        roster = self._site.roster
        active = {c.id: roster.get(c.id).name for c in roster.candidates()}
        chosen = [active.get(storage) for storage in upload.chain]
        others = set(active.values()) - set(avoid)
        return not upload.staged and None not in chosen and not (others and set(avoid) & set(chosen))

    def bound(self, holder: str) -> None:
        """Make room for one more upload of this holder."""
        silent = [upload for upload in self._silent() if upload.holder == holder]
        for upload in silent[: max(0, len(silent) - MOST + 1)]:
            self._release(upload.id)

    def make_room(self, size: int) -> bool:
        """Whether storages have more room now: those without enough for `size` bytes get back what is kept on them."""
        short = {c.id for c in self._site.roster.candidates() if c.free < size}
        gone = [upload for upload in self._silent() if short & set(upload.chain)]
        for upload in gone:
            self._release(upload.id)
        return bool(gone)

    def _silent(self) -> list[Upload]:
        """Those that nobody was heard of for their lease, the longest silent first."""
        return self._site.uploads.silent(self._site.clock.monotonic())
