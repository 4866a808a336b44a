"""A file goes from one site to the other, byte by byte the same, and both know it."""

from __future__ import annotations

import os

import pytest

from goggles.errors import Shared
from goggles.testing.cluster import wait_until
from goggles.testing.network import Network


def test_files_arrive_as_they_were(network: Network) -> None:
    source, central = network["source"].connect(), network["central"].connect()
    data = {f"/run/{number}/raw.dat": os.urandom(50_000 + number) for number in range(5)}
    data["/run/large"] = os.urandom(5 << 20)
    data["/run/empty"] = b""
    for path, content in data.items():
        source.mkdir(path.rpartition("/")[0], parents=True, exist_ok=True)
        source.write(path, content)
    assert network.admin("source", "run_task", "send_clone") == len(data)
    network.wait_arrived("central", list(data))
    for path, content in data.items():
        assert b"".join(central.read(path)) == content
        assert central.stat(path).uploader == source.stat(path).uploader
        wait_until(f"{path} is shared", lambda path=path: is_shared(network, path), 20)
    network["central"].wait_settled()


def is_shared(network: Network, path: str) -> bool:
    with network["source"].connect() as session:
        try:
            session.mv(path, path + ".moved")
        except Shared:
            return True
        session.mv(path + ".moved", path)
        return False


def test_what_is_shared_is_fixed_but_can_be_removed(network: Network) -> None:
    source = network["source"].connect()
    source.write("/fixed", b"1")
    network.admin("source", "run_task", "send_clone")
    with pytest.raises(Shared):
        source.write("/fixed", b"2")
    network.wait_arrived("central", ["/fixed"])
    source.rm("/fixed")
    assert network["central"].connect().exists("/fixed")
