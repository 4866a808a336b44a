"""Set up the network of network.toml: the one-shot services of docker-compose.librarians.yml.

    network.py prepare      certificates and schedules, each into the volume of its host (as certificates.py, root)
    network.py connect      accounts and peers; then where the program `librarian` finds the sites

Law: what is there stays, so both may run again.  Passwords are made here, and are in the databases and in the volume
of the administrator alone.
"""

from __future__ import annotations

import json
import os
import secrets
import sys
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from certificates import HOSTS, OWNER, authority, hand_out, put

from goggles.errors import AlreadyExists
from goggles.pki.context import Contexts, PkiFiles
from goggles.roles import Role
from goggles.wire.dial import Address, Dialer, Peer

PORT = 8000
NETWORK: dict[str, dict[str, Any]] = tomllib.loads(Path(__file__).with_name("network.toml").read_text())
CONNECTIONS = Path("/certs/librarians.json")
EVERY_SECOND = ("consume_queue", "check_consumed_queue", "receive_clone")


def links() -> list[tuple[str, str]]:
    """(who pushes, to whom)."""
    return [(source, target) for source, site in NETWORK.items() for target in site["pushes_to"]]


def neighbours(site: str) -> list[str]:
    return [b if a == site else a for a, b in links() if site in (a, b)]


# --- prepare ---------------------------------------------------------------------------------


def prepare() -> None:
    os.chown(HOSTS / "admin", 0, 0)
    for site, known in NETWORK.items():
        ca = authority(site)
        hand_out(ca, HOSTS / site, "nameserver", Role.NAMESERVER, site)
        hand_out(ca, HOSTS / site, "librarian", Role.LIBRARIAN, site)
        hand_out(ca, HOSTS / "admin" / site, "admin", Role.ADMIN)
        for storage in known["storages"]:
            hand_out(ca, HOSTS / storage, storage, Role.STORAGE)
    for site, known in NETWORK.items():
        trusted = b"".join((HOSTS / other / "rootCA.crt").read_bytes() for other in neighbours(site))
        for host in (site, *known["storages"]):
            put(HOSTS / host / "peers.crt", trusted)
        put(HOSTS / site / "schedule.json", json.dumps(schedule(known["pushes_to"]), indent=2).encode())
    os.chown(HOSTS / "admin", OWNER, OWNER)  # `connect` writes there
    print("every host has its certificates")


def schedule(targets: list[str]) -> dict[str, list[dict[str, Any]]]:
    """The background tasks of a site, quicker than one would have them elsewhere."""
    tasks: dict[str, list[dict[str, Any]]] = {
        kind: [{"task_name": kind.replace("_", " "), "every": "00:00:01"}] for kind in EVERY_SECOND
    }
    tasks["send_clone"] = [
        {"task_name": f"send to {target}", "every": "00:00:02", "destination_librarian": target} for target in targets
    ]
    for kind in ("outgoing_transfer_hypervisor", "incoming_transfer_hypervisor", "corruption_fixer"):
        tasks[kind] = [{"task_name": kind.replace("_", " "), "every": "00:01:00"}]
    return tasks


# --- connect ---------------------------------------------------------------------------------


@contextmanager
def administrator(site: str) -> Iterator[Peer]:
    folder = Path("certs") / site
    files = PkiFiles(folder / "rootCA.crt", folder / "admin" / "admin.crt", folder / "admin" / "admin.key")
    peer = Dialer(Contexts(files)).rpc(Address(site, PORT), Role.NAMESERVER)
    try:
        yield peer
    finally:
        peer.close()


def account(site: str, name: str, level: str) -> str:
    """The password of an account, which is made anew where there is one."""
    password = secrets.token_urlsafe(18)
    with administrator(site) as peer:
        try:
            peer.call("create_user", name, password, level)
        except AlreadyExists:
            peer.call("update_user", name, password, level)
    return password


def connect() -> None:
    for source, target in links():
        if knows(source, target) and knows(target, source):
            continue
        there, here = account(target, source, "READAPPEND"), account(source, target, "CALLBACK")
        introduce(source, target, f"{source}:{there}")
        introduce(target, source, f"{target}:{here}")
        print(f"{source} pushes to {target}")
    if not CONNECTIONS.exists():
        write_connections()
    print("the network is set up")


def knows(site: str, other: str) -> bool:
    with administrator(site) as peer:
        return other in {dict(row)["name"] for row in peer.call("get_librarian_list")}


def introduce(site: str, other: str, authenticator: str) -> None:
    """Make `other` known to a site, anew where it was known with another password."""
    known = knows(site, other)
    with administrator(site) as peer:
        if known:
            peer.call("remove_librarian", other)
        peer.call("add_librarian", other, f"https://{other}", PORT, authenticator)


def write_connections() -> None:
    """For `librarian`: each site by its name, with an account of an administrator."""
    known = {}
    for site in NETWORK:
        known[site] = {
            "url": f"https://{site}:{PORT}/",
            "authenticator": f"demo:{account(site, 'demo', 'ADMIN')}",
            "ca_cert": f"{site}/rootCA.crt",
            "certfile": f"{site}/admin/admin.crt",
            "keyfile": f"{site}/admin/admin.key",
        }
    hidden = CONNECTIONS.with_suffix(".new")
    hidden.write_text(json.dumps({"connections": known}, indent=2))
    os.chmod(hidden, 0o440)
    hidden.replace(CONNECTIONS)


if __name__ == "__main__":
    {"prepare": prepare, "connect": connect}[sys.argv[1]]()
