"""What goes wrong with disks: full, a byte that is another one, an older copy of the folder put back.

Law: bytes are only ever damaged on one storage, and only of files of which the tree knows another copy, so that never
the last good one goes.  Files keep at least two copies in a campaign with such faults (`Fault.damages`).

Allowed: under a full disk, a put fails with NoSpace or goes elsewhere.  A changed byte reaches no reader of a whole
file; a range may show it, because ranges are not verified.  When the copy is verified it is replaced from a good one.
A storage whose folder is older than the tree may go into safe mode, and comes back when it is accepted.  No
acknowledged file is lost by any of it.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import shutil
import sqlite3
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

from tests.chaos.fault import Fault
from tests.chaos.model import DIRECTORY, listing
from tests.chaos.site import CLIENTS, STORAGES, Site

from goggles.client.session import Session
from goggles.testing.cluster import wait_until

DAMAGED = "dave"
ROOM = "1g"
LEFT = 1 << 18  # bytes left on a full disk
COPIES = """select e.version, e.sha256, count(*), max(s.name = ?) from entries e join instances i on i.entry_id = e.id
    join storages s on s.id = i.storage_id where e.kind = 'f' group by e.id"""


class Full(Fault):
    """The disk of a storage is full for a while: a file system of its own, made small."""

    weight = 2

    def __init__(self, site: Site, chance: random.Random) -> None:
        super().__init__(site, chance)
        self._name = chance.choice([name for name in STORAGES if name != DAMAGED])
        self._root = site.cluster.root(self._name)
        self._mounted = False

    @staticmethod
    def why_not() -> str:
        return "" if os.geteuid() == 0 and shutil.which("mount") else "only root can mount small file systems"

    def prepare(self) -> None:
        self._root.mkdir(parents=True)
        subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={ROOM}", "none", str(self._root)], check=True)
        self._mounted = True

    def strike(self) -> None:
        seconds = self.chance.choice((1, 3, 8))
        self.site.note(f"the disk of {self._name} is full for {seconds} s")
        state = os.statvfs(self._root)
        self._resize(str((state.f_blocks - state.f_bfree) * state.f_frsize + LEFT))
        self.site.later(seconds, self.end)

    def _resize(self, size: str) -> None:
        remount = ["mount", "-o", f"remount,size={size}", str(self._root)]
        subprocess.run(remount, check=False, capture_output=True)  # fails where it has filled up meanwhile

    def end(self) -> None:
        self._resize(ROOM)

    def close(self) -> None:
        if self._mounted:
            subprocess.run(["umount", "-l", str(self._root)], check=False)


def known_copies(database: str, name: str) -> dict[str, str]:
    """Digests by version of files of which a storage has one copy, and others have another."""
    with contextlib.closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True)) as opened:
        rows = opened.execute(COPIES, (name,)).fetchall()
    return {version: digest for version, digest, copies, here in rows if here and copies > 1}


class _Damage(Fault):
    """Damage to one and the same storage, whatever its kind."""

    damages = True
    weight = 3

    def __init__(self, site: Site, chance: random.Random) -> None:
        super().__init__(site, chance)
        self.name = DAMAGED
        self.root = site.cluster.root(self.name)
        self.hurt: set[str] = set()


class Flip(_Damage):
    """A byte of a published or staged file becomes another one; at times the file looks as if nobody had touched it."""

    patience = 1.0

    def strike(self) -> None:
        with contextlib.suppress(sqlite3.Error):
            found = self._staged() if self.chance.random() < 0.4 else None
            known = set(known_copies(self.site.cluster.database, self.name).values())
            files = [found] if found else [path for path in self._published() if noted(path) in known]
            if files:
                self._flip(self.chance.choice(files))

    def _flip(self, path: Path) -> None:
        digest, quiet = noted(path), self.chance.random() < 0.5
        self.hurt.add(digest)
        if flip(path, self.chance.random(), quiet=quiet):
            self.site.note(f"a byte of {path} ({digest[:12]}) is another one{', silently' if quiet else ''}")

    def _published(self) -> Iterator[Path]:
        for folder, names, files in os.walk(self.root):
            names[:] = [name for name in names if name != ".goggles"]
            yield from (Path(folder) / name for name in files)

    def _staged(self) -> Path | None:
        """A file that is committed, and waits to be published; they do not wait for long."""
        deadline = time.monotonic() + self.patience
        while time.monotonic() < deadline:
            waiting = list((self.root / ".goggles" / "staging").glob("?" * 32))
            known = known_copies(self.site.cluster.database, self.name) if waiting else {}
            for path in waiting:
                if path.name in known and path.exists():
                    return path
            time.sleep(0.002)
        return None

    def settle(self, fs: Session) -> None:
        """Have every damaged file read again."""
        found = {digest: path for path, digest in listing(fs, "/").items() if digest != DIRECTORY}
        for digest in self.hurt & found.keys():
            self.site.note(f"verify /{found[digest]}: {fs.verify('/' + found[digest])}")

    def excused(self, digest: str) -> bool:
        return digest in self.hurt


def noted(path: Path) -> str:
    """As the note says, whatever the bytes are now; empty where the file has gone."""
    try:
        return str(json.loads(os.getxattr(path, "user.goggles"))["sha256"])
    except OSError:
        return ""


def flip(path: Path, where: float, *, quiet: bool) -> bool:
    """Change one byte; False where there is none (any more)."""
    with contextlib.suppress(OSError, IndexError), open(path, "r+b", buffering=0) as file:
        before = os.fstat(file.fileno())
        place = int(before.st_size * where)
        byte = os.pread(file.fileno(), 1, place)
        os.pwrite(file.fileno(), bytes([byte[0] ^ 0x10]), place)
        if quiet:
            os.utime(file.fileno(), ns=(before.st_atime_ns, before.st_mtime_ns))
        return True
    return False


class Older(_Damage):
    """The folder of a storage is replaced by an older copy of it: first it is copied, some time later put back.

    Clients pause until no copies are owed, so that what only this storage has is not taken away."""

    patience = 15.0

    def __init__(self, site: Site, chance: random.Random) -> None:
        super().__init__(site, chance)
        self._copy = site.folder / "older"

    def strike(self) -> None:
        if self.site.cluster.states().get(self.name) == "held":
            self.site.ask("accept what is held", self.settle)
        elif self.name in self.site.returning:
            return
        elif not self._copy.exists():
            self.site.note(f"the folder of {self.name} is copied")
            self.site.processes()[self.name].kill()
            _copy(self.root, self._copy)
            self.site.start(self.name)
        else:
            with self.site.paused(CLIENTS):
                if self._nothing_owed():
                    self._put_back()

    def _nothing_owed(self) -> bool:
        def whole() -> bool:
            self.site.tick()
            return self.site.whole()

        try:
            wait_until("nothing owed", whole, self.patience)
        except Exception as error:  # noqa: BLE001 - then another time
            self.site.note(f"the folder of {self.name} is not put back: {error}")
            return False
        return True

    def _put_back(self) -> None:
        self.site.note(f"the folder of {self.name} is as it was some time ago")
        self.site.processes()[self.name].kill()
        for child in self.root.iterdir():
            shutil.rmtree(child) if child.is_dir() else child.unlink()
        _copy(self._copy, self.root)
        shutil.rmtree(self._copy)
        self.site.start(self.name)

    def settle(self, fs: Session) -> None:
        """It missed things, and the tree is right."""
        for info in fs.du()[1]:
            if info.state == "held":
                self.site.note(f"accept {info.name}, which is held")
                fs.accept(info.name)


def _copy(source: Path, target: Path) -> None:
    """With times and extended attributes."""
    shutil.copytree(source, target, symlinks=True, dirs_exist_ok=True)
