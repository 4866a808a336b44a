"""Commands that look: ls stat tree find cat du df nodes, and where one is."""

from __future__ import annotations

import sys
from argparse import Namespace

from rich.text import Text
from rich.tree import Tree as RichTree

from goggles.client.shell import render
from goggles.client.shell.base import Base
from goggles.client.shell.grammar import REMOTE, Argument, flag, takes
from goggles.client.shell.words import safe
from goggles.contracts.records import DIRECTORY, FILE, DirInfo, Entry
from goggles.errors import BadRequest, Cancelled, NotADirectory
from goggles.paths import DfsPath

EXACT = flag("--bytes", help="exact sizes in bytes")
MAX_TREE = 10_000


class Looking(Base):
    """Nothing here changes anything."""

    @takes(
        Argument("path", REMOTE, "*"),
        flag("-l", help="also copies, generation, time, uploader"),
        flag("-R", help="with everything below"),
        flag("-d", help="the directory itself, not what is in it"),
        flag("-a", help="also names that begin with a dot (as without it)"),
        flag("-1", help="names only, one a line"),
        flag("-h", help="sizes for people (as without it)"),
        EXACT,
    )
    def do_ls(self, options: Namespace) -> None:
        """List a directory: type, size, name, and the storages that hold each file.

        copies: how many there are, of how many are wanted.  gen: 1, and one more each time the file is replaced."""
        paths = self.paths(options.path) or [self.cwd]
        entries: list[Entry] = []
        for path in paths:
            if options.d:
                entries.append(self.session.stat(path))
            elif options.R:
                entries += self.session.find(path)
            else:
                entries += self.session.ls(path)
        text: object = render.listing(entries, options.l, options.bytes, whole=options.R) if entries else ""
        if vars(options)["1"]:
            text = "\n".join(safe(entry.path if options.R else entry.path.rpartition("/")[2]) for entry in entries)
        self.show(options, [dict(entry.to_wire()) for entry in entries], text)

    @takes(Argument("path", REMOTE, "+"))
    def do_stat(self, options: Namespace) -> None:
        """Everything that is known of files and directories.

        generation: 1, and one more each time the file is replaced.  storages: who has a copy here.
        elsewhere: other librarians that have one.  held: here, here and elsewhere, offsite (elsewhere alone), nowhere.
        uploader and source: who put it, and at which site."""
        entries = [self.session.stat(path) for path in self.paths(options.path)]
        text = "\n\n".join(render.details(entry) for entry in entries)
        self.show(options, [dict(entry.to_wire()) for entry in entries], text)

    @takes(Argument("path", REMOTE, "?"))
    def do_tree(self, options: Namespace) -> None:
        """Draw a directory with everything below it."""
        path = self.path(options.path or ".")
        root = RichTree(Text(safe(path)))
        branches: dict[str, RichTree] = {path: root}
        entries: list[Entry] = []
        for entry in self.session.find(path):
            if len(entries) >= MAX_TREE:
                raise BadRequest(f"there are more than {MAX_TREE} things below {path}", "find goes through any number")
            entries.append(entry)
            above = branches[entry.path.rpartition("/")[0] or "/"]
            mark = "/" if isinstance(entry, DirInfo) else ""
            branches[entry.path] = above.add(Text(render.name_of(entry) + mark))
        self.show(options, [entry.path for entry in entries], root)

    @takes(
        Argument("path", REMOTE, "?"),
        flag("--name", help="names that fit this pattern", value="PATTERN"),
        flag("--type", help="f (files) or d (directories)", value="TYPE"),
    )
    def do_find(self, options: Namespace) -> None:
        """Print the path of everything below a directory."""
        kinds = {None: None, "f": FILE, "d": DIRECTORY}
        if options.type not in kinds:
            raise BadRequest(f"type {options.type} is not f or d")
        path = self.path(options.path or ".")
        for entry in self.session.find(path, options.name, kinds[options.type]):
            self.show(options, dict(entry.to_wire()), Text(safe(entry.path)))

    @takes(Argument("path", REMOTE, "+"))
    def do_cat(self, options: Namespace) -> None:
        """Write files to standard output, byte for byte (also with --json)."""
        last = b"\n"
        for path in self.paths(options.path):
            for chunk in self.session.read(path):
                if self.cancel.is_set():
                    raise Cancelled("cat was cancelled")
                sys.stdout.buffer.write(chunk)
                last = chunk[-1:] or last
            sys.stdout.buffer.flush()
        if self.interactive and last != b"\n":
            sys.stdout.write("\n")  # or the prompt would be drawn over the last line
            sys.stdout.flush()

    @takes(EXACT, flag("-h", help="sizes for people (as without it)"))
    def do_du(self, options: Namespace) -> None:
        """The storages: name, address, free, capacity, used, state; and the totals of the site.

        state: active; checking (it compares its folder with the tree); grace (lost a moment ago, its copies count);
        down; held (in safe mode: it waits for accept or restoretree); draining (its files are copied elsewhere)."""
        site, storages = self.session.du()
        data = {"site": dict(site.to_wire()), "storages": [dict(info.to_wire()) for info in storages]}
        self.show(options, data, render.storages(storages, options.bytes))
        self.note(render.site(site, options.bytes))
        for info in storages:
            if info.held_because:
                self.note(
                    f"{info.name} is held: {safe(info.held_because)}; accept {info.name}, or restoretree {info.name}"
                )

    @takes(EXACT, flag("-h", help="sizes for people (as without it)"))
    def do_df(self, options: Namespace) -> None:
        """Free room of the active storages together, in short."""
        _, storages = self.session.du()
        free, capacity = sum(s.free for s in storages if s.state == "active"), sum(s.capacity for s in storages)
        text = f"{render.size(free, options.bytes)} free of {render.size(capacity, options.bytes)}"
        text += "; each copy of a file takes its size"
        self.show(options, {"free": free, "capacity": capacity}, text)

    @takes()
    def do_nodes(self, options: Namespace) -> None:
        """The storages: since when they are in their state (help du explains the states), and their scrub.

        read: of all that is on it, since the round began.  bad: copies that were not what they should be."""
        _, storages = self.session.du()
        self.show(options, [dict(info.to_wire()) for info in storages], render.nodes(storages))

    @takes()
    def do_pwd(self, options: Namespace) -> None:
        """The current directory of the tree."""
        self.show(options, self.cwd, safe(self.cwd))

    @takes(Argument("path", REMOTE, "?"))
    def do_cd(self, options: Namespace) -> None:
        """Change the current directory of the tree; `cd -` goes back, `cd` to the root."""
        wanted = self.previous if options.path == "-" else self.path(options.path or "/")
        if not self.session.isdir(wanted):
            entry = self.session.stat(wanted)
            raise NotADirectory(f"{entry.path} is a file")
        self.previous, self.cwd = self.cwd, DfsPath(wanted)
