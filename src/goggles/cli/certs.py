"""vg-certs: make, renew, revoke and check certificates.

vg-certs ca                                                  certs/rootCA.{key,crt}
vg-certs peer victor --role storage --hosts victor,10.0.0.7  certs/victor/victor.{key,crt}
vg-certs renew victor
vg-certs revoke victor
vg-certs check victor --host victor --role storage           why a handshake with it would fail
vg-certs check --connect victor:8001                         the same, asking the peer itself
"""

from __future__ import annotations

import argparse
import socket
import ssl
from collections.abc import Sequence
from pathlib import Path

from cryptography import x509

from goggles.cli.arguments import run
from goggles.clock import SystemClock
from goggles.errors import AlreadyExists, GogglesError, NotFound, SettingsError, Unavailable
from goggles.pki.authority import PEER_DAYS, Authority, load_bundle, load_certificate, uris_of
from goggles.pki.context import presented_by
from goggles.pki.doctor import Expected, Finding, diagnose, judge
from goggles.pki.identity import NAME, Identity
from goggles.roles import Role


def main(argv: Sequence[str] | None = None) -> int:
    """Do what was asked; the exit code: 0, 1 where a check finds something, 2 where the request is wrong."""
    options = _parser().parse_args(argv)
    return run("vg-certs", lambda: int(options.action(options)))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="vg-certs", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--folder", type=Path, default=Path("certs"), help="where everything is (default: %(default)s)")
    actions = parser.add_subparsers(required=True, metavar="ACTION")
    ca = actions.add_parser("ca", help="make the certificate authority")
    ca.add_argument("--site", default="goggles", help="name of the trust domain (default: %(default)s)")
    ca.set_defaults(action=_ca)
    peer = actions.add_parser("peer", help="issue a key and a certificate")
    peer.add_argument("name")
    peer.add_argument("--role", default="storage", help=", ".join(Role) + " (default: %(default)s)")
    peer.add_argument("--hosts", default="", help="host names and IP addresses, with commas (default: NAME,localhost)")
    peer.add_argument("--days", type=float, default=PEER_DAYS, help="how long it is valid (default: %(default)s)")
    peer.set_defaults(action=_peer)
    for word, action, text in (
        ("renew", _renew, "a new certificate for the same key"),
        ("revoke", _revoke, "let nobody in with it any more"),
        ("show", _show, "what a certificate says"),
    ):
        one = actions.add_parser(word, help=text)
        one.add_argument("name")
        one.set_defaults(action=action)
    _add_check(actions)
    return parser


def _add_check(actions: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    check = actions.add_parser("check", help="say why a handshake with a peer would fail")
    check.add_argument("name", nargs="?", default="", help="the peer, as in certs/NAME/NAME.crt")
    check.add_argument("--cert", type=Path, help="its certificate, where it is elsewhere")
    check.add_argument("--key", type=Path, help="its key")
    check.add_argument("--ca_cert", "--ca-cert", type=Path, help="the CA that the other side trusts")
    check.add_argument("--role", default="", help="the role that it should have")
    check.add_argument("--host", default="", help="the host name under which it is called")
    check.add_argument("--connect", default="", metavar="HOST:PORT", help="ask a running peer for its certificate")
    check.set_defaults(action=_check)


def _authority(options: argparse.Namespace) -> Authority:
    return Authority.load(options.folder / "rootCA.key", options.folder / "rootCA.crt")


def _certificate(options: argparse.Namespace) -> Path:
    path: Path = options.folder / options.name / f"{options.name}.crt"
    if not NAME.match(options.name) or not path.exists():
        raise NotFound(f"there is no certificate {path}", "issue it with: vg-certs peer NAME")
    return path


def _role(text: str) -> Role:
    if text not in set(Role):
        raise SettingsError(f"{text!r} is not a role", "roles: " + ", ".join(Role))
    return Role(text)


def _ca(options: argparse.Namespace) -> int:
    try:
        made = Authority.create(options.folder, options.site)
    except AlreadyExists as error:
        print(f"{error.message}: nothing to do")
        return 0
    print(f"made {options.folder}/rootCA.key and rootCA.crt for site {made.site}; keep the key to yourself")
    return 0


def _peer(options: argparse.Namespace) -> int:
    authority = _authority(options)
    if not NAME.match(options.name):
        raise SettingsError(f"{options.name!r} can not be a name", "letters, digits, dots, dashes, up to 63")
    identity = Identity(authority.site, _role(options.role), options.name)
    hosts = [host for host in (options.hosts or f"{options.name},localhost").split(",") if host]
    certificate, key = authority.issue(identity, hosts, options.days).write(options.folder / options.name)
    print(f"made {key} and {certificate.name}: {identity}, for {', '.join(hosts)}")
    return 0


def _renew(options: argparse.Namespace) -> int:
    new = _authority(options).renew(_certificate(options))
    print(f"renewed {_certificate(options)}, valid until {new.not_valid_after_utc:%Y-%m-%d}; no restart is needed")
    return 0


def _revoke(options: argparse.Namespace) -> int:
    authority = _authority(options)
    authority.revoke(load_certificate(_certificate(options)))
    print(f"revoked {_certificate(options)} in {authority.crl_path}; put that file beside rootCA.crt on every host")
    return 0


def _show(options: argparse.Namespace) -> int:
    own = load_certificate(_certificate(options))
    names = own.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    hosts = [str(n) for kind in (x509.DNSName, x509.IPAddress) for n in names.get_values_for_type(kind)]
    print(f"identity {Identity.from_names(uris_of(own))}")
    print(f"hosts    {', '.join(hosts)}")
    print(f"issuer   {own.issuer.rfc4514_string()}")
    print(f"valid    {own.not_valid_before_utc:%Y-%m-%d} to {own.not_valid_after_utc:%Y-%m-%d}")
    print(f"serial   {own.serial_number:X}")
    return 0


def _check(options: argparse.Namespace) -> int:
    if not options.connect and not options.cert and not options.name:
        raise SettingsError("what is to be checked?", "give NAME, --cert FILE, or --connect HOST:PORT")
    findings = _live(options) if options.connect else _offline(options)
    for finding in findings:
        print(f"{'BAD ' if finding.bad else 'note'} {finding}")
    bad = any(finding.bad for finding in findings)
    print("a handshake would fail" if bad else "nothing speaks against a handshake")
    return int(bad)


def _ca_file(options: argparse.Namespace) -> Path:
    return Path(options.ca_cert or options.folder / "rootCA.crt")


def _offline(options: argparse.Namespace) -> list[Finding]:
    certificate = options.cert or _certificate(options)
    key = options.key or (None if options.cert else certificate.with_suffix(".key"))
    expected = Expected(_role(options.role) if options.role else None, "", options.host)
    return diagnose(certificate, _ca_file(options), SystemClock(), key=key, expected=expected)


def _live(options: argparse.Namespace) -> list[Finding]:
    host, _, port = options.connect.rpartition(":")
    if not host or not port.isdigit():
        raise SettingsError(f"{options.connect!r} is not HOST:PORT")
    try:
        chain = presented_by(host, int(port))
    except ssl.SSLError as error:
        return [Finding(f"{options.connect} does not speak TLS 1.3: {error.reason or error}", "is it a goggles port?")]
    except (OSError, socket.gaierror) as error:
        raise Unavailable(f"nobody answers at {options.connect}: {error}") from error
    expected = Expected(_role(options.role) if options.role else None, options.name, options.host or host)
    try:
        authorities = load_bundle(_ca_file(options))
    except GogglesError as error:
        return [Finding(error.message, error.hint)]
    return judge(chain, authorities, _ca_file(options).with_suffix(".crl"), SystemClock(), None, expected)


if __name__ == "__main__":
    raise SystemExit(main())
