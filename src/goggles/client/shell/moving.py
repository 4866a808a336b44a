"""Commands that move bytes, and those about the local side: get put local lcd lpwd lls."""

from __future__ import annotations

import os
from argparse import Namespace
from pathlib import Path

from goggles.client.shell import render
from goggles.client.shell.base import Base
from goggles.client.shell.grammar import LOCAL, REMOTE, Argument, flag, takes
from goggles.client.shell.words import safe
from goggles.errors import AlreadyExists, IsADirectory, LocalFileError, NotADirectory
from goggles.paths import DfsPath, show, split


class Moving(Base):
    """Transfers can be cancelled at any moment and leave nothing half done."""

    transfers = frozenset({"get", "put", "cp", "cat", "verify", "balance"})

    @takes(
        Argument("path", REMOTE, "+"),
        flag("-r", help="directories too"),
        flag("-f", help="overwrite local files without asking"),
        flag("-o", help="the local name or directory to write to", value="LOCAL"),
        flag("--no-resume", help="start over: use nothing that is there already, leave nothing unfinished"),
    )
    def do_get(self, options: Namespace) -> None:
        """Read files from the tree into the local directory: get PATH... [-o LOCAL]

        A last argument that is no path of the tree may be the local target: get /a/b here.
        What an interrupted get of a large file leaves (.NAME.VERSION.partial) the same get goes on with."""
        sources, target = self._sources_and_target(options)
        if len(sources) > 1 and not target.is_dir():
            raise LocalFileError(f"{show(str(target))} is not a directory", "several files need one to go to")
        self.each(sources, lambda source: self._get(source, target, options))

    def _sources_and_target(self, options: Namespace) -> tuple[list[DfsPath], Path]:
        words = list(options.path)
        if options.o:
            return self.paths(words), self.local_path(options.o)
        if len(words) == 2 and not self.session.exists(self.path(words[1])):
            return self.paths(words[:1]), self.local_path(words[1])
        return self.paths(words), self.local

    def _get(self, source: DfsPath, target: Path, options: Namespace) -> None:
        if (options.o or "").endswith("/") and not target.is_dir():
            raise LocalFileError(f"{show(str(target))} is not a local directory", "make it first, or leave out the /")
        place = target / (split(source)[1] or "root") if target.is_dir() else target
        resume = not options.no_resume
        if self.session.isdir(source):
            if not options.r:
                raise IsADirectory(f"{source} is a directory", "get -r takes directories")
            if place.exists() and not place.is_dir():
                raise LocalFileError(f"{show(str(place))} is a file", "a directory can not be written over it")
            with self.progress() as bar:
                summary = self.session.get_tree(
                    source, place, overwrite=options.f, resume=resume, progress=bar, cancel=self.cancel
                )
            self.summarize(options, summary, "got")
            return
        overwrite = options.f
        if place.exists() and not overwrite:
            self.need_file(source)
            if not self.ask(f"{safe(str(place))} exists already; overwrite?", "get -f overwrites"):
                return
            overwrite = True
        with self.progress() as bar:
            info = self.session.get(source, place, overwrite=overwrite, resume=resume, progress=bar, cancel=self.cancel)
        self.show(options, {**dict(info.to_wire()), "local": str(place)}, "")

    @takes(
        Argument("local", LOCAL, "+"),
        flag("-r", help="directories too"),
        flag("-f", help="overwrite (as without it; kept for habit)"),
        flag("-n", help="do not overwrite"),
        flag("-o", help="the path in the tree to write to", value="PATH"),
        flag("--no-resume", help="start over: go on with no earlier put, leave nothing unfinished"),
    )
    def do_put(self, options: Namespace) -> None:
        """Write local files to the tree: put LOCAL... [PATH]

        Where there are several arguments, the last is the target in the tree; -o names it in any case.
        A put of a large file that was interrupted goes on where it was when it is given again within an hour."""
        words = list(options.local)
        target = options.o or (words.pop() if len(words) > 1 else ".")
        sources = self.local_paths(words)
        if len(sources) > 1 and not self.session.isdir(self.path(target)):
            raise NotADirectory(
                f"{target} is not a directory of the tree", "several files need one to go to; make it with mkdir"
            )
        self.each(sources, lambda source: self._put(source, target, options))

    def _put(self, source: Path, target: str, options: Namespace) -> None:
        name = source.name or source.resolve().name
        if not source.is_dir():
            path = self.target(target, name)
            if options.n and self.session.exists(path):
                raise AlreadyExists(f"{path} exists already")
            with self.progress() as bar:
                done = self.session.put(source, path, resume=not options.no_resume, progress=bar, cancel=self.cancel)
            owed = f"{done.path}: {done.copies} copies now, {done.owed} owed" if done.owed else ""
            self.show(options, dict(done.to_wire()), owed)
            return
        if not options.r:
            raise LocalFileError(f"{show(str(source))} is a directory", "put -r takes directories")
        with self.progress() as bar:
            summary = self.session.put_tree(
                source, self.target(target, name), resume=not options.no_resume, progress=bar, cancel=self.cancel
            )
        self.summarize(options, summary, "put")

    # --- the local side --------------------------------------------------------------------

    @takes(Argument("path", LOCAL, "?"))
    def do_local(self, options: Namespace) -> None:
        """List the local directory."""
        folder = self.local_path(options.path or ".")
        try:
            entries = sorted(folder.iterdir(), key=lambda entry: entry.name)
            rows = [(entry.is_dir(), entry.name, entry.lstat().st_size) for entry in entries]
        except OSError as error:
            raise LocalFileError(f"{show(str(folder))} can not be listed: {error.strerror}") from error
        made = render.table([("type", "left"), ("size", "right"), ("name", "path")])
        for is_dir, name, length in rows:
            made.add_row("dir" if is_dir else "file", "" if is_dir else render.size(length), safe(name))
        data = [{"name": name, "directory": is_dir, "size": length} for is_dir, name, length in rows]
        self.show(options, data, made)

    do_lls = do_local

    @takes()
    def do_lpwd(self, options: Namespace) -> None:
        """The current local directory."""
        self.show(options, str(self.local.resolve()), safe(str(self.local.resolve())))

    @takes(Argument("path", LOCAL, "?"))
    def do_lcd(self, options: Namespace) -> None:
        """Change the current local directory; `lcd` alone goes home."""
        folder = self.local_path(options.path or str(Path.home()))
        if not folder.is_dir() or not os.access(folder, os.X_OK):
            raise LocalFileError(f"{show(str(folder))} is not a local directory that can be entered")
        self.local = folder.resolve()
