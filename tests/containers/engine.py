"""A container engine for the tests: the one that runs here, or one of our own.

    python tests/containers/engine.py up        # prints what to set in the environment; the first time takes minutes
    python tests/containers/engine.py down      # stops it, and removes all that it made

Law: an engine of our own lives in a network namespace that leads nowhere, in a folder of its own, behind a socket of
its own: no packet of a container leaves the machine, and nothing of another engine is touched.  It pulls no image: its
base image is made with debootstrap from the mirror that apt is set up with here.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

HOME = Path(__file__).resolve().parents[2]
FOLDER = Path(os.environ.get("GOGGLES_ENGINE", Path(tempfile.gettempdir()) / "goggles-engine"))
LOCK = HOME / "delivery" / "requirements.lock"
PACKAGES = ("docker.io", "docker-compose", "debootstrap", "iptables", "iproute2")
PROGRAMS = ("dockerd", "docker-compose", "debootstrap", "iptables", "ip", "unshare")
IN_BASE = ("python3", "python3-venv", "ca-certificates", "postgresql")
CA = Path("/etc/ssl/certs/ca-certificates.crt")
_children: list[subprocess.Popen[bytes]] = []  # that this process has to wait for
RELEASES = {"12": "bookworm", "13": "trixie"}


def running() -> bool:
    """Whether an engine answers to the docker client as it is set up here."""
    if shutil.which("docker") is None:
        return False
    return subprocess.run(["docker", "info"], capture_output=True, check=False, timeout=60).returncode == 0


def why_not() -> str:
    """Why no engine can be had here, in one line; empty where one can."""
    if os.environ.get("GOGGLES_NO_ENGINE"):
        return "no container engine is wanted (GOGGLES_NO_ENGINE)"
    if running():
        return "" if shutil.which("docker-compose") else "a container engine runs, but there is no docker-compose"
    if os.geteuid() != 0:
        return "no container engine runs here, and only root can start one"
    if _release() == "" or shutil.which("apt-get") is None:
        return "no container engine runs here, and one can be installed for the tests on Debian 12 or 13 only"
    if not _may_have_networks():
        return "no container engine runs here, and this root may not make network namespaces"
    missing = [name for name in PROGRAMS if shutil.which(name) is None]
    if missing and not os.environ.get("CI") and not os.environ.get("GOGGLES_INSTALL"):
        return f"no {', '.join(missing)} here: apt-get install {' '.join(PACKAGES)} (GOGGLES_INSTALL=1 does it)"
    return ""


def up() -> dict[str, str]:
    """Start an engine where none runs; the environment in which to call docker and docker-compose."""
    if running():
        return {}
    _install()
    FOLDER.mkdir(mode=0o700, parents=True, exist_ok=True)
    environment = {
        "DOCKER_HOST": f"unix://{FOLDER}/docker.sock",
        "DOCKER_BUILDKIT": "0",
        "COMPOSE_DOCKER_CLI_BUILD": "0",
    }
    if not _answers(environment):
        _start(environment)
    base = _base(environment)
    # What the Dockerfiles read from the environment of the composition.
    return environment | {"BASE_IMAGE": base, "PIP_NO_INDEX": "1", "PIP_FIND_LINKS": "/wheels"}


def down() -> None:
    """Stop our own engine, if it runs, and remove its folder (but for GOGGLES_ENGINE_KEEP)."""
    pid = FOLDER / "dockerd.pid"
    if pid.exists() and _is_ours(number := int(pid.read_text())):
        os.kill(number, signal.SIGTERM)
        _wait("dockerd ends", lambda: _is_over(number), 60)
    if not os.environ.get("GOGGLES_ENGINE_KEEP"):
        for line in reversed(Path("/proc/mounts").read_text().splitlines()):
            where = line.split()[1]
            if where.startswith(f"{FOLDER}/"):
                subprocess.run(["umount", "-l", where], check=False)
        shutil.rmtree(FOLDER, ignore_errors=True)


# --- the engine ------------------------------------------------------------------------------


def _start(environment: dict[str, str]) -> None:
    """dockerd in a network namespace with nothing but a loopback."""
    (FOLDER / "docker.json").write_text(json.dumps({"features": {"buildkit": False}}))
    flags = [f"--host={environment['DOCKER_HOST']}", f"--data-root={FOLDER}/data", f"--exec-root={FOLDER}/exec"]
    flags += [f"--pidfile={FOLDER}/dockerd.pid", f"--config-file={FOLDER}/docker.json", "--log-level=warn"]
    inside = "ip link set lo up && echo 1 >/proc/sys/net/ipv4/ip_forward && exec dockerd " + " ".join(flags)
    with open(FOLDER / "dockerd.log", "ab") as log:
        child = subprocess.Popen(
            ["unshare", "--net", "sh", "-c", inside],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    _children.append(child)
    try:
        _wait("dockerd answers", lambda: _answers(environment), 60)
    except TimeoutError as error:
        raise SystemExit(f"{error}; its log ends:\n{(FOLDER / 'dockerd.log').read_text()[-2000:]}") from None


def _is_ours(pid: int) -> bool:
    """Whether this is our dockerd, and not whoever has its number now."""
    command = Path(f"/proc/{pid}/cmdline")
    return command.exists() and f"--data-root={FOLDER}/data".encode() in command.read_bytes().split(b"\0")


def _is_over(pid: int) -> bool:
    mine = next((child for child in _children if child.pid == pid), None)
    return not Path(f"/proc/{pid}").exists() if mine is None else mine.poll() is not None


def _answers(environment: dict[str, str]) -> bool:
    if not (FOLDER / "docker.sock").exists():
        return False
    found = subprocess.run(["docker", "version"], env=os.environ | environment, capture_output=True, check=False)
    return found.returncode == 0


def _wait(what: str, true, seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while not true():
        if time.monotonic() > deadline:
            raise TimeoutError(f"waited {seconds:g} s in vain: {what}")
        time.sleep(0.1)


def _may_have_networks() -> bool:
    return subprocess.run(["unshare", "--net", "true"], capture_output=True, check=False).returncode == 0


def _install() -> None:
    if all(shutil.which(name) for name in PROGRAMS):
        return
    quiet = os.environ | {"DEBIAN_FRONTEND": "noninteractive"}
    for command in (["update", "-q"], ["install", "-q", "-y", "--no-install-recommends", *PACKAGES]):
        subprocess.run(["apt-get", *command], env=quiet, check=True, stdout=sys.stderr)
    # Debian starts what it installs; ours is another one.
    if shutil.which("systemctl") and Path("/run/systemd/system").exists():
        subprocess.run(["systemctl", "stop", "docker.service", "docker.socket"], check=False, stdout=sys.stderr)


# --- the base image --------------------------------------------------------------------------


def _base(environment: dict[str, str]) -> str:
    """The name of an image with Python, PostgreSQL, and below /wheels the libraries of the lock."""
    key = hashlib.sha256(LOCK.read_bytes() + repr(IN_BASE).encode()).hexdigest()[:12]
    name = f"goggles-base:{key}"
    known = subprocess.run(
        ["docker", "image", "inspect", name], env=os.environ | environment, capture_output=True, check=False
    )
    if known.returncode != 0:
        root = FOLDER / "root"
        shutil.rmtree(root, ignore_errors=True)
        _bootstrap(root)
        _fetch_wheels(root)
        with subprocess.Popen(["tar", "-C", str(root), "-c", "."], stdout=subprocess.PIPE) as packed:
            subprocess.run(
                ["docker", "import", "-", name],
                stdin=packed.stdout,
                env=os.environ | environment,
                check=True,
                stdout=sys.stderr,
            )
        if packed.returncode != 0:
            raise SystemExit("the base image could not be packed")
        shutil.rmtree(root)
    return name


def _bootstrap(root: Path) -> None:
    command = ["debootstrap", "--variant=minbase", f"--include={','.join(IN_BASE)}", _release(), str(root), _mirror()]
    subprocess.run(command, check=True, stdout=sys.stderr)
    shutil.copy(CA, root / CA.relative_to("/"))  # what pip trusts outside, it trusts inside
    shutil.rmtree(root / "var/cache/apt", ignore_errors=True)
    shutil.rmtree(root / "var/lib/apt/lists", ignore_errors=True)


def _fetch_wheels(root: Path) -> None:
    """The files of the lock for the Python in there, fetched by the pip of here, which knows where to look."""
    python = next(path.name for path in sorted((root / "usr/bin").glob("python3.*")) if path.name[8:].isdigit())
    minor, machine = python.removeprefix("python3."), os.uname().machine
    kind = [
        "--implementation=cp",
        f"--python-version=3.{minor}",
        *(f"--abi={abi}" for abi in (f"cp3{minor}", "abi3", "none")),
    ]
    kind += [f"--platform={name}_{machine}" for name in ("manylinux2014", *(f"manylinux_2_{n}" for n in range(5, 37)))]
    command = [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "--only-binary=:all:", *kind]
    command += ["-d", str(root / "wheels"), "--require-hashes", "-r", str(LOCK)]
    subprocess.run(command, check=True, stdout=sys.stderr)


def _release() -> str:
    try:
        version = Path("/etc/debian_version").read_text().partition(".")[0].strip()
    except OSError:
        return ""
    return RELEASES.get(version, version if version in RELEASES.values() else "")


def _mirror() -> str:
    """The first place from which apt takes this release."""
    for file in _sources():
        text = file.read_text()
        for block in re.split(r"\n\s*\n", text):
            uris, suites = re.search(r"^URIs:\s*(\S+)", block, re.M), re.search(r"^Suites:(.*)", block, re.M)
            if uris and suites and _release() in suites[1].split():
                return uris[1]
        line = re.search(rf"^deb\s+(?:\[.*\]\s+)?(\S+)\s+{_release()}\s", text, re.M)
        if line:
            return line[1]
    raise SystemExit(f"apt has no source for {_release()} here")


def _sources() -> Iterator[Path]:
    apt = Path("/etc/apt")
    yield from sorted((apt / "sources.list.d").glob("*.sources"))
    yield from (file for file in (apt / "sources.list",) if file.exists())
    yield from sorted((apt / "sources.list.d").glob("*.list"))


def main(words: Sequence[str]) -> int:
    match list(words):
        case ["up"]:
            if reason := why_not():
                print(reason, file=sys.stderr)
                return 1
            for key, value in up().items():
                print(f"export {key}={value}")
        case ["down"]:
            down()
        case _:
            print(__doc__, file=sys.stderr)
            return 2
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
