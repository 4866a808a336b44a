"""A file that is on its way to a storage when that is drained does not stay there."""

from __future__ import annotations

import os
import threading
from pathlib import Path

from goggles.roles import Role
from goggles.testing.cluster import Cluster, wait_until


def test_what_is_being_written_to_a_storage_that_is_drained_goes_on_to_another(tmp_path: Path) -> None:
    local = tmp_path / "large"
    local.write_bytes(os.urandom(150 << 20))
    with Cluster(tmp_path / "site", ["alice", "bob"], nameserver_flags=["--copies", "1"]) as cluster:
        fs = cluster.connect()
        writer = threading.Thread(target=fs.put, args=(local, "/large"))
        writer.start()

        def targets() -> list[str]:
            return [name for name in cluster.names if list((cluster.root(name) / ".goggles/staging").iterdir())]

        wait_until("some of it", lambda: bool(targets()), 20)
        (store,) = targets()
        admin = cluster.dial("admin", Role.ADMIN)
        admin.call("drain", store)
        admin.close()
        writer.join()
        (other,) = set(cluster.names) - {store}
        with cluster.connect() as looking:
            wait_until("it goes on", lambda: looking.stat("/large").storages == (other,), 30)
