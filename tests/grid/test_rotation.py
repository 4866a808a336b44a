"""Certificates and the CA are replaced while the site runs; who is at work notices nothing (docs/certificates.md)."""

from __future__ import annotations

import os
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from goggles.client.session import Session, connect
from goggles.errors import CertificateError, GogglesError
from goggles.pki.authority import Authority
from goggles.pki.dialling import ask
from goggles.pki.identity import Identity
from goggles.pki.pem import load_certificate
from goggles.roles import Role
from goggles.testing.cluster import HOSTS, Cluster, wait_until

Factory = Callable[..., Cluster]
ROLES = {"nameserver": Role.NAMESERVER, "alice": Role.STORAGE, "bob": Role.STORAGE, "ann": Role.CLIENT}
ROLES |= {"admin": Role.ADMIN}  # as whom the site is watched
NOTICED = 3.0  # seconds in which every program has looked at its files again


@contextmanager
def at_work(fs: Session, leaves: str = "") -> Iterator[list[str]]:
    """Somebody who puts, reads, and removes all the time; what was done, and no error at the end.

    `leaves`: a storage that is revoked.  In the second in which the others know it and the nameserver has not cut it
    off, it may take a file of which it can pass on no copy: that one waits for it."""
    ended, done, errors = threading.Event(), list[str](), list[tuple[str, GogglesError]]()

    def work() -> None:
        while not ended.is_set():
            path, data = f"/work-{len(done)}", os.urandom(20_000)
            try:
                fs.write(path, data)
                assert b"".join(fs.read(path)) == data
            except GogglesError as error:
                errors.append((path, error))
            done.append(path)

    worker = threading.Thread(target=work)
    worker.start()
    try:
        yield done
    finally:
        ended.set()
        worker.join()
    assert [error for path, error in errors if not leaves or fs.locations(path) != [leaves]] == []


def more_work(done: list[str]) -> None:
    """Return when a few files more were put and read."""
    wanted = len(done) + 3
    wait_until("somebody works", lambda: len(done) >= wanted, 20)


def reissue(authority: Authority, folder: Path, name: str) -> None:
    """A new key and certificate where the old ones are, the key first: for a moment they do not fit."""
    made = authority.issue(Identity(authority.site, ROLES[name], name), [name, *HOSTS])
    (folder / name / f"{name}.key").write_bytes(made.key)
    time.sleep(0.2)
    (folder / name / f"{name}.crt").write_bytes(made.certificate)


def as_ann(site: Cluster, folder: Path) -> Session:
    """A session of Ann's, with what lies in `folder`."""
    files = {"ca_cert": site.certificates.ca, "certfile": folder / "ann.crt", "keyfile": folder / "ann.key"}
    return connect("localhost", site.port, timeout=1, **files)


def may_come(site: Cluster, folder: Path) -> bool:
    try:
        as_ann(site, folder).close()
    except GogglesError:
        return False
    return True


def shown(site: Cluster, name: str) -> int:
    """The serial number of the certificate that a server shows."""
    port = site.port if name == "nameserver" else site.ports[name]
    return ask("localhost", port, None).chain[0].serial_number


def all_active(site: Cluster) -> bool:
    return all(state == "active" for state in site.states().values())


def test_a_new_ca_is_brought_in_and_the_old_one_taken_out_while_all_work(cluster: Factory, tmp_path: Path) -> None:
    site = cluster("alice", "bob")
    home, old = site.certificates.folder, site.certificates.ca.read_bytes()
    fs = site.connect("ann", Role.CLIENT)
    shutil.copytree(home / "ann", tmp_path / "old ann")
    new = Authority.create(tmp_path / "new", site.site)
    with at_work(fs) as done:
        (home / "rootCA.crt").write_bytes(old + (tmp_path / "new" / "rootCA.crt").read_bytes())
        time.sleep(NOTICED)
        for name in ROLES:
            reissue(new, home, name)
            more_work(done)
            assert all_active(site)
        assert may_come(site, tmp_path / "old ann")
        (home / "rootCA.crt").write_bytes((tmp_path / "new" / "rootCA.crt").read_bytes())
        wait_until("the old CA counts no more", lambda: not may_come(site, tmp_path / "old ann"), 10)
        more_work(done)
        assert all_active(site)
        assert may_come(site, home / "ann")
    for process in [site.nameserver, *site.storages.values()]:  # nobody lives on what was there before
        assert process is not None
        process.kill()
    site.start_nameserver()
    for name in site.names:
        site.start_storage(name)
    site.wait_active(site.names, 30)
    assert len(fs.listdir("/")) == len(done)


def test_each_program_takes_a_new_key_and_certificate_while_all_work(cluster: Factory) -> None:
    site = cluster("alice", "bob")
    home = site.certificates.folder
    fs = site.connect("ann", Role.CLIENT)
    authority = Authority.load(home / "rootCA.key", home / "rootCA.crt")
    with at_work(fs) as done:
        for name in ROLES:
            reissue(authority, home, name)
            if ROLES[name] in (Role.NAMESERVER, Role.STORAGE):
                serial = load_certificate(home / name / f"{name}.crt").serial_number
                wait_until(f"{name} shows its new certificate", lambda: shown(site, name) == serial, 10)  # noqa: B023
            more_work(done)
            assert all_active(site)


def test_certificates_are_revoked_while_others_work(cluster: Factory) -> None:
    """First a user's, then a storage's: both are out, and nobody else notices."""
    site = cluster("alice", "bob", "carol", tidily=False)
    home = site.certificates.folder
    authority = Authority.load(home / "rootCA.key", home / "rootCA.crt")
    fs = site.connect("ann", Role.CLIENT)
    victor, key = site.certificates.files("victor", Role.CLIENT)
    files = {"ca_cert": site.certificates.ca, "certfile": victor, "keyfile": key}
    his = connect("localhost", site.port, timeout=1, **files)
    with at_work(fs, leaves="carol") as done:
        his.ls("/")
        authority.revoke(load_certificate(victor))
        wait_until("victor is cut off", lambda: refused(his), 15)
        more_work(done)
        authority.revoke(load_certificate(home / "carol" / "carol.crt"))
        wait_until("carol is out", lambda: site.states().get("carol") in ("grace", "down"), 20)
        more_work(done)
        assert (site.states()["alice"], site.states()["bob"]) == ("active", "active")
    his.close()
    assert all(b"".join(fs.read(path)) for path in done[-2:])


def refused(fs: Session) -> bool:
    try:
        fs.ls("/")
    except GogglesError:
        return True
    return False


def test_a_certificate_that_ran_out_is_renewed_and_the_site_heals_without_a_restart(cluster: Factory) -> None:
    site = cluster("alice", "bob")
    home = site.certificates.folder
    authority = Authority.load(home / "rootCA.key", home / "rootCA.crt")
    fs = site.connect("ann", Role.CLIENT)
    fs.write("/file", b"kept")
    made = authority.issue(Identity(site.site, Role.NAMESERVER, "nameserver"), HOSTS, days=8 / 86_400)
    made.write(home / "passing")
    for kind in ("key", "crt"):
        (home / "passing" / f"nameserver.{kind}").replace(home / "nameserver" / f"nameserver.{kind}")
    assert wait_for_refusal(site, home / "ann") == "whoever runs it renews it: vg-certs renew"
    assert b"".join(fs.read("/file")) == b"kept", "connections that stand go on"
    site.storages["bob"].kill()
    site.start_storage("bob")
    wait_until("bob can not come back", lambda: "has expired" in site.storages["bob"].log.read_text(), 20)
    assert site.states()["bob"] != "active"
    authority.renew(home / "nameserver" / "nameserver.crt")
    site.wait_active(site.names, 30)
    assert may_come(site, home / "ann")


def wait_for_refusal(site: Cluster, folder: Path) -> str:
    """The hint of the error that a client gets once the nameserver's certificate has run out."""
    hints: list[str] = []

    def refused() -> bool:
        try:
            as_ann(site, folder).close()
        except CertificateError as error:
            hints.append(error.hint)
        return bool(hints)

    wait_until("the certificate of the nameserver has run out", refused, 20)
    return hints[0]
