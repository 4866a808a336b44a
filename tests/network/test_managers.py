"""One suite for every transfer manager: what it moves arrives as it was; what goes wrong is said and tried again."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.network.globus.server import Globus
from tests.network.globus.sites import application, hurried, prefer, restarted, settings
from tests.network.pump import Pump

from goggles.testing.cluster import free_port, wait_until
from goggles.testing.network import Network

MANAGERS = ("goggles", "local", "rsync", "globus")
ODD = ("plain", " two  spaces ", "-rf", "*?[x]", "$(touch x);`touch y`", "ü💾", "a'b\"c", "n" * 255, "back\\slash")


class Sshd:
    """A real sshd for one user, with keys of its own, and an ssh command that finds it as `central-store`."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(mode=0o700)
        for name in ("host", "user"):
            subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", folder / name], check=True)
        shutil.copy(folder / "user.pub", folder / "authorized")
        port, here = free_port(), str(folder)
        settings = [f"HostKey {here}/host", f"AuthorizedKeysFile {here}/authorized", "StrictModes no", "UsePAM no"]
        settings += ["ListenAddress 127.0.0.1", f"Port {port}", f"PidFile {here}/pid", "PermitRootLogin yes"]
        (folder / "sshd_config").write_text("\n".join(settings) + "\n")
        client = ["Host central-store", "HostName 127.0.0.1", f"Port {port}", f"IdentityFile {here}/user"]
        client += [f"UserKnownHostsFile {here}/known", "StrictHostKeyChecking accept-new"]
        (folder / "ssh_config").write_text("\n".join(client) + "\n")
        self.command = f"ssh -F {here}/ssh_config"
        os.makedirs("/run/sshd", exist_ok=True)
        self.log = open(folder / "log", "wb")  # noqa: SIM115 - closed by stop
        program = shutil.which("sshd") or "/usr/sbin/sshd"
        self._process = subprocess.Popen([program, "-D", "-e", "-f", folder / "sshd_config"], stderr=self.log)

    def stop(self) -> None:
        self._process.terminate()
        self._process.wait(10)
        self.log.close()


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Network]:
    folder = tmp_path_factory.mktemp("managers")
    sshd = Sshd(folder / "ssh")
    try:
        with Globus() as globus:
            here, there = globus.collection("/"), globus.collection(folder / "sites" / "central" / "storages")
            flags = [*settings(application(globus, folder), here), "--heartbeat", "0.3"]
            names = {"source": ("alice",), "central": ("carol",)}
            with Network(folder / "sites", names, flags, globus.environment) as network:
                root = str(network["central"].root("carol"))
                ways = ["--shared_root", root, "--ssh_host", "central-store"]
                ways += ["--globus_endpoint", there.id, "--globus_root", "/carol"]
                restarted(network["central"], "carol", *ways)
                restarted(network["source"], "alice", "--push_local", root, "--ssh_command", sshd.command)
                network.link("source", "central")
                with Pump(network):
                    yield network
    finally:
        sshd.stop()


@pytest.mark.parametrize("manager", MANAGERS)
def test_what_is_moved_arrives_as_it_was(network: Network, manager: str) -> None:
    prefer(network, manager)
    source, central = network["source"].connect(), network["central"].connect()
    source.mkdir(f"/{manager}/deep/er", parents=True)
    files = {f"/{manager}/deep/er/{name}": os.urandom(1_000) for name in ODD}
    files |= {f"/{manager}/empty": b"", f"/{manager}/large": os.urandom(9 << 20)}
    for path, data in files.items():
        source.write(path, data)
    while network.run("source", "send_clone"):
        pass
    network.wait_arrived("central", list(files))
    assert {path: b"".join(central.read(path)) for path in files} == files
    network["central"].wait_settled()
    used = network["source"].root("alice").parent.parent / "alice.log"
    assert "failed" not in used.read_text()


def test_a_manager_that_fails_gives_way_to_the_next(network: Network) -> None:
    prefer(network, "local", "goggles")
    restarted(network["source"], "alice", "--push_local", "/nonexistent")
    source = network["source"].connect()
    source.write("/second-choice", b"bytes")
    network.run("source", "send_clone")
    with network["central"].connect() as central:
        hurried(network["source"], "the file", lambda: central.exists("/second-choice"))
    assert "not below a folder of --push_local" in (network["source"].folder / "alice.log").read_text()


@pytest.mark.slow
def test_a_push_goes_on_where_it_ended(network: Network) -> None:
    prefer(network, "goggles")
    source, central = network["source"].connect(), network["central"].connect()
    data = os.urandom(24 << 20)
    source.write("/resumed", data)
    assert network["source"].nameserver is not None
    network["source"].nameserver.stop()
    network["source"].start_nameserver(["--push_rate", "6M"])
    network["source"].wait_active(("alice",))
    network.run("source", "send_clone")
    arriving = network["central"].root("carol") / ".goggles/incoming"

    def some() -> int:
        return max((path.stat().st_size for path in arriving.glob("*/data")), default=0)

    wait_until("a part of it", lambda: some() > 6 << 20, 30)
    network["source"].storages["alice"].kill()
    before = some()
    assert before < len(data)
    network["source"].start_storage("alice")
    network["source"].wait_active(("alice",))
    sizes = [some()]
    hurried(network["source"], "all of it", lambda: sizes.append(some()) or central.exists("/resumed"), 60)
    assert min(size for size in sizes[:-1] if size) >= before, "it began anew"
    assert b"".join(central.read("/resumed")) == data
