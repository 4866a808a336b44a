"""vg-health, the log of a real site, and the end of a server that is told to end."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from goggles.roles import Role
from goggles.testing.cluster import SOURCE, Cluster, Process, wait_until


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with Cluster(
        tmp_path_factory.mktemp("health"), ["alice", "bob"], nameserver_flags=["--logformat", "json"]
    ) as cluster:
        yield cluster


def health(site: Cluster, *words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "goggles.cli.health", *words]
    environment = os.environ | {"PYTHONPATH": SOURCE}
    return subprocess.run(command, capture_output=True, text=True, check=False, env=environment, timeout=60)


def of_nameserver(site: Cluster) -> list[str]:
    return ["nameserver", "--port", str(site.port), *site.certificates.flags("nameserver", Role.NAMESERVER)]


def of_storage(site: Cluster, name: str) -> list[str]:
    flags = ["--name", name, "--capacity", "1M", "--port", str(site.ports[name])]
    return ["storage", *flags, *site.certificates.flags(name, Role.STORAGE)]


def test_servers_that_are_well_say_so(site: Cluster):
    done = health(site, *of_nameserver(site))
    assert (done.returncode, done.stdout) == (0, "nameserver is well: epoch 1, 2 of 2 storages are active\n"), (
        done.stderr
    )
    wait_until("alice knows that she is active", lambda: health(site, *of_storage(site, "alice")).returncode == 0)
    done = health(site, *of_storage(site, "alice"))
    assert (done.returncode, done.stdout) == (0, "storage is well: the nameserver has it as active\n"), done.stderr


def test_a_server_that_does_not_answer_is_not_well(site: Cluster):
    words = of_storage(site, "alice")
    words[words.index("--port") + 1] = "1"
    done = health(site, *words)
    assert done.returncode == 1
    assert "nobody answers at localhost:1" in done.stderr


def test_the_other_program_is_not_taken_for_it(site: Cluster):
    words = of_storage(site, "alice")
    words[words.index("--port") + 1] = str(site.port)
    done = health(site, *words)
    assert done.returncode == 2
    assert "is nameserver nameserver, not" in done.stderr


@pytest.mark.parametrize("words", [[], ["librarian"], ["nameserver", "--nonsense"]])
def test_a_question_that_makes_no_sense_is_refused(site: Cluster, words: list[str]):
    done = health(site, *words)
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1


def test_a_storage_without_its_nameserver_is_not_well(site: Cluster):
    assert site.nameserver is not None
    site.nameserver.stop()
    try:
        wait_until("alice is ill", lambda: health(site, *of_storage(site, "alice")).returncode == 1)
        assert "it has no nameserver" in health(site, *of_storage(site, "alice")).stderr
    finally:
        site.start_nameserver()
        site.wait_active(site.names)
    wait_until("alice is well", lambda: health(site, *of_storage(site, "alice")).returncode == 0)


def test_the_log_tells_the_story_of_a_file(site: Cluster):
    session = site.connect()
    session.mkdir("/d")
    session.write("/d/a", b"12345")
    session.mv("/d/a", "/d/b")
    session.rm("/d/b")
    session.rmdir("/d")
    assert site.nameserver is not None
    log = site.nameserver.log

    def told() -> list[tuple[str, str]]:
        lines = [json.loads(line) for line in log.read_text().splitlines()]
        return [
            (line["event"], line["path"]) for line in lines if line.get("logger") == "goggles.story" and "path" in line
        ]

    whole = [("mkdir", "/d"), ("put", "/d/a"), ("mv", "/d/a"), ("rm", "/d/b"), ("rmdir", "/d")]
    wait_until("the story is told", lambda: told()[-5:] == whole)


def test_a_nameserver_that_stands_by_ends_when_it_is_told_to(site: Cluster, tmp_path: Path):
    """As the first process of a container SIGTERM would do nothing of itself."""
    flags = ["--database", site.database, "--standby", "--port", "0", "--site_name", site.site]
    flags += site.certificates.flags("nameserver", Role.NAMESERVER)
    command = [sys.executable, "-m", "goggles.cli.nameserver", *flags]
    process = Process("standby", command, tmp_path / "log", {"PYTHONPATH": SOURCE})
    try:
        handled = 1 << (signal.SIGTERM - 1)
        wait_until("it handles SIGTERM", lambda: _caught(process.pid) & handled != 0)
        assert process.stop(5.0) == 128 + signal.SIGTERM
    finally:
        process.kill()


def _caught(pid: int) -> int:
    text = Path(f"/proc/{pid}/status").read_text()
    return int(next(line.split()[1] for line in text.splitlines() if line.startswith("SigCgt")), 16)
