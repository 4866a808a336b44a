"""Two librarians connected in one step, and what is left when that fails halfway."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from goggles import AdminClient
from goggles.client.librarian.connections import ClientInfo
from goggles.client.librarian.linking import End, Link, connect
from goggles.errors import GogglesError
from goggles.roles import Role
from goggles.testing.cluster import SOURCE, free_port
from goggles.testing.network import Network

SECRET = "a password: of an operator"


@pytest.fixture
def network(tmp_path: Path) -> Iterator[Network]:
    with Network(tmp_path, {"source": ("alice",), "central": ("carol",)}) as made:
        for site in ("source", "central"):
            made.admin(site, "create_user", "root", SECRET, "ADMIN")
        yield made


def client(network: Network, site: str) -> AdminClient:
    cluster = network[site]
    certificate, key = cluster.certificates.files("admin", Role.ADMIN)
    return AdminClient.from_info(
        ClientInfo("localhost", cluster.port, "root", SECRET, cluster.certificates.ca, certificate, key)
    )


def known(network: Network, site: str) -> tuple[list[str], list[str]]:
    """The accounts and the librarians of a site."""
    accounts = [name for name, _ in network.admin(site, "accounts")]
    librarians = [dict(row)["name"] for row in network.admin(site, "get_librarian_list", False)]
    return sorted(accounts), sorted(librarians)


def test_a_file_goes_over_a_link_that_was_made_in_one_step(network: Network) -> None:
    with client(network, "source") as source, client(network, "central") as central:
        link = connect(
            End(source, "localhost", network["source"].port), End(central, "localhost", network["central"].port)
        )
    assert link == Link("source", "central")
    with network["source"].connect() as session:
        session.write("/one", b"one")
    for site, task in (
        ("source", "send_clone"),
        ("source", "consume_queue"),
        ("source", "check_consumed_queue"),
        ("central", "receive_clone"),
    ):
        network.run(site, task)
    network.wait_arrived("central", ["/one"])
    assert dict(network.admin("source", "accounts"))["central"] == "CALLBACK"


def test_what_was_done_is_undone_where_the_other_does_not_find_the_way_back(network: Network) -> None:
    before = [known(network, site) for site in ("source", "central")]
    with client(network, "source") as source, client(network, "central") as central:
        ends = End(source, "localhost", free_port()), End(central, "localhost", network["central"].port)
        with pytest.raises(GogglesError, match="nobody answers"):
            connect(*ends)
    assert [known(network, site) for site in ("source", "central")] == before


def test_a_link_that_is_there_is_left_as_it_is(network: Network) -> None:
    network.link("source", "central")
    before = [known(network, site) for site in ("source", "central")]
    with client(network, "source") as source, client(network, "central") as central:
        ends = End(source, "localhost", network["source"].port), End(central, "localhost", network["central"].port)
        with pytest.raises(GogglesError, match="there is an account"):
            connect(*ends)
    assert [known(network, site) for site in ("source", "central")] == before
    with client(network, "source") as source:
        assert [row.available for row in source.get_librarian_list(ping=True)] == [True]


def test_the_command_connects_both_ways(network: Network, tmp_path: Path) -> None:
    parts = []
    for name in ("source", "central"):
        site = network[name]
        certificate, key = site.certificates.files("admin", Role.ADMIN)
        files = f'"ca_cert": "{site.certificates.ca}", "certfile": "{certificate}", "keyfile": "{key}"'
        parts.append(f'"{name}": {{"url": "localhost:{site.port}", "authenticator": "root:{SECRET}", {files}}}')
    environment = {**os.environ, "PYTHONPATH": SOURCE, "HOME": str(tmp_path)}
    environment["LIBRARIAN_CLIENT_CONNECTIONS"] = f"{{{', '.join(parts)}}}"
    command = [sys.executable, "-m", "goggles.cli.librarian", "connect-librarians", "source", "central", "--both-ways"]
    ran = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False)
    assert (ran.returncode, ran.stderr) == (0, "")
    assert ran.stdout.startswith("connected: source and central")
    assert dict(network.admin("source", "accounts"))["central"] == "READAPPEND"
