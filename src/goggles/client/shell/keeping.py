"""Commands that keep a site sound over the years: verify, and those for administrators."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Sequence
from dataclasses import dataclass, field

from goggles.client.api import Progress
from goggles.client.shell import render
from goggles.client.shell.base import Base, Failures
from goggles.client.shell.grammar import REMOTE, STORAGE, Argument, flag, takes
from goggles.client.shell.words import escape, safe
from goggles.client.verifying import Checked
from goggles.errors import BadRequest, Cancelled
from goggles.paths import ROOT, DfsPath


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


def _said(path: str, copies: Sequence[tuple[str, str]]) -> str:
    return "\n".join(f"{safe(path)} on {safe(name)}: {safe(verdict)}" for name, verdict in copies)
