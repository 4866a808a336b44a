"""The core of files and storages once more, with PostgreSQL as the database."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from goggles.errors import AlreadyExists, NotEmpty, NotFound
from goggles.testing.cluster import Cluster, wait_until
from goggles.testing.postgres import Postgres

pytestmark = pytest.mark.postgresql
Factory = Callable[..., Cluster]
MIB = 1 << 20


def names(root: Path) -> list[str]:
    found = (path for path in root.rglob("*") if ".goggles" not in path.parts)
    return sorted(str(path.relative_to(root)) for path in found)


def test_files_and_directories_on_postgresql(cluster: Factory, postgres: Postgres, tmp_path: Path) -> None:
    site = cluster("alice", "bob", database=postgres.new_database())
    fs = site.connect()
    source = tmp_path / "source"
    for number in range(60):
        (source / f"d{number % 5}").mkdir(parents=True, exist_ok=True)
        (source / f"d{number % 5}" / f"file {number} ü🦆").write_bytes(os.urandom(number * 500))
    (source / "big").write_bytes(os.urandom(5 * MIB))
    assert fs.put_tree(source, "/tree").files == 61
    fs.get_tree("/tree", tmp_path / "back")
    assert {p.name: p.read_bytes() for p in (tmp_path / "back").rglob("*") if p.is_file()} == {
        p.name: p.read_bytes() for p in source.rglob("*") if p.is_file()
    }
    for name in ("B", "a", "é", "_", "Z", "-"):
        fs.write(f"/{name}", name.encode())
    assert fs.listdir("/") == sorted(["B", "a", "é", "_", "Z", "-", "tree"], key=str.encode)
    fs.write("/a", b"overwritten")
    fs.mv("/a", "/B")
    fs.mv("/tree", "/moved")
    fs.setrep("/moved/big", 1)
    with pytest.raises(AlreadyExists):
        fs.mkdir("/moved")
    with pytest.raises(NotEmpty):
        fs.rmdir("/moved")
    with pytest.raises(NotFound):
        fs.rm("/a")
    assert b"".join(fs.read("/B")) == b"overwritten"
    fs.rmdir("/moved", recursive=True)
    site.wait_settled(20)
    assert names(site.root("alice")) == names(site.root("bob")) == sorted(["-", "B", "Z", "_", "é"])


def test_storages_and_nameserver_die_and_come_back_on_postgresql(cluster: Factory, postgres: Postgres) -> None:
    site = cluster(database=postgres.new_database())
    fs = site.connect()
    files = {f"/file{number}": os.urandom(number * 3000) for number in range(20)}
    for path, data in files.items():
        fs.write(path, data)
    site.storages.pop("alice").kill()
    assert site.nameserver is not None
    site.nameserver.kill()
    site.start_nameserver()
    site.wait_active(["bob", "carol"], 20)
    assert all(b"".join(fs.read(path)) == data for path, data in files.items())
    site.wait_whole(20)
    site.start_storage("alice")
    site.wait_active(site.names, 20)
    wait_until("surplus trimmed", lambda: sum(info.files for info in fs.du()[1]) == 2 * len(files), 20)
    assert fs.du()[0].epoch == 2


def test_a_second_nameserver_waits_for_the_lease_on_postgresql(cluster: Factory, postgres: Postgres) -> None:
    site = cluster("alice", database=postgres.new_database())
    first = site.nameserver
    assert first is not None
    refused = site.start_nameserver()
    assert refused.wait(20) in (1, 2)
    log = (site.folder / "nameserver.log").read_text()
    assert "another nameserver" in log
    assert "Traceback" not in log
    standby = site.start_nameserver(["--standby"])
    first.kill()
    site.wait_active(site.names, 30)
    assert standby.running


def test_storages_are_balanced_and_forgotten_on_postgresql(cluster: Factory, postgres: Postgres) -> None:
    site = cluster("alice", "bob", database=postgres.new_database(), capacity=32 * MIB)
    fs = site.connect()
    files = {f"/file{number}": os.urandom(MIB) for number in range(9)}
    for path, data in files.items():
        fs.write(path, data)
    site.names.append("carol")
    site.start_storage("carol")
    site.wait_active(site.names)
    fs.balance()
    wait_until("balanced", lambda: not fs.balance_state().running, 60)
    site.wait_settled(20)
    assert fs.balance_state().moved >= 3
    site.storages.pop("carol").kill()
    site.names.remove("carol")
    wait_until("carol does not count any more", lambda: site.states().get("carol") == "down")
    site.wait_whole(20)
    fs.forget("carol")
    assert [info.name for info in fs.du()[1]] == ["alice", "bob"]
    assert all(b"".join(fs.read(path)) == data for path, data in files.items())
