"""Uploads in flight: what was promised to writers and is not yet a file.

Law: kept in memory only.  An upload is nothing until it is committed; when the nameserver restarts, those in
flight are lost and writers put again.  Changed with the global lock held.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from goggles.errors import LimitExceeded, UploadLost

MAX_PER_HOLDER = 4_096


@dataclass(slots=True)
class Upload:
    """Bytes on their way to `chain` (storage ids) that will be `name` in directory `parent`.

    For a pull (repair), `entry` is the file that gets the copy and `holder` is empty.  `mark` is what the holder knows
    its source by, where the upload is to be kept when it is interrupted."""

    id: str
    parent: int
    name: str
    size: int
    copies: int
    holder: str  # identity URI of the principal
    chain: tuple[int, ...]
    deadline: float  # monotonic; moved on by each sign of life
    version: str
    entry: int = 0
    uploader: str = ""
    source: str = ""
    mark: str = ""
    staged: dict[int, tuple[str, int, str]] = field(default_factory=dict)  # storage id: (session, size, sha256)


class Uploads:
    """All of them, by id."""

    def __init__(self) -> None:
        self._by_id: dict[str, Upload] = {}
        self._per_holder: Counter[str] = Counter()
        self.pulls: dict[int, str] = {}  # entry id: upload id

    def __len__(self) -> int:
        return len(self._by_id)

    @property
    def writes(self) -> int:
        """How many are writers' own; the others are copies that storages make."""
        return len(self._by_id) - len(self.pulls)

    def get(self, upload: str) -> Upload | None:
        return self._by_id.get(upload)

    def need(self, upload: str) -> Upload:
        found = self._by_id.get(upload)
        if found is None:
            raise UploadLost(
                f"upload {upload[:40]} is not known (its lease is over, or the nameserver restarted)", "put again"
            )
        return found

    def is_pull(self, upload: str) -> bool:
        found = self._by_id.get(upload)
        return found is not None and found.entry != 0

    def add(self, upload: Upload) -> None:
        if upload.holder and self._per_holder[upload.holder] >= MAX_PER_HOLDER:
            raise LimitExceeded(f"{upload.holder} has {MAX_PER_HOLDER} uploads open", "finish or abandon some first")
        self._by_id[upload.id] = upload
        self._per_holder[upload.holder] += 1
        if upload.entry:
            self.pulls[upload.entry] = upload.id

    def drop(self, upload: str) -> Upload | None:
        found = self._by_id.pop(upload, None)
        if found is not None:
            self._per_holder[found.holder] -= 1
            if not self._per_holder[found.holder]:
                del self._per_holder[found.holder]
            if found.entry and self.pulls.get(found.entry) == upload:
                del self.pulls[found.entry]
        return found

    def expired(self, now: float, kept: float) -> list[Upload]:
        """Those whose time is over; what is marked is kept `kept` seconds longer."""
        return [u for u in self._by_id.values() if u.deadline + (kept if u.mark else 0.0) < now]

    def marked(self, mark: str) -> list[Upload]:
        return [upload for upload in self._by_id.values() if upload.mark == mark]

    def silent(self, now: float) -> list[Upload]:
        """Those that are kept beyond their lease, the longest silent first."""
        kept = [upload for upload in self._by_id.values() if upload.mark and upload.deadline < now]
        return sorted(kept, key=lambda upload: upload.deadline)

    def on(self, storage: int) -> list[Upload]:
        """Those that have this storage in their chain."""
        return [upload for upload in self._by_id.values() if storage in upload.chain]
