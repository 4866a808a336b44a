"""`make librarians-demo`: upload a folder at the source, and watch it arrive at every other site.

show.py [FOLDER]        without one, a folder that is made up
"""

from __future__ import annotations

import hashlib
import secrets
import sys
import tempfile
import time
from pathlib import Path

import goggles
from goggles.client.librarian.client import LibrarianClient
from goggles.client.librarian.connections import load
from goggles.client.session import Session
from network import NETWORK, PORT

PATIENCE = 120.0  # seconds
SOURCE = next(iter(NETWORK))


def made_up(folder: Path) -> Path:
    """A few files of the kind that an instrument makes."""
    for night in ("0120", "0121"):
        (folder / night).mkdir()
        for shot in range(5):
            (folder / night / f"shot-{shot}.raw").write_bytes(secrets.token_bytes(200_000 + 1000 * shot))
    (folder / "notes.txt").write_text("two nights, ten shots\n")
    return folder


def site(name: str) -> Session:
    folder = Path("certs") / name
    files = {"certfile": folder / "admin" / "admin.crt", "keyfile": folder / "admin" / "admin.key"}
    return goggles.connect(name, PORT, ca_cert=folder / "rootCA.crt", **files)


def wait_ready() -> None:
    """Until every site has its storages."""
    deadline = time.monotonic() + PATIENCE
    for name, known in NETWORK.items():
        with site(name) as session:
            while [info.state for info in session.du()[1]].count("active") < len(known["storages"]):
                if time.monotonic() > deadline:
                    raise SystemExit(f"the storages of {name} do not come; see their logs")
                time.sleep(0.2)


def arrived(session: Session, top: str, wanted: dict[str, str]) -> int:
    """How many of these files (path: sha256) a site has, with all their copies and the right bytes."""
    if not session.exists(top):
        return 0
    there = {entry.path: entry for entry in session.find(top) if entry.type == "FILE"}
    return sum(path in there and there[path].hash == digest and not there[path].owed for path, digest in wanted.items())


def main(folder: Path) -> int:
    top = f"/runs/{time.strftime('%Y%m%dT%H%M%S')}"
    files = [path for path in sorted(folder.rglob("*")) if path.is_file()]
    wanted = {f"{top}/{p.relative_to(folder)}": hashlib.sha256(p.read_bytes()).hexdigest() for p in files}
    wait_ready()
    with LibrarianClient.from_info(load().need(SOURCE)) as client:
        client.session.mkdir("/runs", exist_ok=True)
        client.upload(folder, top)
    print(f"uploaded {len(files)} files, {sum(p.stat().st_size for p in files):,} bytes, to {top} at {SOURCE}")
    started = time.monotonic()
    waiting = dict.fromkeys(NETWORK, 0)
    while waiting and time.monotonic() < started + PATIENCE:
        for name in list(waiting):
            with site(name) as session:
                waiting[name] = arrived(session, top, wanted)
            if waiting[name] == len(wanted):
                print(f"{name:<14} has all {len(wanted)}, two copies of each, after {time.monotonic() - started:.1f} s")
                del waiting[name]
        time.sleep(0.5)
    for name, count in waiting.items():
        print(f"{name:<14} has {count} of {len(wanted)} after {PATIENCE:.0f} s; see its log")
    return 1 if waiting else 0


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as made:
        raise SystemExit(main(Path(sys.argv[1]) if sys.argv[1:] else made_up(Path(made))))
