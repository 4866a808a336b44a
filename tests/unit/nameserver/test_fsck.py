"""What the comparison of database and disks reads of a storage's folder."""

import hashlib
import os

from goggles.nameserver.fsck import scan


def test_what_storages_leave_alone_is_no_disagreement_and_holds_nobody_up(tmp_path):
    folder = tmp_path / "alice"
    (folder / "d").mkdir(parents=True)
    (folder / "d/file").write_bytes(b"x")
    (folder / "d/dangling").symlink_to("nowhere")
    (folder / "d/link").symlink_to("file")
    (folder / "outside").symlink_to(tmp_path)
    os.mkfifo(folder / "d/fifo")
    found = scan(folder)
    assert found.files == {"/d/file": (1, hashlib.sha256(b"x").hexdigest())}
    assert found.directories == {"/d"}
