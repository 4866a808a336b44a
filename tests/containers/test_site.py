"""docker-compose.yml, as docs/containers.md tells to use it: a nameserver, storages that come and go, a shell."""

from __future__ import annotations

import json
import os
import re
import secrets
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pexpect
import pytest
from composition import HOME, SOMEBODY, Composition

pytestmark = [pytest.mark.containers, pytest.mark.timeout(600)]
KIB = 1024


@pytest.fixture(scope="module")
def site(compose: Callable[[str], Composition]) -> Iterator[Composition]:
    """The nameserver with three storages."""
    made = compose("docker-compose.yml")
    made("build", "certificates", timeout=600)
    made("up", "-d", "alice", "bob", "carol")
    made.wait_states(alice="active", bob="active", carol="active")
    yield made
    made("down", "-v", "-t", "5")


@pytest.fixture
def whole(site: Composition) -> Iterator[Composition]:
    """The same; afterwards the three are running again, and nothing is in the tree."""
    yield site
    site("up", "-d", "alice", "bob", "carol")
    site.wait_states(alice="active", bob="active", carol="active")
    site.vg("rm -rf /t", check=False)


def give(site: Composition, name: str, size: int) -> bytes:
    """A file in the local folder, owned by whoever runs the shell."""
    data = secrets.token_bytes(size)
    (site.local / name).write_bytes(data)
    if os.geteuid() == 0:
        os.chown(site.local / name, SOMEBODY, SOMEBODY)
    return data


def put(site: Composition, name: str, size: int = 50 * KIB) -> bytes:
    data = give(site, name, size)
    site.vg("mkdir -p /t", f"put {name} /t/{name}")
    return data


def get(site: Composition, name: str) -> bytes:
    site.vg(f"get -f /t/{name} back-{name}")
    return (site.local / f"back-{name}").read_bytes()


def health(site: Composition, service: str) -> str:
    """As the engine sees it."""
    return str(site.inspect(service)["State"]["Health"]["Status"])


# --- how it starts, and as whom --------------------------------------------------------------


def test_a_storage_waits_until_its_nameserver_is_healthy(site: Composition):
    assert health(site, "nameserver") == "healthy"
    healthy = site.inspect("nameserver")["State"]["Health"]["Log"][0]["Start"]
    assert site.inspect("alice")["State"]["StartedAt"] > healthy[:19]
    assert "nobody answers" not in site.log("alice"), "it came before the nameserver was there"
    assert site("ps", "-q", "dave").stdout.strip() == "", "a storage that was not asked for was started"


@pytest.mark.parametrize("service", ["nameserver", "alice"])
def test_a_container_is_nobody_special(site: Composition, service: str):
    status = site.inside(service, "cat", "/proc/1/status").stdout
    fields = dict(line.split(":\t", 1) for line in status.splitlines() if ":\t" in line)
    assert fields["Uid"].split() == ["10001"] * 4
    assert int(fields["CapEff"], 16) == int(fields["CapBnd"], 16) == 0
    assert fields["NoNewPrivs"] == "1"
    assert site.inspect(service)["HostConfig"]["ReadonlyRootfs"] is True
    for place in ("/x", "/opt/goggles/x", "/certs/x"):
        assert site.inside(service, "touch", place, check=False).returncode != 0, place
    assert site.inside(service, "python", "-c", "import setuptools", check=False).returncode != 0


@pytest.mark.parametrize("service", ["nameserver", "alice", "bob"])
def test_a_host_has_its_own_key_and_no_other(site: Composition, service: str):
    found = site.inside(service, "find", "/certs", "/data", "/tmp", "-name", "*.key").stdout.split()
    own = [f"/certs/{service}/{service}.key"]
    assert found == own
    assert site.inside(service, "stat", "-c", "%a %u", own[0]).stdout.split() == ["400", "10001"]
    mounts = {mount["Destination"] for mount in site.inspect(service)["Mounts"]}
    assert mounts == {"/certs", "/data"}


def test_certificates_are_made_once(site: Composition):
    before = site.inside("alice", "cat", "/certs/alice/alice.crt").stdout
    site("up", "certificates")
    assert site.inside("alice", "cat", "/certs/alice/alice.crt").stdout == before
    assert site.inspect("certificates")["HostConfig"]["CapAdd"] in (["CHOWN"], ["CAP_CHOWN"])
    assert site.inspect("certificates")["HostConfig"]["NetworkMode"] == "none"


def test_no_network_leads_out(site: Composition):
    network = json.loads(site.docker("network", "inspect", f"{site.project}_main"))[0]
    assert network["Internal"] is True
    assert site.inspect("nameserver")["HostConfig"]["PortBindings"] in ({}, None)


def test_health_tells_a_storage_without_its_nameserver(whole: Composition):
    assert "well" in whole.inside("alice", "vg-health", "storage").stdout
    whole.network("disconnect", "main", "nameserver")
    try:
        whole.wait_for(
            "alice is ill", lambda: whole.inside("alice", "vg-health", "storage", check=False).returncode == 1
        )
        assert whole.inside("nameserver", "vg-health", "nameserver", check=False).returncode == 1, "nobody can reach it"
    finally:
        whole.network("connect", "main", "nameserver")
    whole.wait_for("alice is well", lambda: whole.inside("alice", "vg-health", "storage", check=False).returncode == 0)
    whole.wait_for("the engine sees it too", lambda: health(whole, "nameserver") == "healthy")


# --- put and get -----------------------------------------------------------------------------


def test_put_and_get_through_the_clients_container(whole: Composition):
    data = give(whole, "one.bin", 50 * KIB)
    commands = ("local", "mkdir /t", "put one.bin /t/one.bin", "get -f /t/one.bin back-one.bin")
    shown = whole("run", "--rm", "-T", "client", *(word for one in commands for word in ("-c", one))).stdout
    assert "one.bin" in shown
    assert (whole.local / "back-one.bin").read_bytes() == data
    assert (whole.local / "back-one.bin").stat().st_mode & 0o777 == 0o644, "the umask of the key holds for files too"
    if os.geteuid() == 0:
        assert (whole.local / "back-one.bin").stat().st_uid == SOMEBODY
    assert "one.bin" in whole.vg("ls -l /t").stdout


def test_make_run_client_opens_the_shell_and_finds_the_network_by_itself(whole: Composition):
    give(whole, "lies-here.txt", 10)
    command = ["run_client", whole.for_make]
    shell = pexpect.spawn("make", command, cwd=str(HOME), env=whole.environment, encoding="utf-8", timeout=60)
    try:
        shell.expect("/ *>|goggles")
        shell.sendline("local")
        shell.expect("lies-here.txt")
        shell.sendline("du")
        shell.expect("alice +alice:8001")
        shell.sendline("quit")
        shell.expect(pexpect.EOF)
    finally:
        shell.close()
    assert shell.exitstatus == 0


def test_the_log_tells_the_story_of_a_file(whole: Composition):
    put(whole, "story.bin", 1000)
    whole.vg("mkdir /t/sub", "mv /t/story.bin /t/sub/told.bin", "rm /t/sub/told.bin", "rmdir /t/sub")
    told = ("put /t/story.bin: 1000 bytes by client, on ", "moved /t/story.bin to /t/sub/told.bin")
    told += ("made directory /t/sub", "removed /t/sub/told.bin", "removed directory /t/sub")
    whole.wait_log("nameserver", *told, seconds=5)


def test_a_client_with_a_certificate_of_somebody_else_is_refused(whole: Composition):
    forge = "cd /tmp && rm -rf false && mkdir false && cd false && vg-certs ca && vg-certs peer client --role admin && "
    forge += "cat /certs/rootCA.crt certs/rootCA.crt >both.crt && vg --timeout 1 --ca_cert {} -c 'ls /'"
    refused = "refused our certificate|ended the connection"  # the server's alert may be lost with the connection
    for trusted, why in (("both.crt", refused), ("certs/rootCA.crt", "is refused")):
        done = whole.shell("client", "sh", "-c", forge.format(trusted), check=False)
        assert done.returncode != 0
        assert re.search(why, done.stderr), done.stderr
        assert "Traceback" not in done.stderr
    whole.wait_log("nameserver", "in the handshake: [SSL: CERTIFICATE_VERIFY_FAILED]", seconds=5)


def test_a_client_can_not_pose_as_a_storage(whole: Composition):
    pose = "vg-storage --name alice --capacity 1MiB --rootpath /tmp/x --hostname client"
    pose += " --certfile certs/client/client.crt --keyfile certs/client/client.key"
    done = whole.shell("client", "sh", "-c", pose, check=False)
    assert done.returncode != 0
    assert "was given the certificate of" in done.stderr, done.stderr
    assert "Traceback" not in done.stderr


# --- storages come and go --------------------------------------------------------------------


def test_a_killed_storage_costs_nothing_and_its_files_get_new_copies(whole: Composition):
    (whole.local / "k").mkdir(exist_ok=True)
    files = {f"k{n}": give(whole, f"k/k{n}", 10 * KIB) for n in range(12)}
    whole.vg("mkdir -p /t/k", *(f"put k/{name} /t/k/{name}" for name in files))  # alice is chosen for some of them
    mark = len(whole.log("nameserver"))
    whole("kill", "alice")
    whole.vg("get -r /t/k back-k")
    assert {path.name: path.read_bytes() for path in (whole.local / "back-k").iterdir()} == files
    whole.wait_log("nameserver", "storage alice lost", "every file has its copies", after=mark)
    new = put(whole, "meanwhile.bin")
    assert whole.inspect("alice")["State"]["Running"] is False, "what was killed stays down"
    whole("up", "-d", "alice")
    whole.wait_log("nameserver", "storage alice is active", after=mark)
    assert get(whole, "meanwhile.bin") == new


def test_a_paused_storage_is_missed_and_comes_back(whole: Composition):
    data = put(whole, "p.bin")
    mark = len(whole.log("nameserver"))
    whole("pause", "bob")
    try:
        whole.wait_log("nameserver", "storage bob lost: no heartbeat", after=mark)
        assert get(whole, "p.bin") == data
    finally:
        whole("unpause", "bob")
    whole.wait_log("nameserver", "storage bob is active", after=mark)


def test_a_storage_that_is_cut_off_comes_back_by_itself(whole: Composition):
    data = put(whole, "c.bin")
    mark = len(whole.log("nameserver"))
    whole.network("disconnect", "main", "carol")
    try:
        newer = put(whole, "c.bin")  # at once: the nameserver may still believe in carol
        assert newer != data
        whole.wait_log("nameserver", "storage carol lost", after=mark)
        assert get(whole, "c.bin") == newer
    finally:
        whole.network("connect", "main", "carol")
    whole.wait_log("nameserver", "storage carol is active", after=mark)
    assert get(whole, "c.bin") == newer


def test_a_stop_lets_what_is_under_way_finish(whole: Composition):
    """Files go in one after the other while a storage is told to stop: all of them arrive, and it ends well."""
    folder = whole.local / "many"
    folder.mkdir()
    files = {f"f{n:03}": give(whole, f"many/f{n:03}", 2 * KIB) for n in range(100)}
    whole.vg("mkdir -p /t")
    head = [*whole._head, "run", "-d", "--name", f"{whole.project}_loader", "client", "-c", "put -r many /t/many"]
    whole._run(head, True, 60.0)
    whole.wait_log("nameserver", "put /t/many/f0")
    began = time.monotonic()
    whole("stop", "bob")
    took = time.monotonic() - began
    assert whole.docker("wait", f"{whole.project}_loader") == "0", whole.docker("logs", f"{whole.project}_loader")
    whole.docker("rm", f"{whole.project}_loader")
    state = whole.inspect("bob")["State"]
    assert (state["ExitCode"], took < 15) == (0, True), (state, took)
    whole.vg("get -r /t/many back-many")
    back = {path.name: path.read_bytes() for path in sorted((whole.local / "back-many").iterdir())}
    assert back == files


def test_every_program_stops_at_once_when_nothing_is_under_way(whole: Composition):
    began = time.monotonic()
    whole("stop", "alice", "nameserver")
    took = time.monotonic() - began
    codes = [whole.inspect(name)["State"]["ExitCode"] for name in ("alice", "nameserver")]
    assert codes == [0, 0]
    assert took < 10, "they waited to be killed"


def test_the_nameserver_starts_again_with_all_it_knew(whole: Composition):
    data = put(whole, "r.bin")
    for how in (("kill", "nameserver"), ("stop", "nameserver")):
        whole(*how)
        whole("up", "-d", "nameserver")
        whole.wait_states(alice="active", bob="active", carol="active")
        assert get(whole, "r.bin") == data


def test_what_is_on_the_volumes_outlives_the_containers(whole: Composition):
    data = put(whole, "v.bin")
    whole("down", "-t", "10")
    whole("up", "-d", "alice", "bob", "carol")
    whole.wait_states(alice="active", bob="active", carol="active")
    assert get(whole, "v.bin") == data


def test_json_for_machines(whole: Composition):
    whole.environment["LOG_FORMAT"] = "json"
    try:
        whole("up", "-d", "nameserver")
        whole.wait_states(alice="active", bob="active", carol="active")
        put(whole, "j.bin", 777)
        whole.wait_log("nameserver", '"event": "put"', seconds=5)
        lines = [json.loads(line) for line in whole.log("nameserver").splitlines()]
        found = next(line for line in lines if line.get("event") == "put" and line["path"] == "/t/j.bin")
        assert (found["size"], found["uploader"], len(found["storages"]), found["owed"]) == (777, "client", 2, 0)
        assert {"storage_came", "storage_active"} <= {line.get("event") for line in lines}
    finally:
        del whole.environment["LOG_FORMAT"]
        whole("up", "-d", "nameserver")


# --- growing and shrinking -------------------------------------------------------------------


def test_a_full_site_grows_and_shrinks(whole: Composition):
    """1 MiB each: two files of 600 KiB fill three storages; with more storages there is room, and one can leave."""
    first = put(whole, "g1.bin", 600 * KIB)
    put(whole, "g2.bin", 600 * KIB)  # one copy at least
    give(whole, "g3.bin", 600 * KIB)
    refused = whole.vg("put g3.bin /t/g3.bin", check=False)
    assert refused.returncode == 1
    assert "no storage has room" in refused.stderr
    whole("up", "-d", "dave", "eve", "mellory", "trent")
    whole.wait_states(dave="active", eve="active", mellory="active", trent="active")
    whole.wait_for("nothing is owed", lambda: whole.du()["site"]["owed"] == 0)
    third = put(whole, "g3.bin", 600 * KIB)
    whole.vg("drain alice")
    whole.wait_for("alice is empty", lambda: _files_on(whole, "alice") == 0)
    whole("stop", "alice")
    assert (get(whole, "g1.bin"), get(whole, "g3.bin")) == (first, third)
    whole("up", "-d", "alice")
    whole.vg("drain --off alice", "rm -rf /t")
    whole.wait_states(alice="active")
    whole("stop", "dave", "eve", "mellory", "trent")


def _files_on(site: Composition, storage: str) -> int:
    return next(one["files"] for one in site.du()["storages"] if one["name"] == storage)


def test_the_files_of_a_storage_are_plain_files(whole: Composition):
    data = put(whole, "plain.bin", 100)
    target: Path = whole.local / "plain.copy"
    holder = next(name for name in ("alice", "bob", "carol") if _holds(whole, name, "/data/t/plain.bin"))
    whole.docker("cp", f"{whole.container(holder)}:/data/t/plain.bin", str(target))
    assert target.read_bytes() == data


def _holds(site: Composition, service: str, path: str) -> bool:
    return site.inside(service, "test", "-e", path, check=False).returncode == 0
