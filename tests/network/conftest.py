"""Two sites on this machine, each with a CA, a nameserver and storages of its own, that know each other."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from tests.network.globus.sites import Place, two_sites

from goggles.testing.network import Network


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Network]:
    with Network(
        tmp_path_factory.mktemp("network"), {"source": ("alice", "bob"), "central": ("carol", "dave")}
    ) as made:
        made.link("source", "central")
        yield made


@pytest.fixture(scope="module")
def _place(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    with two_sites(tmp_path_factory.mktemp("globus"), native=request.module.NATIVE) as made:
        yield made


@pytest.fixture
def place(_place: Place) -> Iterator[Place]:
    """Two sites with Globus between them, for the modules that say which kind of application logs in (NATIVE)."""
    _place.begin()
    yield _place
    _place.reset()
