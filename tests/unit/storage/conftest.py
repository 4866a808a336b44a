"""A vault in a fresh folder, and the few steps that most tests begin with."""

from __future__ import annotations

import hashlib
import os
import secrets
import threading
from pathlib import Path

import pytest

from goggles import failpoints
from goggles.clock import ManualClock
from goggles.contracts import orders
from goggles.storage.vault import Vault

OK = ("ok",)


class Box:
    """A vault and its folder.  `reopen` is a restart."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.clock = ManualClock()
        self.capacity = 1 << 20
        self.vault = Vault.open(root, self.capacity, self.clock)

    def reopen(self) -> Vault:
        self.vault.close()
        self.vault = Vault.open(self.root, self.capacity, self.clock)
        return self.vault

    @staticmethod
    def sha(data: bytes) -> str:
        return hashlib.sha256(data).hexdigest()

    def stage(self, data: bytes, upload: str = "", version: str = "") -> str:
        upload = upload or secrets.token_hex(16)
        staged = self.vault.stage(upload, len(data))
        staged.write(data)
        staged.finish(self.sha(data), version or upload)
        return upload

    def put(self, path: str, data: bytes, generation: int = 1) -> str:
        """Stage and publish; the version."""
        version = self.stage(data)
        assert self.do(orders.publish(version, path, version, generation)) == OK
        return version

    def do(self, order: orders.Order) -> tuple[object, ...]:
        (result,) = self.vault.apply([order])
        return result

    def read(self, path: str, version: str = "") -> bytes:
        with self.vault.read(path, version) as file:
            return file.read()

    def walk(self, kind: str = ""):
        return [held for batch in self.vault.walk() for held in batch if kind in ("", held.kind)]

    def disk(self) -> dict[str, bytes | None]:
        """Every published path (None: a directory), by looking at the disk itself."""
        found: dict[str, bytes | None] = {}
        for folder, names, files in os.walk(self.root):
            if folder == str(self.root):
                names.remove(".goggles")
            above = Path("/") / Path(folder).relative_to(self.root)
            found |= {str(above / name): None for name in names}
            found |= {str(above / name): Path(folder, name).read_bytes() for name in files}
        return found

    @staticmethod
    def settled() -> None:
        """Wait for what is deleted in the background."""
        for thread in threading.enumerate():
            if thread.name == "trash":
                thread.join(5)
                assert not thread.is_alive()

    def quarantine(self) -> set[bytes]:
        """The contents of the files in quarantine."""
        return {path.read_bytes() for path in (self.root / ".goggles/quarantine").glob("*/**/*") if path.is_file()}


@pytest.fixture
def box(tmp_path):
    made = Box(tmp_path / "root")
    yield made
    failpoints.disarm()
    made.vault.close()


@pytest.fixture(scope="session")
def box_class():
    return Box
