"""A compose file of this checkout as a project of its own."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

HOME = Path(__file__).resolve().parents[2]
COMPOSE = os.environ.get("GOGGLES_COMPOSE", "docker-compose")  # or "docker compose"
SOMEBODY = 12_345  # a user who owns a local folder, and is neither root nor the one of the image


class Composition:
    """One compose file as a project of its own."""

    def __init__(self, file: str, project: str, environment: dict[str, str], local: Path) -> None:
        self.local = local
        self._head = [*shlex.split(COMPOSE), "-f", str(HOME / file), "-p", project]
        self.project = project
        self.for_make = f"COMPOSE={COMPOSE} -p {project}"
        mine = {"GOGGLES_IMAGE": "verbose-goggles:test", "POSTGRES_IMAGE": "goggles-postgres:test"}
        mine |= {"LOCAL": str(local), "CLIENT_UID": str(SOMEBODY), "CLIENT_GID": str(SOMEBODY)}
        self.environment = os.environ | environment | mine

    def __call__(self, *words: str, check: bool = True, timeout: float = 300.0) -> subprocess.CompletedProcess[str]:
        """A command of compose."""
        return self._run([*self._head, *words], check, timeout)

    def docker(self, *words: str, check: bool = True) -> str:
        return self._run(["docker", *words], check, 120.0).stdout.strip()

    def _run(self, command: Sequence[str], check: bool, timeout: float) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            command, env=self.environment, cwd=HOME, capture_output=True, text=True, check=False, timeout=timeout
        )
        if check and done.returncode != 0:
            raise AssertionError(f"{' '.join(command)}: exit {done.returncode}\n{done.stdout}\n{done.stderr}")
        return done

    # --- containers ------------------------------------------------------------------------

    def container(self, service: str) -> str:
        filters = [f"label=com.docker.compose.service={service}", f"label=com.docker.compose.project={self.project}"]
        found = self.docker("ps", "-aq", *(word for one in filters for word in ("--filter", one))).split()
        assert len(found) == 1, f"{service}: {found}"
        return found[0]

    def inspect(self, service: str) -> dict[str, Any]:
        answer: dict[str, Any] = json.loads(self.docker("inspect", self.container(service)))[0]
        return answer

    def network(self, action: str, network: str, service: str) -> None:
        """Cut a host off a network, or bring it back."""
        names = ["--alias", service] if action == "connect" else []
        self.docker("network", action, *names, f"{self.project}_{network}", self.container(service))

    def inside(self, service: str, *words: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """A command in a running container."""
        return self("exec", "-T", service, *words, check=check)

    def log(self, service: str) -> str:
        """What a service said, without the names that compose puts before its lines."""
        return self._run(["docker", "logs", self.container(service)], True, 60.0).stderr

    # --- what the shell sees ---------------------------------------------------------------

    def shell(self, service: str, *words: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """A command in a container that `run` made of this service, and that stays for the next one."""
        name = f"{self.project}_{service}_shell"
        if not self.docker("ps", "-q", "--filter", f"name={name}", "--filter", "status=running"):
            self.docker("rm", "-f", name, check=False)
            self("run", "-d", "--name", name, *self._sleeper(service))
        return self._run(["docker", "exec", "-w", "/tmp", name, *words], check, 120.0)

    @staticmethod
    def _sleeper(service: str) -> list[str]:
        wait = "umask 077 && cp -r /certs /tmp && exec sleep 36000"
        return ["--entrypoint", "sh", service, "-c", wait]

    def vg(self, *commands: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Commands of the shell, in the client's container."""
        return self.shell("client", "vg", *(word for one in commands for word in ("-c", one)), check=check)

    def du(self) -> dict[str, Any]:
        """How the site and its storages are."""
        lines = self.shell("client", "vg", "--json", "-c", "du").stdout.splitlines()
        answer: dict[str, Any] = next(json.loads(line) for line in lines if line.startswith("{"))
        return answer

    def states(self) -> dict[str, str]:
        """The state of each storage."""
        return {one["name"]: one["state"] for one in self.du()["storages"]}

    def wait_states(self, **wanted: str) -> None:
        self.wait_for(f"storages {wanted}", lambda: wanted.items() <= self.states().items())

    def wait_log(self, service: str, *texts: str, seconds: float = 60.0, after: int = 0) -> None:
        """Until a service has said all of this, after its log had `after` characters."""

        def said() -> bool:
            log = self.log(service)[after:]
            return all(text in log for text in texts)

        self.wait_for(f"{service} says {texts}", said, seconds)

    def wait_for(self, what: str, true: Callable[[], bool], seconds: float = 60.0) -> None:
        deadline = time.monotonic() + seconds
        while not true():
            if time.monotonic() > deadline:
                logs = self("logs", "--no-color", "--tail=40", check=False).stdout
                raise AssertionError(f"waited {seconds:g} s in vain: {what}\n{logs}")
            time.sleep(0.3)
