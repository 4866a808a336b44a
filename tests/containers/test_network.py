"""docker-compose.librarians.yml: files that are put at the source arrive everywhere, whatever breaks on the way."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from composition import HOME, Composition

pytestmark = [pytest.mark.containers, pytest.mark.timeout(600)]
SITES = ("source", "central", "destination-a", "destination-b")
POSTGRES = Path(__file__).with_name("postgres")


@pytest.fixture(scope="module")
def network(compose: Callable[[str], Composition]) -> Iterator[Composition]:
    made = compose("docker-compose.librarians.yml")
    base = made.environment.get("BASE_IMAGE")
    if base is None:
        made.environment["POSTGRES_IMAGE"] = "postgres:17"
    else:
        arguments = ["--network=none", f"--build-arg=BASE_IMAGE={base}", "-t", made.environment["POSTGRES_IMAGE"]]
        made.docker("build", *arguments, str(POSTGRES))
    made("build", "prepare", timeout=600)
    made("up", "-d", timeout=600)
    yield made
    made("down", "-v", "-t", "5")


def at(network: Composition, site: str, *commands: str, check: bool = True) -> subprocess.CompletedProcess[str]:
    """Commands of the shell at a site."""
    files = ["--ca_cert", "rootCA.crt", "--certfile", "admin/admin.crt", "--keyfile", "admin/admin.key"]
    flags = [word.replace("admin/", f"certs/{site}/admin/").replace("rootCA", f"certs/{site}/rootCA") for word in files]
    words = [word for one in commands for word in ("-c", one)]
    host = ["--ns_hostname", site, "--ns_port", "8000", "--timeout", "60"]
    return network.shell("admin", "vg", *host, *flags, *words, check=check)


def there(network: Composition, site: str, path: str) -> bool:
    return at(network, site, f"cat {path}", check=False).returncode == 0


def put(network: Composition, path: str, text: str) -> None:
    network.shell("admin", "sh", "-c", f"printf '%s' '{text}' >file && {_vg('source')} 'put file {path}'")


def _vg(site: str) -> str:
    folder = f"certs/{site}"
    files = f"--ca_cert {folder}/rootCA.crt --certfile {folder}/admin/admin.crt --keyfile {folder}/admin/admin.key"
    return f"vg --ns_hostname {site} {files} -c"


def test_the_demo_shows_a_folder_arrive_everywhere(network: Composition):
    shown = network("run", "--rm", "-T", "admin", "python", "/demo/show.py").stdout
    for site in SITES:
        assert f"{site:<14} has all 11, two copies of each" in shown


def test_the_program_librarian_knows_the_sites(network: Composition):
    shown = network(
        "run", "--rm", "-T", "admin", "librarian", "get-librarian-list", "central", "--ping", "--json"
    ).stdout
    assert {row["name"]: row["available"] for row in json.loads(shown)} == dict.fromkeys(
        ("source", "destination-a", "destination-b"), True
    )
    shown = network.shell("admin", "librarian", "get-librarian-list", "source", "--json").stdout
    assert [row["name"] for row in json.loads(shown)] == ["central"], "the source pushes to the centre alone"


def test_the_source_can_not_even_reach_a_destination(network: Composition):
    look = "import socket; socket.create_connection(('{}', 8000), 3)"
    assert network.inside("source", "python", "-c", look.format("central")).returncode == 0
    assert network.inside("source", "python", "-c", look.format("destination-a"), check=False).returncode != 0


@pytest.mark.parametrize("service", ["central", "central-1", "database"])
def test_a_container_is_nobody_special(network: Composition, service: str):
    status = network.inside(service, "cat", "/proc/1/status").stdout
    fields = dict(line.split(":\t", 1) for line in status.splitlines() if ":\t" in line)
    assert "0" not in fields["Uid"].split()
    assert int(fields["CapEff"], 16) == 0
    assert network.inspect(service)["HostConfig"]["ReadonlyRootfs"] is True


def test_each_host_has_its_own_keys_and_no_other(network: Composition):
    for service, own in {"source": {"nameserver", "librarian"}, "source-1": {"source-1"}}.items():
        keys = network.inside(service, "find", "/certs", "-name", "*.key").stdout.split()
        assert {Path(key).stem for key in keys} == own
        trusted = network.inside(service, "cat", "/certs/peers.crt").stdout
        assert trusted == network.inside("central", "cat", "/certs/rootCA.crt").stdout, (
            "the source trusts one other site"
        )


def test_a_cut_between_two_sites_is_waited_out(network: Composition):
    hosts = ("central", "central-1", "central-2")
    for host in hosts:
        network.network("disconnect", "source-to-central", host)
    try:
        put(network, "/runs/cut.txt", "while it was cut")
        assert not there(network, "central", "/runs/cut.txt")
    finally:
        for host in hosts:
            network.network("connect", "source-to-central", host)
    for site in ("central", "destination-a", "destination-b"):
        network.wait_for(f"it is at {site}", lambda site=site: there(network, site, "/runs/cut.txt"), 120)
    assert "while it was cut" in at(network, "destination-b", "cat /runs/cut.txt").stdout


def test_the_central_site_comes_back_with_its_database(network: Composition):
    """PostgreSQL stops: the nameserver ends, and is started again until the database is there."""
    network("kill", "database")
    network.wait_for("the nameserver has noticed", lambda: network.inspect("central")["RestartCount"] > 0)
    put(network, "/runs/database.txt", "the database was away")
    network("up", "-d", "--no-deps", "database")
    for site in ("central", "destination-a"):
        network.wait_for(f"it is at {site}", lambda site=site: there(network, site, "/runs/database.txt"), 120)


def test_setting_up_twice_changes_nothing(network: Composition):
    config = network.shell("admin", "cat", "certs/librarians.json").stdout
    for service in ("prepare", "connect"):
        network("up", "--no-deps", service)
    assert network.shell("admin", "cat", "certs/librarians.json").stdout == config
    put(network, "/runs/again.txt", "set up twice")
    network.wait_for("it arrives", lambda: there(network, "destination-b", "/runs/again.txt"), 120)


def test_make_runs_the_demo_as_the_page_says(network: Composition):
    """`make librarians-demo`, on the network that runs."""
    command = ["make", "librarians-demo", network.for_make]
    done = subprocess.run(command, cwd=HOME, env=network.environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "destination-b  has all 11" in done.stdout
