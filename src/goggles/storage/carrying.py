"""How each order of the nameserver is carried out on the disk.

Law: every order may come twice; what it finds done, it leaves.  A file is touched only if it is the version that the
order means.  Renames come first, then each directory that was touched is fsynced once, then the orders count as done;
but nothing is moved into a directory whose own name is not on disk.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator
from typing import Any

from goggles import failpoints
from goggles.contracts.orders import Order
from goggles.contracts.records import Value
from goggles.errors import BadRequest, GogglesError, NotADirectory, NotFound, Stale
from goggles.paths import ROOT, DfsPath, join, parse, parts, show, split
from goggles.storage import notes
from goggles.storage.containment import DIRECTORY, Root, explained, kind_of, open_regular
from goggles.storage.inventory import digest_of
from goggles.storage.quarantine import Quarantine
from goggles.storage.recent import Recent
from goggles.storage.staging import PART, Fsync, check_upload
from goggles.storage.unsynced import Unsynced

Result = tuple[Value, ...]
BAD = "its bytes have changed since they were written"
UNKNOWN = "the tree does not have it, or not with these bytes"
UNWANTED = "it was staged, and nobody waited for it"
IN_THE_WAY = "something else came to its place"
OK: Result = ("ok",)


class Carrier:
    """Carries out orders below `root`.  `freed(bytes)` is told of bytes that are gone (negative: that came).
    One thread at a time."""

    def __init__(
        self,
        root: Root,
        staging: int,
        quarantine: Quarantine,
        bin_tree: Callable[[str, int], None],
        freed: Callable[[int], None],
        fsync: Fsync,
    ) -> None:
        self._root = root
        self._fsync = fsync
        self._staging = staging
        self._quarantine = quarantine
        self._bin_tree = bin_tree
        self._freed = freed
        self._touched = Unsynced(fsync)
        self._new = Unsynced(fsync)  # directories in which others were made
        root.made = self._new.keep
        self.bad: set[str] = set()  # versions whose bytes were read, and are not what their note says
        self.given_up = Recent()  # uploads that were discarded: their bytes may still be on their way
        self._failed = ""  # the first order of this session that could not be carried out
        self._kinds: dict[str, Callable[..., None]] = {
            "mkdir": self._mkdir,
            "rmdir": self._rmdir,
            "remove_tree": self._remove_tree,
            "move": self._move,
            "move_file": self._move_file,
            "publish": self._publish,
            "stamp": self._stamp,
            "remove": self._remove,
            "discard": self._discard,
            "quarantine": self._quarantine_file,
            "quarantine_staged": self._quarantine_staged,
        }

    def add(self, kind: str, action: Callable[..., None]) -> None:
        """One more kind of order."""
        self._kinds[kind] = action

    def begin(self) -> None:
        """A new session: what failed in the one before is found by its self-check."""
        self._failed = ""

    def carry(self, order: Order) -> Result:
        """One order; ("ok",) or ("error", code, message)."""
        try:
            kind = self._kinds.get(order[0]) if order else None
            if kind is None:
                raise BadRequest(f"there is no order {str(order[:1])[:60]}")
            with explained(f"{order[0]} {show(str(order[1:2]))[:200]}"):
                kind(*order[1:])
        except GogglesError as error:
            self._failed = self._failed or f"{order[0]}: {error.message}"
            return ("error", error.code, error.message)
        except TypeError as error:
            return ("error", BadRequest.code, f"order {order[0]}: {error}")
        return OK

    def settle(self) -> None:
        """fsync every directory that was touched, wherever it stands by now."""
        failpoints.hit("storage.settle.before_fsync")
        self._new.sync()
        self._touched.sync()

    # --- directories -----------------------------------------------------------------------

    def _make_way(self, path: DfsPath) -> None:
        """Put aside files that stand where directories have to be: the order knows the tree, they are what is old."""
        names = parts(path)
        for depth in range(len(names)):
            here = DfsPath("/" + "/".join(names[: depth + 1]))
            try:
                with self._root.parent(here) as (fd, name):
                    kind = kind_of(name, fd)
                    if kind == "directory":
                        continue
                    if kind:
                        self._put_aside(name, fd, here)
                    return
            except NotFound:
                return

    def _put_aside(self, name: str, fd: int, path: DfsPath) -> None:
        """A file that is in the way: staged under its version, where it will be looked for; else in quarantine."""
        there = self._note_at(name, fd)
        if there and not kind_of(check_upload(there), self._staging):
            self._quarantine.label(name, fd, path, IN_THE_WAY)
            os.rename(name, there, src_dir_fd=fd, dst_dir_fd=self._staging)
            self._touched.keep(self._staging)
        else:
            self._quarantine_at(name, fd, path, IN_THE_WAY)
        self._touched.keep(fd)

    def _empty_aside(self, name: str, fd: int, path: DfsPath) -> None:
        """Put aside all files of a directory that stands where a file has to be, and remove it."""
        inside = os.open(name, DIRECTORY, dir_fd=fd)
        try:
            for child in os.listdir(inside):
                below = join(path, child)
                if kind_of(child, inside) == "directory":
                    self._empty_aside(child, inside, below)
                else:
                    self._put_aside(child, inside, below)
        finally:
            os.close(inside)
        os.rmdir(name, dir_fd=fd)

    @contextlib.contextmanager
    def _place(self, path: DfsPath) -> Iterator[tuple[int, str]]:
        """`Root.parent`, made where it is missing."""
        above, name = split(path)
        fd = self._open_made(above)
        try:
            self._new.sync()
            yield fd, name
        finally:
            os.close(fd)

    def _mkdir(self, text: str) -> None:
        os.close(self._open_made(parse(text)))

    def _open_made(self, path: DfsPath) -> int:
        """A descriptor of the directory, made with those above it where they are missing."""
        try:
            return self._root.open_directory(path, create=True)
        except NotADirectory:
            self._make_way(path)
        return self._root.open_directory(path, create=True)

    def _rmdir(self, text: str) -> None:
        path = parse(text)
        if path == ROOT:
            return
        with contextlib.suppress(NotFound, NotADirectory), self._root.parent(path) as (fd, name):
            if kind_of(name, fd) == "directory":
                with contextlib.suppress(OSError):  # not empty: what is in it was not meant
                    os.rmdir(name, dir_fd=fd)
                self._touched.keep(fd)

    def _remove_tree(self, text: str, *_: Any) -> None:
        path = parse(text)
        if path == ROOT:
            raise BadRequest("the root is not removed")
        if self._failed:
            # A file that should have been moved out may be in there still, and this order names no versions.
            raise Stale(f"not removed unseen, because an order failed before ({self._failed})"[:300])
        with contextlib.suppress(NotFound, NotADirectory), self._root.parent(path) as (fd, name):
            if kind_of(name, fd) == "directory":
                self._bin_tree(name, fd)
                self._touched.keep(fd)

    def _move(self, old: str, new: str) -> None:
        source, target = parse(old), parse(new)
        with contextlib.suppress(NotFound), self._root.parent(source) as (fd, name):
            if kind_of(name, fd) == "directory":
                with self._place(target) as (to, base):
                    self._merge(name, fd, base, to, target)
                    self._touched.keep(to)
                self._touched.keep(fd)

    def _merge(self, name: str, fd: int, base: str, to: int, target: DfsPath) -> None:
        """Rename a directory, or move what is in it into one that is there already."""
        if kind_of(base, to) != "directory":
            if kind_of(base, to):
                self._put_aside(base, to, target)
            os.rename(name, base, src_dir_fd=fd, dst_dir_fd=to)
            return
        source, below = os.open(name, DIRECTORY, dir_fd=fd), os.open(base, DIRECTORY, dir_fd=to)
        try:
            for child in os.listdir(source):
                self._merge_one(child, source, below, join(target, child))
            self._fsync(below)
        finally:
            os.close(source)
            os.close(below)
        os.rmdir(name, dir_fd=fd)

    def _merge_one(self, child: str, source: int, below: int, path: DfsPath) -> None:
        if kind_of(child, source) == "directory":
            self._merge(child, source, child, below, path)
        else:  # what is moved is what the tree has there; what stands there is old
            self._clear_way(child, below, path, "")
            os.rename(child, child, src_dir_fd=source, dst_dir_fd=below)

    # --- files -----------------------------------------------------------------------------

    def _publish(self, upload: str, text: str, version: str, generation: int, replaces: str | None = None) -> None:
        path, staged = parse(text), check_upload(upload)
        try:
            opened = open_regular(staged, self._staging)
        except FileNotFoundError:
            if self._version_at(path) == version:
                return
            raise NotFound(f"upload {upload} is not staged here") from None
        try:
            with self._place(path) as (fd, name):
                if kind_of(name, fd):
                    if version and self._note_at(name, fd) == version:
                        self._quarantine_staged(staged, IN_THE_WAY)  # a second copy of what stands at its place already
                        return
                    self._clear_way(name, fd, path, replaces)
                self._finish_note(opened, version, generation)
                failpoints.hit("storage.publish.before_rename")
                os.rename(staged, name, src_dir_fd=self._staging, dst_dir_fd=fd)
                failpoints.hit("storage.publish.after_rename")
                self._touched.keep(fd)
        finally:
            os.close(opened)

    def _clear_way(self, name: str, fd: int, path: DfsPath, replaces: str | None) -> None:
        """What stands at the place of a file: what is to be replaced will be, an empty directory goes, all else is
        put aside, because it may be a version that belongs elsewhere by now."""
        kind = kind_of(name, fd)
        if kind == "directory":
            self._empty_aside(name, fd, path)
        elif kind:
            there = self._note_at(name, fd)
            if there and (replaces is None or there == replaces):
                self._freed(os.stat(name, dir_fd=fd).st_size)
            else:
                self._put_aside(name, fd, path)

    def _note_at(self, name: str, fd: int) -> str:
        """The version of what stands there, as noted and still true; '' where that is not known."""
        try:
            opened = open_regular(name, fd)
        except (OSError, GogglesError):
            return ""
        try:
            note = notes.read(opened)
            return note.version if note is not None else ""
        finally:
            os.close(opened)

    @staticmethod
    def _finish_note(opened: int, version: str, generation: int) -> None:
        note = notes.read(opened)
        if note is not None:
            notes.write(opened, note.sha256, version, int(generation))

    def _stamp(self, text: str, version: str, generation: int, sha256: str) -> None:
        opened = self._root.open_file(parse(text))
        try:
            note = notes.read(opened)
            digest = note.sha256 if note is not None else digest_of(opened)
            if digest != sha256:
                raise Stale(f"other bytes than {version} stand at {text}")
            notes.write(opened, sha256, version, int(generation))
        finally:
            os.close(opened)

    def _move_file(self, old: str, new: str, version: str) -> None:
        source, target = parse(old), parse(new)
        if source == target:
            return
        there = self._version_at(source)
        if self._version_at(target) == version:
            if there == version:  # a second copy of what stands at its place already
                with self._root.parent(source) as (fd, name):
                    self._quarantine_at(name, fd, source, IN_THE_WAY)
                    self._touched.keep(fd)
            return
        if there is None or (there != version and kind_of(check_upload(version), self._staging)):
            self._from_aside(target, version)
            return
        self._need_version(source, there, version)
        if target.startswith(source + "/") or source.startswith(target + "/"):
            with self._root.parent(source) as (fd, name):
                self._put_aside(name, fd, source)
            self._from_aside(target, version)
            return
        with self._root.parent(source) as (fd, name), self._place(target) as (to, base):
            self._clear_way(base, to, target, "")
            failpoints.hit("storage.move.before_rename")
            os.rename(name, base, src_dir_fd=fd, dst_dir_fd=to)
            failpoints.hit("storage.move.after_rename")
            self._touched.keep(fd)
            self._touched.keep(to)

    def _from_aside(self, target: DfsPath, version: str) -> None:
        """A file that was put aside when another took its place; nothing where it is not held here at all."""
        aside = check_upload(version)
        if not kind_of(aside, self._staging):
            return
        with self._place(target) as (to, base):
            self._clear_way(base, to, target, "")
            os.rename(aside, base, src_dir_fd=self._staging, dst_dir_fd=to)
            self._touched.keep(to)

    def _remove(self, text: str, version: str) -> None:
        path = parse(text)
        there = self._version_at(path)
        if there != version and kind_of(check_upload(version), self._staging):
            self._discard(version)
            return
        if there is None:
            return
        self._need_version(path, there, version)
        with self._root.parent(path) as (fd, name):
            size = os.stat(name, dir_fd=fd).st_size
            failpoints.hit("storage.remove.before_unlink")
            os.unlink(name, dir_fd=fd)
            failpoints.hit("storage.remove.after_unlink")
            self._touched.keep(fd)
        self._freed(size)

    def _quarantine_file(self, text: str, version: str) -> None:
        """Also where the bytes were edited since the note on them was written: those are meant."""
        path = parse(text)
        there = self._version_at(path)
        if version and there != version and kind_of(check_upload(version), self._staging):
            self._quarantine_staged(version)  # it had to make way
            return
        if there is None:
            return
        if self._version_at(path, believed=False) != version:
            self._need_version(path, there, version)
        with self._root.parent(path) as (fd, name):
            self._quarantine_at(name, fd, path, BAD if version in self.bad else UNKNOWN)
            self._touched.keep(fd)
        self.bad.discard(version)

    def _quarantine_at(self, name: str, fd: int, path: DfsPath, why: str) -> None:
        size = os.stat(name, dir_fd=fd, follow_symlinks=False).st_size
        self._quarantine.take(name, fd, path, why)
        self._freed(size)

    def _discard(self, upload: str) -> None:
        staged = check_upload(upload)
        self.given_up.add([staged])
        for name in (staged, staged + PART):
            with contextlib.suppress(FileNotFoundError):
                size = os.stat(name, dir_fd=self._staging).st_size
                os.unlink(name, dir_fd=self._staging)
                if name == staged:
                    self._freed(size)

    def _quarantine_staged(self, upload: str, why: str = UNWANTED) -> None:
        staged = check_upload(upload)
        if kind_of(staged, self._staging):
            self._quarantine_at(staged, self._staging, DfsPath(f"/staged-{staged}"), why)

    # --- versions --------------------------------------------------------------------------

    def _version_at(self, path: DfsPath, believed: bool = True) -> str | None:
        """The version of the file at `path`; '' where no (believed) note says so, None where there is no file."""
        try:
            opened = self._root.open_file(path)
        except GogglesError:
            return None
        try:
            note = notes.read(opened) if believed else notes.as_written(opened)
            return note.version if note is not None else ""
        finally:
            os.close(opened)

    def _need_version(self, path: DfsPath, there: str, version: str) -> None:
        # Without extended attributes no version is known, and the order is believed.
        if there != version and (there or notes.kept_at(self._root.fd)):
            raise Stale(f"another version than {version} stands at {path}")
