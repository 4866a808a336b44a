"""Ways out of a storage's folder and into another's place: names, links that were planted, look-alikes, limits."""

from __future__ import annotations

import os
import shutil
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.attacks.conftest import QUICK, calls
from tests.attacks.hostile import Refused

from goggles.client.session import Session
from goggles.errors import GogglesError, NotADirectory
from goggles.paths import DfsPath
from goggles.storage.containment import Root, open_regular
from goggles.testing.cluster import Cluster

LONG = "x" * 255
NAMES = {
    "dotdot": "/../etc",
    "dotdot below": "/full/../../etc",
    "dotdot at the end": "/full/..",
    "dot": "/full/.",
    "relative": "etc/passwd",
    "empty": "",
    "nul": "/a\0b",
    "newline": "/a\nb",
    "return": "/a\rb",
    "escape": "/a\x1bb",
    "C1": "/a\x9bb",
    "own folder": "/.goggles/site.json",
    "own folder by slashes": "//.goggles//staging/x",
    "name too long": f"/{LONG}x",
    "name too long in bytes": "/" + "é" * 128,
    "path too long": "/" + "/".join([LONG] * 17),
    "backslash and dots are names, but this is not": "/full/..\\../..",
}
METHODS: dict[str, Callable[[str], tuple[object, ...]]] = {
    "mkdir": lambda path: (path, True),
    "open_write": lambda path: (path, 1),
    "open_read": lambda path: (path,),
    "stat": lambda path: (path,),
    "ls": lambda path: (path,),
    "scan": lambda path: (path, "", 10),
    "rm": lambda path: (path,),
    "rmdir": lambda path: (path, True),
    "mv": lambda path: ("/kept", path),
    "setrep": lambda path: (path, 1),
    "verify": lambda path: (path,),
    "set_deletion": lambda path: (path, True),
    "availableStorages": lambda path: (path, 1),
}


@pytest.mark.parametrize("name", NAMES)
def test_paths_that_break_the_rules_are_refused_by_every_method(site: Cluster, fs: Session, name: str) -> None:
    with calls(site) as line:
        for method, args in METHODS.items():
            with pytest.raises(Refused) as error:
                line.value(method, *args(NAMES[name]))
            assert error.value.code == "bad_path", method
            assert error.value.message.isprintable()
        for method in ("mkdir_many", "stat_many", "open_read_many"):
            assert line.value(method, (NAMES[name],))[0][0] == "bad_path"
        assert line.value("open_write_many", ((NAMES[name], 1),))[0][0] == "bad_path"


def test_look_alikes_and_other_case_are_other_files(site: Cluster) -> None:
    names = [
        "ﾅ",
        "ナ",
        "é",
        "e\u0301",
        "K",
        "\u212a",
        "a",
        "A",
        "а",
        "a\u200b",
        "․․",
        "．．",
        "%2e%2e",
        "..%2f",
        "\\..\\",
    ]
    with site.connect() as fs:
        fs.mkdir("/alike")
        for number, name in enumerate(names):
            fs.write(f"/alike/{name}", str(number).encode())
        fs.write("/.GOGGLES", b"a name like others")
        for number, name in enumerate(names):
            assert b"".join(fs.read(f"/alike/{name}")) == str(number).encode()
        assert sorted(fs.listdir("/alike")) == sorted(names)
        fs.rmdir("/alike", recursive=True)
        fs.rm("/.GOGGLES")


def test_the_longest_names_and_paths_work(site: Cluster) -> None:
    deep = "/" + "/".join(["d" * 254] * 15)
    with site.connect() as fs:
        fs.mkdir(deep, parents=True)
        fs.write(f"{deep}/{LONG}", b"far down")
        assert b"".join(fs.read(f"{deep}/{LONG}")) == b"far down"
        with pytest.raises(GogglesError):
            fs.mkdir(f"{deep}/{LONG}x")
        fs.rmdir("/" + "d" * 254, recursive=True)


# --- links that somebody planted -------------------------------------------------------------


def test_links_inside_the_folder_lead_nowhere(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "secret").write_bytes(b"secret")
    with (
        Cluster(tmp_path / "site", ("alice",), nameserver_flags=(*QUICK, "--copies", "1")) as site,
        site.connect() as fs,
    ):
        root = site.root("alice")
        fs.mkdir("/d")
        fs.write("/d/x", b"mine")
        fs.write("/f", b"mine")
        site.wait_settled()
        shutil.rmtree(root / "d")
        (root / "d").symlink_to(outside)
        (root / "f").unlink()
        (root / "f").symlink_to(outside / "secret")
        for path in ("/d/x", "/f"):
            with pytest.raises(GogglesError):
                b"".join(fs.read(path))
        with calls(site, "admin2", at="alice") as line, pytest.raises(Refused):
            line.value("open", "/f")
        fs.write("/d/y", b"new")
        fs.write("/f", b"new")
        fs.rm("/d/y")
        fs.rmdir("/d", recursive=True)
        fs.rm("/f")
    assert [path.name for path in outside.iterdir()] == ["secret"]
    assert (outside / "secret").read_bytes() == b"secret"


def test_a_link_that_comes_between_check_and_use_is_not_followed(tmp_path: Path) -> None:
    """Directory and link change places as fast as they can, while files are opened through them."""
    outside, folder = tmp_path / "outside", tmp_path / "root"
    for place, text in ((outside, b"secret"), (folder / "d", b"mine")):
        place.mkdir(parents=True)
        (place / "x").write_bytes(text)
    (folder / "link").symlink_to(outside)
    over = threading.Event()

    def swap() -> None:
        while not over.is_set():
            for old, new in (("d", "kept"), ("link", "d"), ("d", "link"), ("kept", "d")):
                os.rename(folder / old, folder / new)

    swapper = threading.Thread(target=swap)
    swapper.start()
    root, found = Root(folder), set[bytes]()
    try:
        for _ in range(3_000):
            try:
                fd = root.open_file(DfsPath("/d/x"))
            except GogglesError:
                continue
            found.add(os.read(fd, 10))
            os.close(fd)
    finally:
        over.set()
        swapper.join()
        root.close()
    assert found <= {b"mine"}


def test_only_regular_files_are_opened(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "d").mkdir()
    (tmp_path / "link").symlink_to("/etc/passwd")
    fd = os.open(tmp_path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        for name in ("fifo", "d", "link", "none"):
            with pytest.raises((GogglesError, OSError)):
                open_regular(name, fd)
    finally:
        os.close(fd)
    root = Root(tmp_path)
    with pytest.raises(NotADirectory), root.directory(DfsPath("/link")):
        pass
    root.close()
