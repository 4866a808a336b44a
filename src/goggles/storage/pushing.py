"""The sending end of a push: one published file to a storage of another site, by one of several managers.

Law: what the other side says of places and hosts is checked before anything is done with it: a name of a host is only
that, and files of this host are written only below folders that its operator named (`--push_local`).  The bytes are
those of the version that was meant, or the push fails.  A push that was cut goes on where it ended.
"""

from __future__ import annotations

import os
import re
import subprocess
import threading
from collections.abc import Callable
from functools import partial
from io import FileIO
from pathlib import Path

from goggles.clock import Clock
from goggles.contracts.orders import PushOrder
from goggles.errors import BadRequest, NotADirectory, StorageFailure, Unavailable
from goggles.paths import show
from goggles.roles import Role
from goggles.storage.containment import explained
from goggles.storage.pacing import Pace
from goggles.storage.vault import Vault
from goggles.wire.data import CHUNK, Buffer, DataLink, Kind
from goggles.wire.dial import Address, Dialer

HOST = re.compile(r"([A-Za-z0-9_][A-Za-z0-9._-]*@)?[A-Za-z0-9_][A-Za-z0-9._-]*\Z")
SSH = "-o BatchMode=yes -o ConnectTimeout=20 -o ServerAliveInterval=15 -o ServerAliveCountMax=4"


Spend = Callable[[int], None]  # so many bytes are about to go


class Pusher:
    """Carries out push orders.  `shared`: folders that local copies may be written below; `ssh`: for rsync."""

    def __init__(
        self,
        vault: Vault,
        dialer: Dialer,
        shared: tuple[Path, ...],
        ssh: str,
        clock: Clock,
        stopping: threading.Event,
    ) -> None:
        self._vault = vault
        self._dialer = dialer
        self._shared = tuple(path.resolve() for path in shared)
        self._ssh = f"{ssh} {SSH}"
        self._clock = clock
        self._stopping = stopping
        self._managers: dict[str, Callable[[PushOrder, FileIO], None]] = {
            "goggles": self._goggles,
            "local": self._local,
            "rsync": self._rsync,
        }

    def push(self, job: PushOrder) -> None:
        """Send the file; raises what went wrong."""
        manager = self._managers.get(job.manager)
        if manager is None:
            raise BadRequest(f"there is no transfer manager {job.manager[:40]!r} here")
        with self._vault.read(job.path, job.version) as file:
            size = os.fstat(file.fileno()).st_size
            if size != job.size:
                raise StorageFailure(f"{show(job.path)} has {size} bytes here instead of {job.size}", "verify it")
            manager(job, file)

    # --- by our own data plane -------------------------------------------------------------

    def _goggles(self, job: PushOrder, file: FileIO) -> None:
        pace = partial(Pace(self._clock, self._stopping).take, rate=job.rate)
        link = self._dialer.data(Address(job.host, job.port), Role.STORAGE, job.storage, abroad=True)
        try:
            link.send_value(Kind.REQUEST, ("arrived", job.grant))
            have = link.answer_of(int)
            offset = have if 0 <= have <= job.size else 0
            self._stream(link, job, file, offset, pace)
        finally:
            link.close()

    def _stream(self, link: DataLink, job: PushOrder, file: FileIO, offset: int, pace: Spend) -> None:
        link.send_value(Kind.REQUEST, ("append", job.grant, offset))
        file.seek(offset)
        buffer = Buffer()
        while count := file.readinto(buffer.space[:CHUNK]):
            buffer.used = count
            pace(count)
            if link.readable():
                raise link.refusal(*link.receive())
            link.send_data(buffer)
        link.send_value(Kind.END, (job.size,))
        have = link.answer_of(int)
        if have != job.size:
            raise StorageFailure(f"storage {job.storage} has {have} bytes of {job.size} after the push")

    # --- into a file system that both sides see --------------------------------------------

    def _local(self, job: PushOrder, file: FileIO) -> None:
        target = Path(job.place)
        folder = target.parent.resolve()
        if not any(folder.is_relative_to(shared) for shared in self._shared):
            raise BadRequest(f"{show(job.place)} is not below a folder of --push_local", "the next manager is tried")
        if not folder.is_dir():
            raise NotADirectory(f"{show(str(folder))} is not here", "is the file system of the other site mounted?")
        pace = partial(Pace(self._clock, self._stopping).take, rate=job.rate)
        with explained(show(job.place)):
            out = os.open(folder / target.name, os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o666)
            try:
                self._copy(file, out, pace)
            finally:
                os.close(out)

    def _copy(self, file: FileIO, out: int, pace: Spend) -> None:
        """Cut to its size at the end, not at the beginning: what has been compared there already stays as it is while
        the same bytes are written again."""
        size = 0
        while data := file.read(CHUNK):
            pace(len(data))
            size += len(data)
            view = memoryview(data)
            while view:
                view = view[os.write(out, view) :]
        os.ftruncate(out, size)
        os.fsync(out)

    # --- by rsync over ssh -----------------------------------------------------------------

    def _rsync(self, job: PushOrder, file: FileIO) -> None:
        if not HOST.match(job.host):
            raise BadRequest(f"{job.host[:80]!r} is no name of a host for ssh")
        if not job.place.startswith("/") or any(not char.isprintable() for char in job.place):
            raise BadRequest(f"{show(job.place)} is no place for rsync")
        command = ["rsync", "--append-verify", "--protect-args", "--timeout=60", f"--rsh={self._ssh}"]
        command += [f"--bwlimit={max(1, job.rate // 1024)}"] if job.rate else []
        source = f"/proc/self/fd/{file.fileno()}"
        self._run([*command, "--copy-links", source, f"{job.host}:{job.place}"], file.fileno())

    def _run(self, command: list[str], fd: int) -> None:
        try:
            process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, pass_fds=(fd,)
            )
        except FileNotFoundError as error:
            raise Unavailable("there is no rsync on this storage's host", "install it") from error
        with process:
            while True:
                try:
                    _, said = process.communicate(timeout=1.0)
                    break
                except subprocess.TimeoutExpired:
                    if self._stopping.is_set():
                        process.terminate()
        if process.returncode:
            last = show(said.decode("utf-8", "replace").strip().rpartition("\n")[2][:300])
            raise Unavailable(f"rsync ended with {process.returncode}: {last}", "try it by hand from this host")
