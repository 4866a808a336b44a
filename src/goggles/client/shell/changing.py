"""Commands that change the tree: mkdir rmdir rm mv cp setrep, and those for administrators."""

from __future__ import annotations

from argparse import Namespace

from goggles.client.shell.base import Base
from goggles.client.shell.grammar import REMOTE, STORAGE, Argument, flag, takes
from goggles.client.shell.render import counted
from goggles.contracts.records import FileInfo
from goggles.errors import BadRequest, Conflict, IsADirectory, NotADirectory, NotEmpty, NotFound
from goggles.paths import DfsPath, split


class Changing(Base):
    """What is done is said only where it is not plain from the command."""

    @takes(Argument("path", REMOTE, "+"), flag("-p", help="with the directories above; being there already is fine"))
    def do_mkdir(self, options: Namespace) -> None:
        """Make directories."""

        def make(path: DfsPath) -> None:
            try:
                self.session.mkdir(path, parents=options.p, exist_ok=options.p)
            except NotFound as error:
                raise NotFound(error.message, "mkdir -p makes the directories above too") from error
            self.show(options, {"path": path, "done": "made"}, "")

        self.each([self.path(word) for word in options.path], make)

    @takes(Argument("path", REMOTE, "+"), flag("-r", help="with everything in it, without asking"))
    def do_rmdir(self, options: Namespace) -> None:
        """Remove directories; a full one only after a question, or with -r."""

        def remove(path: DfsPath) -> None:
            done = "removed" if self._rmdir(path, options.r) else "left"
            self.show(options, {"path": path, "done": done}, "")

        self.each(self.paths(options.path), remove)

    def _rmdir(self, path: DfsPath, recursive: bool) -> bool:
        try:
            self.session.rmdir(path, recursive=recursive)
        except NotEmpty:
            files, directories, _ = self.session.tree_size(path)
            inside = f"{counted(files, 'file')} and {counted(directories, 'directory', 'directories')}"
            question = f"{path} has {inside} in it; remove all?"
            if not self.ask(question, "rmdir -r does not ask"):
                return False
            self.session.rmdir(path, recursive=True)
        return True

    @takes(
        Argument("path", REMOTE, "+"),
        flag("-r", help="directories too, with everything in them"),
        flag("-f", help="what is not there is fine"),
    )
    def do_rm(self, options: Namespace) -> None:
        """Remove files."""

        def remove(path: DfsPath) -> None:
            if options.f and not self.session.exists(path):
                return
            self._rm(path, options.r)
            self.show(options, {"path": path, "done": "removed"}, "")

        self.each(self.paths(options.path, none_is_fine=options.f), remove)

    def _rm(self, path: DfsPath, recursive: bool) -> None:
        if recursive and self.session.isdir(path):
            self.session.rmdir(path, recursive=True)
            return
        try:
            self.session.rm(path)
        except IsADirectory as error:
            raise IsADirectory(error.message, "rm -r removes directories too") from error

    @takes(Argument("source", REMOTE, "+"), Argument("target", REMOTE))
    def do_mv(self, options: Namespace) -> None:
        """Rename, or move into a directory."""
        sources = self.paths(options.source)
        self._many_need_a_directory(sources, options.target)

        def move(source: DfsPath) -> None:
            target = self.target(options.target, split(source)[1])
            self.session.mv(source, target)
            self.show(options, {"path": source, "done": "moved", "to": target}, "")

        self.each(sources, move)

    @takes(Argument("source", REMOTE, "+"), Argument("target", REMOTE), flag("-r", help="directories too"))
    def do_cp(self, options: Namespace) -> None:
        """Copy files within the tree (the bytes pass through this host)."""
        sources = self.paths(options.source)
        self._many_need_a_directory(sources, options.target)

        def copy(source: DfsPath) -> None:
            target = self.target(options.target, split(source)[1])
            self._copy(source, target, options.r)
            self.show(options, {"path": source, "done": "copied", "to": target}, "")

        self.each(sources, copy)

    def _copy(self, source: DfsPath, target: DfsPath, recursive: bool) -> None:
        if source == target:
            raise BadRequest(f"{source} and its copy would be the same file")
        if not self.session.isdir(source):
            with self.progress() as bar:
                self.session.cp(source, target, progress=bar, cancel=self.cancel)
            return
        if not recursive:
            raise IsADirectory(f"{source} is a directory", "cp -r copies directories")
        if target.startswith(source + "/"):
            raise Conflict(f"{source} can not be copied into itself")
        self.session.mkdir(target, exist_ok=True)
        for entry in list(self.session.find(source)):
            place = DfsPath(target + entry.path[len(source) :])
            if isinstance(entry, FileInfo):
                self.session.cp(entry.path, place, cancel=self.cancel)
            else:
                self.session.mkdir(place, exist_ok=True)

    def _many_need_a_directory(self, sources: list[DfsPath], target: str) -> None:
        if len(sources) > 1 and not self.session.isdir(self.path(target)):
            raise NotADirectory(f"{target} is not a directory", "several things need a directory to go to")

    @takes(Argument("copies"), Argument("path", REMOTE, "+"))
    def do_setrep(self, options: Namespace) -> None:
        """Set the number of copies of files, or of a directory with all that is in it and will be: setrep 3 /docs

        The copies are made, or removed, a moment later; ls -l shows how many there are."""
        if not str(options.copies).isdecimal():
            raise BadRequest(f"{options.copies} is not a number of copies", "setrep 3 /path")
        for path in self.paths(options.path):
            changed = self.session.setrep(path, int(options.copies))
            text = f"{path}: {counted(int(options.copies), 'copy', 'copies')} of {counted(changed, 'file')}"
            self.show(options, {"path": path, "files": changed}, text)

    @takes(Argument("name", STORAGE))
    def do_accept(self, options: Namespace) -> None:
        """Let a storage out of safe mode: the tree is right, what it does not know goes to quarantine there.

        For administrators.  du says why the storage is held; where the tree lost files, restoretree is the way."""
        self.session.accept(options.name)
        self._told(options, "accepted", f"{options.name} checks itself again; see du")

    @takes(Argument("name", STORAGE))
    def do_restoretree(self, options: Namespace) -> None:
        """Let a storage out of safe mode: the storage is right, what the tree does not know is taken into it.

        For administrators.  du says why the storage is held; where the tree is what it should be, accept is the way."""
        self.session.restoretree(options.name)
        self._told(options, "restored", f"{options.name} checks itself again, and its files come into the tree; see du")

    @takes(Argument("name", STORAGE), flag("--off", help="use it again"))
    def do_drain(self, options: Namespace) -> None:
        """Empty a storage for retirement: its files are copied elsewhere, then removed there.

        For administrators.  When du shows no files on it any more, it can be stopped for good."""
        self.session.drain(options.name, not options.off)
        done, text = ("in use", "in use again") if options.off else ("draining", "being emptied; see du")
        self._told(options, done, f"{options.name} is {text}")

    def _told(self, options: Namespace, done: str, text: str) -> None:
        self.show(options, {"storage": options.name, "done": done}, text)
