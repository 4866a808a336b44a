"""Two sites on this machine, each with a CA, a nameserver and storages of its own, that know each other."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from goggles.testing.network import Network


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Network]:
    with Network(
        tmp_path_factory.mktemp("network"), {"source": ("alice", "bob"), "central": ("carol", "dave")}
    ) as made:
        made.link("source", "central")
        yield made
