"""Give each host of the demo its certificate: the one-shot service `certificates` of docker-compose.yml.

    certificates.py SITE NAME:ROLE [NAME:ROLE ...]

Law: the key of the CA is in the volume at /ca and nowhere else; the key of a host is in that host's volume, at
/hosts/NAME, and nowhere else.  What is there and good for another month stays; a renewed certificate keeps its key.
Runs as root, because the volumes are root's; of all that root may do it needs CHOWN alone, and no network.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from goggles.clock import SystemClock
from goggles.pki.authority import Authority
from goggles.pki.identity import Identity
from goggles.pki.pem import load_certificate, write_file
from goggles.roles import Role

CA = Path("/ca")
HOSTS = Path("/hosts")
OWNER = 10001  # of the programs, as in the Dockerfile
MONTH = 30 * 86_400


def authority(site: str) -> Authority:
    """The site's CA, made when there is none."""
    folder = CA / site
    if (folder / "rootCA.key").exists():
        return Authority.load(folder / "rootCA.key", folder / "rootCA.crt")
    print(f"a new certificate authority for site {site}")
    return Authority.create(folder, site)


def hand_out(ca: Authority, home: Path, name: str, role: Role, host: str = "") -> None:
    """NAME/NAME.crt and its key for `host`, and what others are checked with, into `home`."""
    certificate, key = home / name / f"{name}.crt", home / name / f"{name}.key"
    mine, trusted = CA / ca.site / "rootCA.crt", home / "rootCA.crt"
    if certificate.exists() and key.exists() and trusted.exists() and trusted.read_bytes() == mine.read_bytes():
        left = load_certificate(certificate).not_valid_after_utc.timestamp() - SystemClock().now()
        if left < MONTH:
            ca.renew(certificate)
            print(f"{name} of {ca.site}: renewed")
    else:
        home.mkdir(exist_ok=True)
        ca.issue(Identity(ca.site, role, name), [host or name]).write(home / name)
        give(key, 0o400 if role is not Role.ADMIN else 0o440)
        print(f"{name} of {ca.site}: made")
    for public in (mine, mine.with_suffix(".crl")):
        if public.exists():
            put(home / public.name, public.read_bytes())


def put(file: Path, data: bytes) -> None:
    """Write what anybody may read, unless it is there already."""
    if not file.exists() or file.read_bytes() != data:
        write_file(file, data, 0o644)


def give(file: Path, mode: int) -> None:
    """A file to the programs.  A shell that runs as somebody else reads what it may through its group."""
    os.chmod(file, mode)
    os.chown(file, OWNER, OWNER)


def main(site: str, *hosts: str) -> int:
    ca = authority(site)
    for host in hosts:
        name, _, role = host.partition(":")
        hand_out(ca, HOSTS / name, name, Role(role))
    print(f"every host of site {site} has its certificate")
    return 0


if __name__ == "__main__":
    raise SystemExit(main(*sys.argv[1:]))
