"""The script with which users of librarians link two of them (register.py) runs with only its imports changed."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from goggles.errors import Conflict
from goggles.roles import Role
from goggles.testing.cluster import SOURCE, Cluster, free_port, wait_until
from goggles.testing.network import Network

SCRIPT = Path(__file__).with_name("register.py")
HERE, THERE = "source_librarian", "destination_librarian"


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Network]:
    with Network(tmp_path_factory.mktemp("seed"), {HERE: ("alice",), THERE: ("carol",)}) as made:
        yield made


class Conversation:
    """The script as a process, answered question by question."""

    def __init__(self, site: Cluster, *flags: str) -> None:
        certificate, key = site.certificates.files("admin", Role.ADMIN)
        pki = {"GOGGLES_CA_CERT": site.certificates.ca, "GOGGLES_CERTFILE": certificate, "GOGGLES_KEYFILE": key}
        self.said = ""
        self.process = subprocess.Popen(
            [sys.executable, "-u", str(SCRIPT), *flags],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env={**os.environ, "PYTHONPATH": SOURCE, **{name: str(path) for name, path in pki.items()}},
        )

    def answer(self, *lines: object) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write("".join(f"{line}\n" for line in lines).encode())
        self.process.stdin.flush()

    def hear(self, pattern: str) -> str:
        """Read until it has said something like this; the first group of the pattern."""
        assert self.process.stdout is not None
        while True:
            found = re.search(pattern, self.said)
            if found:
                return found[1] if found.groups() else found[0]
            more = os.read(self.process.stdout.fileno(), 65_536).decode()
            assert more, f"it ended, and had not said {pattern}:\n{self.said}"
            self.said += more

    def end(self) -> int:
        """Its exit code."""
        rest, _ = self.process.communicate(timeout=30)
        self.said += rest.decode()
        return self.process.returncode


def administrator(site: Cluster) -> tuple[str, str]:
    assert site.nameserver is not None
    found = re.search(r"of this site is (\S+), with the password (\S+)", site.nameserver.log.read_text())
    assert found
    return found[1], found[2]


def test_a_link_made_by_the_script_carries_files(network: Network) -> None:
    talks = {name: Conversation(network[name]) for name in (HERE, THERE)}
    authenticators = {}
    for name, other, level in ((HERE, THERE, "callback"), (THERE, HERE, "readappend")):
        talk = talks[name]
        talk.answer(*administrator(network[name]), "https://localhost", network[name].port)
        assert talk.hear(r"This librarian is called: (\S+)") == name
        talk.answer(other, "everything", other, level, "yes")
        authenticators[name] = talk.hear(r"Authenticator: (\S+)\n")
        assert "AuthLevel: AuthLevel." + level.upper() in talk.said
    for name, other in ((HERE, THERE), (THERE, HERE)):
        talks[name].answer("http://localhost", network[other].port, other, authenticators[other], "yes")
    for talk in talks.values():
        assert talk.end() == 0, talk.said
        assert talk.said.endswith("Remote librarian added.\n")
        assert "WARNING" not in talk.said
    data = os.urandom(100_000)
    with network[HERE].connect() as fs:
        fs.write("/over-the-new-link", data)
    assert network.run(HERE, "send_clone") == 1
    network.wait_arrived(THERE, ["/over-the-new-link"])
    with network[THERE].connect() as there:
        assert b"".join(there.read("/over-the-new-link")) == data
    wait_until("the answer came back over the link", lambda: is_removed(network), 20)


def is_removed(network: Network) -> bool:
    """Possible only once the source was told that the file has arrived."""
    try:
        return bool(network.admin(HERE, "remove_librarian", THERE) == 1)
    except Conflict:
        return False


@pytest.mark.parametrize("wrong", ["password", "port"])
def test_the_script_says_when_it_can_not_connect(network: Network, wrong: str) -> None:
    user, password = administrator(network[HERE])
    talk = Conversation(network[HERE])
    port = free_port() if wrong == "port" else network[HERE].port
    talk.answer(user, "not it" if wrong == "password" else password, "https://localhost", port)
    assert talk.end() == 1
    assert talk.said.endswith("Failed to connect to librarian.\n")
    assert "Traceback" not in talk.said


def test_a_dry_run_asks_nobody(network: Network) -> None:
    talk = Conversation(network[HERE], "--dry-run")
    talk.answer("root", "any", "https://nowhere.invalid", 1)
    assert talk.hear(r"This librarian is called: (\S+)") == "dry-run"
    talk.answer("central", "READAPPEND", "yes", "https://nowhere.invalid", 1, "central", "dry-run:x", "yes")
    assert talk.end() == 0, talk.said
