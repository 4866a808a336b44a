"""The part of a session that is for those who run a site.

Law: as in `session`.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from goggles.client.calls import Calls
from goggles.client.ranges import pieces
from goggles.client.targets import Target, may_write
from goggles.client.verifying import Verification, files_after
from goggles.contracts.data import Hop
from goggles.contracts.orders import Kept
from goggles.contracts.packed import entries_of, unpack
from goggles.contracts.records import BalanceState
from goggles.paths import parse
from goggles.wire.links import Links

PAGE = 500
WHOLE = 1 << 62
RUNNING = 7_200.0  # seconds that a task may take when it is run by hand


class Administering:
    """What `Session` builds on."""

    _calls: Calls
    _links: Links

    def verify(self, path: str) -> list[tuple[str, str]]:
        """Have every storage that holds a copy read it again: (storage, verdict)."""
        return [(name, verdict) for name, verdict in self._calls("verify", parse(path))]

    def verify_tree(self, path: str = "/", after: str = "", cancel: threading.Event | None = None) -> Verification:
        """The same for all files below a directory that come after the path `after`, in byte order of their names.

        Iterate over it for a `Checked` of each file; `last` is the path up to which it came.  Cancelled where `cancel`
        is set meanwhile."""
        top = parse(path)
        place = parse(after) if after else ""
        files = files_after(lambda *asked: entries_of(unpack(self._calls("scan", *asked, True))), top, place)
        return Verification(self._calls, files, place, cancel)

    def accept(self, name: str) -> None:
        """Let a storage out of safe mode: the tree is right."""
        self._calls("accept", str(name))

    def restoretree(self, name: str) -> None:
        """Let a storage out of safe mode: its files are taken into the tree."""
        self._calls("restoretree", str(name))

    def drain(self, name: str, on: bool = True) -> None:
        """Empty a storage for retirement, or use it again."""
        self._calls("drain", str(name), on)

    def balance(self, on: bool = True) -> BalanceState:
        """Have copies moved until all storages are about equally full, or (`on` False) begin no more of it.  Conflict
        where it runs already; `balance_state` says how far it is."""
        return BalanceState.from_wire(self._calls("balance", on))

    def balance_state(self) -> BalanceState:
        """How far the storages are being balanced, or how the last time ended."""
        return BalanceState.from_wire(self._calls("balance_state"))

    def forget(self, name: str, lost: bool = False) -> dict[str, Any]:
        """Take a storage that is gone for good out of the site; Conflict while it is connected, or where it has the
        only copy of files and `lost` does not give them up.  Answers storage, copies, lost, elsewhere."""
        return dict(self._calls("forget", str(name), lost, timeout=RUNNING))

    def quarantine(self, storage: str) -> Iterator[Kept]:
        """What a storage has put away, a page at a time, in byte order of the entries."""
        after = ""
        while True:
            page = [Kept.from_wire(pairs) for pairs in self._calls("quarantine", str(storage), after, PAGE)]
            yield from page
            if len(page) < PAGE:
                return
            after = page[-1].entry

    def get_quarantined(self, storage: str, entry: str, local: Path, overwrite: bool = False) -> int:
        """Fetch one entry of a quarantine into a local file; its bytes.  AlreadyExists, NotFound."""
        may_write(Path(local), overwrite)
        hop = Hop.from_wire(self._calls("open_quarantined", str(storage), str(entry)))
        target, size = Target(Path(local)), 0
        try:
            target.begin("", 0)
            for piece in pieces(self._links, hop, 0, WHOLE, "read_quarantined"):
                target.write(piece)
                size += len(piece)
            target.finish()
        except BaseException:
            target.drop()
            raise
        return size

    def accounts(self) -> list[tuple[str, str]]:
        """(name, level) of all accounts."""
        return [(name, level) for name, level in self._calls("accounts")]

    def set_account(self, name: str, level: str) -> None:
        """Lower what the holder of a certificate of this name may do; '' removes the account."""
        self._calls("set_account", str(name), str(level))

    def export_tree(self) -> str:
        """Write the tree to the nameserver's --treejson file now; its path there."""
        return str(self._calls("export_tree"))

    def validate(self, path: str, patience: float = 60.0) -> list[dict[str, Any]]:
        """Every copy of a file, here and at other librarians, read anew, which may take about `patience` seconds.

        Each with librarian, store, original and current checksum and size, computed_same_checksum, error."""
        answer = self._calls("validate_file", parse(path), patience, timeout=patience + 30.0)
        return [dict(pairs) for pairs in answer]

    def evict(self, path: str, copies: int = 1) -> int:
        """Let the copies of a file here go, where `copies` others at other librarians are good; how many went."""
        return int(dict(self._calls("evict", parse(path), copies, timeout=RUNNING))["copies"])

    def recall(self, path: str) -> str:
        """Have a file that was let go here pushed back; the librarian that will."""
        return str(dict(self._calls("recall", parse(path), timeout=120.0))["librarian"])

    def tasks(self) -> list[dict[str, Any]]:
        """The background tasks of the librarian, each with its last run and its next (seconds since 1970, UTC)."""
        return [dict(pairs) for pairs in self._calls("get_tasks")]

    def transfers(self) -> list[dict[str, Any]]:
        """What waits for other librarians or is on its way there, batch by batch.

        Each with peer, batch, manager, state (waiting or sent), since, tries, files, files_done, task, trouble, and in
        bytes size, size_done and rate (a second)."""
        return [dict(pairs) for pairs in self._calls("get_transfers")]

    def run_task(self, name: str) -> int:
        """Run a background task, or all of a kind, now; how much they did."""
        return int(self._calls("run_task", str(name), timeout=RUNNING))
