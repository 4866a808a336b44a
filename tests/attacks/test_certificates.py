"""Certificates that are not what they should be, shown to our servers and shown to our clients; older TLS."""

from __future__ import annotations

import datetime
import ssl
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from tests.attacks.conftest import calls, files
from tests.attacks.hostile import Calls, Gone

from goggles.errors import CertificateError, ConnectionLost
from goggles.pki.authority import Authority, load_certificate
from goggles.pki.context import Contexts, PkiFiles
from goggles.pki.identity import Identity
from goggles.roles import Level, Role
from goggles.testing.cluster import Certificates, Cluster, wait_until
from goggles.wire.dial import Address, Dialer
from goggles.wire.server import Doors, Server
from goggles.wire.service import Service

Pair = tuple[Path, Path]
NOW = datetime.datetime.now(datetime.UTC)
DAY = datetime.timedelta(days=1)


class Forger:
    """Makes certificates of all kinds beside those of a site."""

    def __init__(self, site: Certificates, folder: Path) -> None:
        self.site = site
        self.folder = folder
        self.key = serialization.load_pem_private_key((site.folder / "rootCA.key").read_bytes(), None)
        self.ca = load_certificate(site.ca)

    def make(
        self,
        name: str,
        uris: tuple[str, ...],
        start: datetime.datetime = NOW - DAY,
        end: datetime.datetime = NOW + DAY,
        *,
        host: str = "localhost",
        issuer: Pair | None = None,
        own: bool = False,
    ) -> Pair:
        """`issuer`: signed by this certificate, which is no CA.  `own`: signed by itself."""
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
        above, signer = self.ca.subject, self.key
        if issuer is not None:
            above = load_certificate(issuer[0]).subject
            signer = serialization.load_pem_private_key(issuer[1].read_bytes(), None)
        names = [x509.DNSName(host), *map(x509.UniformResourceIdentifier, uris)]
        builder = x509.CertificateBuilder(
            subject if own else above, subject, key.public_key(), x509.random_serial_number()
        )
        builder = builder.not_valid_before(start).not_valid_after(end)
        builder = builder.add_extension(x509.SubjectAlternativeName(names), False)
        made = builder.sign(key if own else signer, hashes.SHA256())  # type: ignore[arg-type]
        chain = issuer[0].read_bytes() if issuer is not None else b""
        place = self.folder / f"{name}.crt", self.folder / f"{name}.key"
        place[0].write_bytes(made.public_bytes(serialization.Encoding.PEM) + chain)
        form = serialization.PrivateFormat.PKCS8
        place[1].write_bytes(key.private_bytes(serialization.Encoding.PEM, form, serialization.NoEncryption()))
        return place

    def stranger(self, name: str, site: str) -> Pair:
        """The same name from a CA of the same name."""
        home = self.folder / f"{name}-ca"
        other = Authority.create(home, site)
        return other.issue(Identity(site, Role.CLIENT, name), ["localhost"]).write(home / name)


def bad(forger: Forger, role: str, leaf: Pair, revoked: Pair) -> dict[str, Pair]:
    """Certificates that nobody may accept in this role."""
    uri = f"spiffe://goggles/{role}/someone"
    return {
        "another CA of the same name": forger.stranger("someone", "goggles"),
        "another CA": forger.stranger("other", "elsewhere"),
        "signed by itself": forger.make("self", (uri,), own=True),
        "expired": forger.make("old", (uri,), NOW - 3 * DAY, NOW - DAY),
        "not yet valid": forger.make("early", (uri,), NOW + DAY, NOW + 3 * DAY),
        "no name of ours": forger.make("bare", ()),
        "two names": forger.make("two", (uri, f"spiffe://goggles/{role}/another")),
        "a role that there is not": forger.make("king", ("spiffe://goggles/king/someone",)),
        "a name with a slash": forger.make("slash", (f"{uri}/more",)),
        "a name with dots": forger.make("dots", (f"spiffe://goggles/{role}/../admin",)),
        "another site of our CA": forger.make("site", (f"spiffe://elsewhere/{role}/someone",)),
        "look-alike": forger.make("alike", (f"SPIFFE://goggles/{role}/someone",)),
        "signed by a client": forger.make("deep", (uri,), issuer=leaf),
        "revoked": revoked,
    }


@pytest.fixture(scope="module")
def forged(site: Cluster, tmp_path_factory: pytest.TempPathFactory) -> dict[Role, dict[str, Pair]]:
    """For an administrator who comes, and for a nameserver that is called."""
    authority = Authority.load(site.certificates.folder / "rootCA.key", site.certificates.ca)
    made = {}
    for role in (Role.ADMIN, Role.NAMESERVER):
        revoked = files(site, f"revoked-{role}", role)
        authority.revoke(load_certificate(revoked[0]))
        forger = Forger(site.certificates, tmp_path_factory.mktemp("forged"))
        made[role] = bad(forger, role, files(site, "mallory"), revoked)
    return made


def let_in(port: int, pair: Pair) -> bool:
    """Whether somebody with this certificate is answered."""
    try:
        with Calls(port, pair) as line:
            line.get_root()
    except TimeoutError:
        raise
    except (OSError, Gone):
        return False
    return True


def test_no_server_lets_in_who_shows_a_bad_certificate(site: Cluster, forged: dict[Role, dict[str, Pair]]) -> None:
    ports = [site.port, site.ports["alice"]]
    assert all(let_in(port, files(site)) for port in ports), "a good one is let in"
    revoked = forged[Role.ADMIN]["revoked"]  # servers look at the list about once a second
    wait_until("the list of the revoked", lambda: not any(let_in(port, revoked) for port in ports), 10)
    assert [(case, port) for case, pair in forged[Role.ADMIN].items() for port in ports if let_in(port, pair)] == []


def test_a_certificate_without_its_key_is_of_no_use(site: Cluster, tmp_path: Path) -> None:
    certificate, _ = files(site, "admin", Role.ADMIN)
    _, key = files(site)
    with pytest.raises(ssl.SSLError):
        Calls(site.port, (certificate, key))


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_1, ssl.TLSVersion.TLSv1_2])
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_older_tls_is_refused(site: Cluster, version: ssl.TLSVersion) -> None:
    import socket

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.load_cert_chain(*files(site))
    context.minimum_version = ssl.TLSVersion.TLSv1
    context.maximum_version = version
    context.set_ciphers("ALL:@SECLEVEL=0")
    for port in (site.port, site.ports["alice"]):
        with socket.create_connection(("127.0.0.1", port), 10) as plain, pytest.raises((ssl.SSLError, OSError)):
            context.wrap_socket(plain)


def test_what_is_agreed_is_tls_1_3_and_is_not_agreed_anew(site: Cluster) -> None:
    with calls(site) as line:
        assert line.sock.version() == "TLSv1.3"  # which has no renegotiation, and no compression
        assert line.sock.compression() is None


# --- shown to our clients ---------------------------------------------------------------------


@pytest.fixture
def impostor(site: Cluster) -> Iterator[Callable[[Pair], int]]:
    """Serves with any certificate, at any role; nothing is checked of who comes."""
    servers: list[Server] = []

    def serve(pair: Pair) -> int:
        contexts = Contexts(PkiFiles(site.certificates.ca, *files(site, "nameserver", Role.NAMESERVER)))
        contexts.server().load_cert_chain(*pair)
        server = Server("127.0.0.1", 0, contexts, Doors(Service, lambda who: Level.NONE))
        server.start()
        servers.append(server)
        return server.port

    yield serve
    for server in servers:
        server.stop()


def test_no_client_speaks_to_a_server_with_a_bad_certificate(
    site: Cluster, forged: dict[Role, dict[str, Pair]], impostor: object
) -> None:
    assert callable(impostor)
    dialer = Dialer(Contexts(PkiFiles(site.certificates.ca, *files(site, "ann"))))
    wrong = {
        "a client": files(site, "mallory"),
        "an admin": files(site, "admin", Role.ADMIN),
        "a storage": files(site, "alice", Role.STORAGE),
        "a librarian": files(site, "librarian", Role.LIBRARIAN),
        **forged[Role.NAMESERVER],
    }
    spoken_to = []
    for case, pair in wrong.items():
        port = impostor(pair)
        try:
            dialer.rpc(Address("localhost", port), Role.NAMESERVER).close()
            spoken_to.append(case)
        except (CertificateError, ConnectionLost):
            continue
    assert spoken_to == []


def test_the_name_of_another_storage_and_of_another_host_is_noticed(
    site: Cluster, impostor: object, tmp_path: Path
) -> None:
    assert callable(impostor)
    dialer = Dialer(Contexts(PkiFiles(site.certificates.ca, *files(site, "ann"))))
    port = impostor(files(site, "alice", Role.STORAGE))
    dialer.rpc(Address("localhost", port), Role.STORAGE, "alice").close()
    with pytest.raises(CertificateError, match="not storage bob"):
        dialer.rpc(Address("localhost", port), Role.STORAGE, "bob")
    elsewhere = Forger(site.certificates, tmp_path).make("bob", ("spiffe://goggles/storage/bob",), host="elsewhere")
    with pytest.raises(CertificateError, match="refused"):
        dialer.rpc(Address("localhost", impostor(elsewhere)), Role.STORAGE, "bob")
