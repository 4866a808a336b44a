"""The same work with rsync over ssh, on the same machine in the same run, where both are installed."""

from __future__ import annotations

import getpass
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from rows import row
from stage import MIB, Stage, random_file

from goggles.testing.cluster import free_port

SSHD = shutil.which("sshd") or "/usr/sbin/sshd"


def rsync(stage: Stage) -> None:
    """One large file in and out, and many small ones in; it does not fsync, and makes one copy."""
    if not (shutil.which("rsync") and shutil.which("ssh") and Path(SSHD).exists()):
        stage.console.print("  (rsync over ssh: not installed, left out)")
        return
    source = random_file(stage.folder / "large", stage.size)
    with _sshd(stage.folder / "ssh") as (shell, host):
        far = stage.folder / "far"
        far.mkdir()

        def copy(what: str, to: str) -> float:
            began = time.perf_counter()
            subprocess.run(["rsync", "--whole-file", "-r", "-e", shell, what, to], check=True)
            return time.perf_counter() - began

        amount, few = stage.size / 1e6, len(list((stage.folder / "small").iterdir()))
        put = [amount / copy(str(source), f"{host}:{far}/large-{n}") for n in range(stage.runs)]
        stage.add(row(f"rsync over ssh, put {stage.size // MIB} MiB, one copy", "MB/s", put))
        get = [amount / copy(f"{host}:{far}/large-0", str(stage.folder / f"back-{n}")) for n in range(stage.runs)]
        stage.add(row("rsync over ssh, get of the same", "MB/s", get))
        tree = [few / copy(f"{stage.folder}/small", f"{host}:{far}/small-{n}") for n in range(stage.runs)]
        stage.add(row("rsync over ssh, put -r of the small files", "files/s", tree))
    for path in [source, *stage.folder.glob("back-*")]:
        path.unlink()
    shutil.rmtree(far)


@contextmanager
def _sshd(folder: Path) -> Iterator[tuple[str, str]]:
    """A server of our own for this user alone: (command of the client, host)."""
    folder.mkdir(mode=0o700)
    for name in ("host", "user"):
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", folder / name], check=True)
    shutil.copy(folder / "user.pub", folder / "authorized")
    port = free_port()
    config = folder / "config"
    config.write_text(
        f"Port {port}\nListenAddress 127.0.0.1\nHostKey {folder}/host\nAuthorizedKeysFile {folder}/authorized\n"
        f"StrictModes no\nUsePAM no\nPasswordAuthentication no\nPidFile {folder}/pid\n"
    )
    Path("/run/sshd").mkdir(exist_ok=True)
    server = subprocess.Popen([SSHD, "-D", "-f", config], stderr=subprocess.DEVNULL)
    try:
        time.sleep(0.5)
        options = f"-p {port} -i {folder}/user -o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null -q"
        yield f"ssh {options}", f"{getpass.getuser()}@127.0.0.1"
    finally:
        server.terminate()
        server.wait()
