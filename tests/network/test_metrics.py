"""What watches a site: figures for Prometheus, and for HERA's monitor and control."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from goggles.roles import Role
from goggles.testing.cluster import SOURCE, Cluster, free_port, wait_until
from goggles.testing.network import Network

Samples = dict[tuple[str, frozenset[tuple[str, str]]], float]


@pytest.fixture(scope="module")
def ports() -> dict[str, int]:
    return {"source": free_port(), "central": free_port()}


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory, ports: dict[str, int]) -> Iterator[Network]:
    flags = ["--heartbeat", "0.3", "--grace", "1"]
    made = Network(tmp_path_factory.mktemp("metrics"), {"source": ("alice", "bob"), "central": ("carol",)}, flags)
    for name, site in made.sites.items():
        site._nameserver_flags += ["--metrics_port", str(ports[name])]
    with made as network:
        network.link("source", "central")
        yield network


def scrape(port: int) -> Samples:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as answer:
        assert answer.headers["Content-Type"].startswith("text/plain")
        text = answer.read().decode()
    families = text_string_to_metric_families(text)
    return {(s.name, frozenset(s.labels.items())): s.value for family in families for s in family.samples}


def value(samples: Samples, name: str, **labels: str) -> float:
    return samples[f"goggles_{name}", frozenset(labels.items())]


def test_what_is_shown_is_what_there_is(network: Network, ports: dict[str, int]) -> None:
    with network["source"].connect() as fs:
        fs.mkdir("/d")
        for number in range(5):
            fs.write(f"/d/{number}", b"x" * 1000)
        while network.run("source", "send_clone"):
            pass
        network.wait_arrived("central", [f"/d/{number}" for number in range(5)])
        network.run("source", "check_consumed_queue")
        wait_until(
            "all transfers are over",
            lambda: value(scrape(ports["source"]), "transfers", direction="outgoing", state="completed") == 5,
        )
        site, storages = fs.du()
    samples = scrape(ports["source"])
    assert value(samples, "up") == 1
    assert (value(samples, "files"), value(samples, "size_bytes")) == (5, 5000)
    assert value(samples, "directories") == site.directories
    assert (value(samples, "owed_files"), value(samples, "uploads")) == (0, 0)
    assert 0 <= value(samples, "last_upload_age_seconds") < 60
    assert value(samples, "uptime_seconds") > 0
    for info in storages:
        for key in ("free", "used", "reserved", "capacity"):
            assert value(samples, f"storage_{key}_bytes", storage=info.name) == getattr(info, key)
        assert value(samples, "storage_state", storage=info.name, state="active") == 1
        assert value(samples, "storage_state", storage=info.name, state="down") == 0
    assert sum(value(samples, "storage_files", storage=info.name) for info in storages) == 5
    assert value(samples, "transfers", direction="outgoing", state="failed") == 0
    assert value(samples, "transfers", direction="incoming", state="completed") == 0
    assert value(samples, "peer_queue_batches", peer="central") == 0
    assert time.time() - value(samples, "peer_last_seen_timestamp_seconds", peer="central") < 60
    assert value(samples, "peer_enabled", peer="central") == 1
    assert value(samples, "task_last_success", task="consume queue", kind="consume_queue") == 1
    there = scrape(ports["central"])
    assert value(there, "transfers", direction="incoming", state="completed") == 5


def test_what_is_on_its_way_is_seen_file_by_file(network: Network, ports: dict[str, int]) -> None:
    """One of the two storages that send stands still."""
    place = {"peer": "central", "manager": "goggles"}
    with network["source"].connect() as fs:
        fs.mkdir("/way")
        for number in range(12):
            fs.write(f"/way/{number}", b"y" * 1000)
        slow = [number for number in range(12) if fs.stat(f"/way/{number}").storages == ("bob",)]
    assert 0 < len(slow) < 12, "all files are on one storage"
    bob = network["source"].storages["bob"]
    network.run("source", "send_clone")
    bob.signal(signal.SIGSTOP)
    try:
        done = 12 - len(slow)
        wait_until(
            "half of it",
            lambda: scrape(ports["source"]).get(("goggles_underway_files_done", frozenset(place.items()))) == done,
            10,
        )
        samples = scrape(ports["source"])
        assert value(samples, "underway_files", **place) == 12
        assert value(samples, "underway_size_bytes", **place) == 12_000
        assert value(samples, "underway_size_done_bytes", **place) == 1000 * done
        assert value(samples, "underway_rate_bytes_per_second", **place) > 0
    finally:
        bob.signal(signal.SIGCONT)
    network.wait_arrived("central", [f"/way/{number}" for number in range(12)])
    network["source"].wait_active(("bob",))


def test_what_goes_wrong_is_seen(network: Network, ports: dict[str, int]) -> None:
    network.admin("source", "add_librarian", "dead", "localhost", free_port(), "a:b", check_connection=False)
    network.admin("source", "set_librarian_transfer", "central", False)
    network["source"].storages["bob"].kill()
    network.run("source", "send_clone")

    def seen() -> bool:
        samples = scrape(ports["source"])
        labels = {"severity": "error", "category": "librarian_network_availability"}
        key = "goggles_errors", frozenset(labels.items())
        down = value(samples, "storage_state", storage="bob", state="down")
        return (samples.get(key, 0.0), down) == (1.0, 1.0)

    wait_until("both are seen", seen, 20)
    samples = scrape(ports["source"])
    assert value(samples, "peer_enabled", peer="central") == 0
    assert value(samples, "peer_last_seen_timestamp_seconds", peer="dead") == 0
    network.admin("source", "remove_librarian", "dead", True)
    network.admin("source", "set_librarian_transfer", "central", True)
    network["source"].start_storage("bob")
    network["source"].wait_active(("bob",))


def test_only_reading_and_only_on_this_host(network: Network, ports: dict[str, int]) -> None:
    request = urllib.request.Request(f"http://127.0.0.1:{ports['source']}/metrics", b"x", method="POST")
    with pytest.raises(urllib.error.HTTPError):
        urllib.request.urlopen(request, timeout=10)
    sockets = Path("/proc/net/tcp").read_text().splitlines()[1:]
    listening = [line.split()[1] for line in sockets if line.split()[3] == "0A"]
    assert [one for one in listening if one.endswith(f":{ports['source']:04X}")] == [f"0100007F:{ports['source']:04X}"]


def fails(site: Cluster, *flags: str, environment: dict[str, str] | None = None) -> str:
    """What a nameserver says that does not start."""
    flags = (*flags, *site.certificates.flags("nameserver", Role.NAMESERVER))
    command = [sys.executable, "-m", "goggles.cli.nameserver", "--port", "0", "--database", site.database, *flags]
    done = subprocess.run(
        command,
        cwd=site.folder,
        env={**os.environ, "PYTHONPATH": SOURCE, **(environment or {})},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 2, done.stderr
    assert "Traceback" not in done.stderr
    return done.stderr.splitlines()[-1]


def test_a_port_that_is_taken_is_said(ports: dict[str, int], network: Network, tmp_path: Path) -> None:
    site = Cluster(tmp_path, ())
    words = fails(site, "--metrics_port", str(ports["source"]))
    assert f"figures can not be served on 127.0.0.1 port {ports['source']}" in words


# --- monitor and control ---------------------------------------------------------------------

FAKE_MC = """
import json, os
class Session:
    def add_lib_status(self, time, num_files, data_volume_gb, free_space_gb, upload_min_elapsed,
                       num_processes, git_version, git_hash):
        self.row = dict(vars(), time=time.value)
        del self.row["self"]
    def commit(self):
        with open(os.environ["FAKE_MC"], "a") as file:
            file.write(json.dumps(self.row) + chr(10))
    def close(self):
        pass
class Database:
    sessionmaker = Session
def connect_to_mc_db(args):
    if os.path.exists(os.environ["FAKE_MC"] + ".down"):
        raise RuntimeError("no database")
    return Database()
"""
FAKE_TIME = """
class Time:
    def __init__(self, value, format):
        assert format == "unix"
        self.value = value
"""


@pytest.fixture
def fake(tmp_path: Path) -> dict[str, str]:
    """The environment of a host with a hera_mc that writes what it gets into a file."""
    for name, text in {"hera_mc/mc": FAKE_MC, "astropy/time": FAKE_TIME}.items():
        file = tmp_path / "fake" / f"{name}.py"
        file.parent.mkdir(parents=True)
        file.write_text(text)
        (file.parent / "__init__.py").touch()
    (tmp_path / "user/.hera_mc").mkdir(parents=True)
    (tmp_path / "user/.hera_mc/mc_config.json").write_text("{}")
    path = f"{SOURCE}{os.pathsep}{tmp_path / 'fake'}"
    return {"PYTHONPATH": path, "HOME": str(tmp_path / "user"), "FAKE_MC": str(tmp_path / "reports")}


def reports(fake: dict[str, str]) -> list[dict[str, Any]]:
    file = Path(fake["FAKE_MC"])
    return [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []


def test_figures_are_reported_to_monitor_and_control(tmp_path: Path, fake: dict[str, str]) -> None:
    capacity = 2 << 30
    with Cluster(tmp_path / "site", ("alice",), capacity=capacity, nameserver_flags=["--copies", "1"]) as site:
        with site.connect() as fs:
            fs.write("/file", bytes(1 << 20))
        site.wait_settled()
        assert site.nameserver is not None
        site.nameserver.stop()
        assert reports(fake) == []
        site.start_nameserver(["--report_to_mandc"], fake)
        wait_until("a report", lambda: bool(reports(fake)), 20)
        (row,) = reports(fake)
        assert abs(row["time"] - time.time()) < 60
        assert (row["num_files"], row["data_volume_gb"]) == (1, 1 / 1024)
        assert 0 <= row["free_space_gb"] <= 2
        assert 0 <= row["upload_min_elapsed"] < 5
        assert (row["num_processes"], row["git_version"]) == (0, "0.1.0")
        assert row["git_hash"]
        site.nameserver.stop()
        Path(fake["FAKE_MC"] + ".down").touch()
        site.start_nameserver(["--report_to_mandc"], fake)
        site.wait_active(("alice",))
        log = site.folder / "nameserver.log"
        wait_until("it is said", lambda: "could not be reported to M&C" in log.read_text(), 20)
        peer = site.dial("admin", Role.ADMIN)
        try:
            wait_until("it stands", lambda: "M&C: RuntimeError" in str(peer.call("search_errors")), 10)
        finally:
            peer.close()


def test_without_hera_mc_or_its_settings_it_does_not_start(tmp_path: Path, fake: dict[str, str]) -> None:
    site = Cluster(tmp_path / "site", ())
    without = fails(site, "--report_to_mandc", environment={**fake, "PYTHONPATH": SOURCE})
    assert "needs the Python module hera_mc" in without
    Path(fake["HOME"], ".hera_mc/mc_config.json").unlink()
    assert ".hera_mc/mc_config.json, which is not there" in fails(site, "--report_to_mandc", environment=fake)
    assert reports(fake) == []
