"""Commands that keep a site sound over the years: verify, and those for administrators."""

from __future__ import annotations

import tempfile
from argparse import Namespace
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rich.table import Table
from rich.text import Text

from goggles.client.api import Progress
from goggles.client.shell import render
from goggles.client.shell.base import Base, Failures
from goggles.client.shell.grammar import ENTRY, PUT_AWAY, REMOTE, STORAGE, TEXT, Argument, flag, takes
from goggles.client.shell.words import escape, safe
from goggles.client.verifying import Checked
from goggles.contracts.orders import Kept
from goggles.contracts.records import BalanceState
from goggles.errors import AlreadyExists, BadRequest, Cancelled
from goggles.paths import ROOT, DfsPath

LOOK = 1.0  # seconds between looks at what runs


@dataclass(slots=True)
class _Tally:
    """What a verification has come to."""

    files: int = 0
    copies: int = 0
    size: int = 0
    bad: int = 0
    unread: int = 0  # copies that could not be asked
    lost: list[str] = field(default_factory=list)  # files of which no good copy was found

    def add(self, checked: Checked) -> None:
        good, bad = checked.good, checked.bad
        self.files, self.copies = self.files + 1, self.copies + len(checked.copies)
        self.size, self.bad = self.size + checked.size * (good + bad), self.bad + bad
        self.unread += len(checked.copies) - good - bad
        if checked.copies and not good:
            self.lost.append(checked.path)

    @property
    def data(self) -> dict[str, object]:
        known = {"files": self.files, "copies": self.copies, "bytes": self.size, "bad": self.bad}
        return {**known, "unread": self.unread, "lost": self.lost}

    @property
    def text(self) -> str:
        read = render.counted(self.copies - self.unread, "copy", "copies")
        text = f"{render.counted(self.files, 'file')}, {read} read, {render.size(self.size)}: {self.bad} bad"
        return text + (f", {self.unread} could not be read now" if self.unread else "")


class Keeping(Base):
    """What is done now and then."""

    @takes(
        Argument("path", REMOTE, "*"),
        flag("--all", help="every file of the tree"),
        flag("--after", help="go on after this path", value="PATH"),
    )
    def do_verify(self, options: Namespace) -> None:
        """Have every storage that holds a file read it again and compare: files, directories, or --all.

        A copy that is bad is moved to quarantine there, and made again from a good one.  Of a directory only what is
        not good is listed; the exit code says whether anything was bad.  Ctrl-C says how to go on later."""
        tops = [ROOT] if options.all else self.paths(options.path)
        if not tops:
            raise BadRequest("verify what?", "verify /path, or verify --all")
        after = self.path(options.after) if options.after else ""
        tally = _Tally()
        for top in tops:
            if self.session.isdir(top):
                self._verify_tree(options, top, after, tally)
            else:
                self._verify_file(options, top, tally)
        if tally.bad or tally.lost:
            of = f", no good copy was found of {render.counted(len(tally.lost), 'file')}" if tally.lost else ""
            raise Failures(f"{render.counted(tally.bad, 'copy is', 'copies are')} bad{of}")

    def _verify_file(self, options: Namespace, path: DfsPath, tally: _Tally) -> None:
        copies = tuple(self.session.verify(path))
        tally.add(Checked(path, 0, copies))
        self.show(options, {"path": path, "copies": dict(copies)}, _said(path, copies) or f"{safe(path)}: no copy here")

    def _verify_tree(self, options: Namespace, top: DfsPath, after: str, tally: _Tally) -> None:
        walk = self.session.verify_tree(top, after=after, cancel=self.cancel)
        files, size = self._extent(top)
        done = 0
        try:
            with self.progress() as bar:
                for checked in walk:
                    tally.add(checked)
                    done += checked.size
                    bar(Progress(checked.path, done, size, tally.files, files))
                    if checked.good < len(checked.copies) or not checked.copies:
                        copies = [(name, verdict) for name, verdict in checked.copies if verdict != "good"]
                        data = {"path": checked.path, "copies": dict(checked.copies)}
                        self.show(options, data, _said(checked.path, copies) or f"{safe(checked.path)}: no copy here")
        except (Cancelled, KeyboardInterrupt):
            raise Cancelled(tally.text, f"verify --after {escape(walk.last or '/')} {escape(top)} goes on") from None
        self.show(options, {"path": top, **tally.data}, tally.text)

    def _extent(self, top: DfsPath) -> tuple[int, int]:
        """(files, bytes) below a directory, for the progress bar."""
        if top == ROOT:
            site = self.session.du()[0]
            return site.files, site.size
        files, _, size = self.session.tree_size(top)
        return files, size

    @takes(
        flag("--background", help="begin, and do not wait"),
        flag("--status", help="how far it is, or how it ended"),
        flag("--stop", help="begin no more moves"),
    )
    def do_balance(self, options: Namespace) -> None:
        """Move copies until all storages are about equally full, with the new copy made before the old one goes.

        For administrators.  It waits for the end and shows how far it is; Ctrl-C stops it.  Storages that are being
        drained, or do not take new files, are left alone; zones are kept apart."""
        if options.status:
            state = self.session.balance_state()
        elif options.stop:
            state = self.session.balance(False)
        else:
            state = self.session.balance()
            if not options.background:
                state = self._follow_balance()
        self.show(options, dict(state.to_wire()), _balanced(state))

    def _follow_balance(self) -> BalanceState:
        """Until it has ended; Ctrl-C stops it, and a second one leaves it to come to its end."""
        said, stopped = "", False
        while (state := self.session.balance_state()).running:
            text = _balanced(state)
            if self.interactive and text != said:
                self.note(text)
                said = text
            if self.cancel.wait(LOOK):
                if stopped:
                    break
                self.session.balance(False)
                self.cancel.clear()
                stopped = True
        return state

    @takes(
        Argument("name", STORAGE), flag("--lost", help="also where it has the only copy of files: they are given up")
    )
    def do_forget(self, options: Namespace) -> None:
        """Take a storage that is gone for good out of the site; its name may be used again.

        For administrators.  It must not be connected.  Files that had their only copy on it stay in the tree, and are
        nowhere, unless another librarian has them."""
        done = self.session.forget(options.name, options.lost)
        text = f"{safe(options.name)} is forgotten; {render.counted(done['copies'], 'copy', 'copies')} were on it"
        if done["lost"]:
            text += f", {done['lost']} of them the last here ({done['elsewhere']} of these other librarians have)"
        self.show(options, done, text)

    @takes(
        Argument("action", PUT_AWAY),
        Argument("storage", STORAGE, "?"),
        Argument("entry", ENTRY, "?"),
        Argument("target", TEXT, "?"),
        flag("-f", help="over what is there"),
    )
    def do_quarantine(self, options: Namespace) -> None:
        """What storages have put away: quarantine ls [STORAGE], and to have one of it back

        quarantine get STORAGE ENTRY LOCAL: into a local file; quarantine restore STORAGE ENTRY PATH: as a new file of
        the tree.  For administrators.  Nothing is taken out of the quarantine by that; it goes after its time."""
        if options.action == "ls" and options.entry is None:
            self._list_quarantine(options)
        elif options.action in ("get", "restore") and options.target is not None:
            done = self._get_kept(options) if options.action == "get" else self._restore_kept(options)
            self.show(options, done, f"{render.size(done['size'])} in {safe(str(done['to']))}")
        else:
            raise BadRequest("quarantine takes: ls [STORAGE], get STORAGE ENTRY LOCAL, restore STORAGE ENTRY PATH")

    def _list_quarantine(self, options: Namespace) -> None:
        names = [options.storage] if options.storage else [info.name for info in self.session.du()[1]]
        rows: list[tuple[str, Kept]] = []

        def add(name: str) -> None:
            rows.extend((name, kept) for kept in self.session.quarantine(name))

        try:
            self.each(names, add)
        finally:
            data = [{"storage": name, **dict(kept.to_wire())} for name, kept in rows]
            self.show(options, data, _quarantine(rows) if rows else "nothing is in quarantine")

    def _get_kept(self, options: Namespace) -> dict[str, Any]:
        target = self.local_path(options.target)
        if target.is_dir():
            target = target / options.entry.rpartition("/")[2]
        size = self.session.get_quarantined(options.storage, options.entry, target, overwrite=options.f)
        return {"storage": options.storage, "entry": options.entry, "to": str(target), "size": size}

    def _restore_kept(self, options: Namespace) -> dict[str, Any]:
        """By way of a local file, like any upload."""
        path = self.target(options.target, options.entry.rpartition("/")[2])
        if not options.f and self.session.exists(path):
            raise AlreadyExists(f"{path} exists already", "give another PATH; restore -f replaces what is there")
        with tempfile.TemporaryDirectory(prefix="goggles-") as folder:
            local = Path(folder) / "kept"
            size = self.session.get_quarantined(options.storage, options.entry, local)
            self.session.put(local, path, overwrite=options.f)
        return {"storage": options.storage, "entry": options.entry, "to": path, "size": size}


def _said(path: str, copies: Sequence[tuple[str, str]]) -> str:
    return "\n".join(f"{safe(path)} on {safe(name)}: {safe(verdict)}" for name, verdict in copies)


def _balanced(state: BalanceState) -> str:
    how = f"{render.counted(state.moved, 'copy', 'copies')} moved, {render.size(state.size)}"
    how += f", {state.failed} could not be" if state.failed else ""
    apart = f"the storages are {100 * state.gap:.1f} % apart"
    if state.running:
        return f"{how}, {state.under_way} under way; {apart}"
    return f"{state.result}: {how}; {apart}" if state.began else "nothing was balanced since the nameserver started"


def _quarantine(rows: Sequence[tuple[str, Kept]]) -> Table:
    headings = [("storage", "left"), ("size", "right"), ("since", "left"), ("why", "path"), ("was", "path")]
    made = render.table([*headings, ("entry", "path")])
    for name, kept in rows:
        words = [safe(name), render.size(kept.size), render.when(kept.when), safe(kept.why) or "-", safe(kept.path)]
        made.add_row(*map(Text, words), Text(safe(kept.entry)))
    return made
