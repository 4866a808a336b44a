"""vg-certs: make, renew, revoke and check certificates.

vg-certs ca                                                  certs/rootCA.{key,crt}
vg-certs peer victor --role storage --hosts victor,10.0.0.7  certs/victor/victor.{key,crt}
vg-certs renew victor
vg-certs revoke victor
vg-certs check victor --host victor --role storage           why a handshake with it would fail
vg-certs check --connect victor:8001 --as ann                the same, asking the peer itself, as ann
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from goggles.cli import parsing
from goggles.cli.arguments import run
from goggles.clock import SystemClock
from goggles.errors import AlreadyExists, CertificateError, SettingsError
from goggles.log import escape
from goggles.pki.authority import CA_NAME, PEER_DAYS, Authority
from goggles.pki.context import PkiFiles
from goggles.pki.dialling import ask
from goggles.pki.doctor import Expected, Finding, diagnose, judge
from goggles.pki.identity import NAME, Identity
from goggles.pki.pem import hosts_of, load_bundle, load_certificate, uris_of
from goggles.roles import Role

MAX_PORT = 65_535


def main(argv: Sequence[str] | None = None) -> int:
    """Do what was asked; the exit code: 0, 1 where a check finds something, 2 where the request is wrong."""

    def program() -> int:
        options = _parser().parse_args(argv)
        return int(options.action(options))

    return run("vg-certs", program)


def _parser() -> argparse.ArgumentParser:
    parser = parsing.parser("vg-certs", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, default=Path("certs"), help="where everything is (default: %(default)s)")
    actions = parser.add_subparsers(required=True, metavar="ACTION")
    ca = _action(actions, "ca", "make the certificate authority")
    ca.add_argument("--site", default="goggles", help="name of the trust domain (default: %(default)s)")
    ca.set_defaults(action=_ca)
    peer = _action(actions, "peer", "issue a key and a certificate")
    peer.add_argument("--role", default="storage", help=", ".join(Role) + " (default: %(default)s)")
    peer.add_argument("--hosts", default="", help="host names and IP addresses, with commas (default: NAME,localhost)")
    peer.set_defaults(action=_peer)
    renew = _action(actions, "renew", "a new certificate for the same key")
    renew.set_defaults(action=_renew)
    revoke = _action(actions, "revoke", "let nobody in with it any more")
    revoke.set_defaults(action=_revoke)
    show = _action(actions, "show", "what a certificate says")
    show.set_defaults(action=_show)
    for one in (peer, renew, revoke, show):
        one.add_argument("name", help="the peer, as in certs/NAME/NAME.crt")
    for one in (peer, renew):
        one.add_argument("--days", type=_days, default=PEER_DAYS, help="how long it is valid (default: %(default)s)")
    _add_check(actions)
    return parser


def _action(actions: argparse._SubParsersAction[parsing.Parser], name: str, does: str) -> parsing.Parser:
    return actions.add_parser(name, help=does, description=f"{does.capitalize()}.")


def _add_check(actions: argparse._SubParsersAction[parsing.Parser]) -> None:
    check = _action(actions, "check", "say why a handshake with a peer would fail")
    check.add_argument("name", nargs="?", default="", help="the peer, as in certs/NAME/NAME.crt")
    check.add_argument("--cert", type=Path, help="its certificate, where it is elsewhere; with --connect: ours")
    check.add_argument("--key", type=Path, help="its key; with --connect: ours")
    check.add_argument("--ca_cert", "--ca-cert", type=Path, help="the CA that the other side trusts")
    check.add_argument("--role", default="", help="the role that it should have")
    check.add_argument("--host", default="", help="the host name under which it is called")
    check.add_argument("--connect", default="", metavar="HOST:PORT", help="ask a running peer for its certificate")
    check.add_argument("--as", dest="own", default="", metavar="OWN", help="with --connect: ask as certs/OWN/OWN.crt")
    check.set_defaults(action=_check)


def _days(text: str) -> float:
    days = float(text)
    if not 0 < days < 100_000:
        raise ValueError
    return days


_days.__name__ = "number of days"  # argparse says: invalid number of days value


def _authority(options: argparse.Namespace) -> Authority:
    return Authority.load(options.folder / f"{CA_NAME}.key", options.folder / f"{CA_NAME}.crt")


def _certificate(options: argparse.Namespace, name: str) -> Path:
    path: Path = options.folder / name / f"{name}.crt"
    if not NAME.match(name) or not path.exists():
        raise CertificateError(f"there is no certificate {path}", "issue it with: vg-certs peer NAME")
    return path


def _role(text: str) -> Role | None:
    if text and text not in set(Role):
        raise SettingsError(f"{text!r} is not a role", "roles: " + ", ".join(Role))
    return Role(text) if text else None


def _ca(options: argparse.Namespace) -> int:
    try:
        made = Authority.create(options.folder, options.site)
    except AlreadyExists as error:
        print(f"{error.message}: nothing to do")
        return 0
    print(f"made {options.folder}/{CA_NAME}.key and {CA_NAME}.crt for site {made.site}; keep the key to yourself")
    return 0


def _peer(options: argparse.Namespace) -> int:
    authority = _authority(options)
    if not NAME.match(options.name):
        raise SettingsError(f"{options.name!r} can not be a name", "letters, digits, dots, dashes, up to 63")
    identity = Identity(authority.site, _role(options.role) or Role.STORAGE, options.name)
    hosts = [host.strip() for host in (options.hosts or f"{options.name},localhost").split(",") if host.strip()]
    certificate, key = authority.issue(identity, hosts, options.days).write(options.folder / options.name)
    print(f"made {key} and {certificate.name}: {identity}, for {', '.join(hosts)}")
    return 0


def _renew(options: argparse.Namespace) -> int:
    path = _certificate(options, options.name)
    new = _authority(options).renew(path, options.days)
    print(f"renewed {path}, valid until {new.not_valid_after_utc:%Y-%m-%d}; no restart is needed")
    return 0


def _revoke(options: argparse.Namespace) -> int:
    authority, path = _authority(options), _certificate(options, options.name)
    new = authority.revoke(load_certificate(path))
    said = f"revoked {path}" if new else f"{path} was revoked already"
    more = f" and {new - 1} issued to that name before it" if new > 1 else ""
    print(f"{said}{more} in {authority.crl_path}; put that file beside {CA_NAME}.crt on every host")
    return 0


def _show(options: argparse.Namespace) -> int:
    own = load_certificate(_certificate(options, options.name))
    print(escape(f"names    {', '.join(uris_of(own))}"))
    print(escape(f"hosts    {', '.join(hosts_of(own))}"))
    print(escape(f"issuer   {own.issuer.rfc4514_string()}"))
    print(f"valid    {own.not_valid_before_utc:%Y-%m-%d} to {own.not_valid_after_utc:%Y-%m-%d}")
    print(f"serial   {own.serial_number:X}")
    return 0


def _check(options: argparse.Namespace) -> int:
    if not options.connect and not options.cert and not options.name:
        raise SettingsError("what is to be checked?", "give NAME, --cert FILE, or --connect HOST:PORT")
    findings = _live(options) if options.connect else _offline(options)
    for finding in findings:
        print(escape(f"{'BAD ' if finding.bad else 'note'} {finding}"))
    bad = any(finding.bad for finding in findings)
    print("a handshake would fail" if bad else "nothing speaks against a handshake")
    return int(bad)


def _ca_file(options: argparse.Namespace) -> Path:
    return Path(options.ca_cert or options.folder / f"{CA_NAME}.crt")


def _offline(options: argparse.Namespace) -> list[Finding]:
    certificate = options.cert or _certificate(options, options.name)
    key = options.key or (None if options.cert else certificate.with_suffix(".key"))
    expected = Expected(_role(options.role), "", options.host)
    return diagnose(certificate, _ca_file(options), SystemClock(), key=key, expected=expected)


def _live(options: argparse.Namespace) -> list[Finding]:
    host, port = _address(options.connect)
    expected = Expected(_role(options.role), options.name, options.host or host)
    authorities = load_bundle(_ca_file(options))
    shown = ask(host, port, _own(options))
    if not shown.chain:
        return shown.findings
    first = shown.chain[0]
    names = ", ".join(uris_of(first)) or "no name"
    what = f"it shows {names}, for {', '.join(hosts_of(first)) or 'no host'}, by {first.issuer.rfc4514_string()}"
    crl = _ca_file(options).with_suffix(".crl")
    judged = judge(shown.chain, authorities, crl, SystemClock(), None, expected)
    return [Finding(what, bad=False), *judged, *shown.findings]


def _address(text: str) -> tuple[str, int]:
    host, _, port = text.rpartition(":")
    host = host.removeprefix("[").removesuffix("]")
    if not host or not port.isdecimal() or not 0 < int(port) <= MAX_PORT:
        raise SettingsError(f"{text!r} is not HOST:PORT", "as in victor:8001 or [::1]:8001")
    return host, int(port)


def _own(options: argparse.Namespace) -> PkiFiles | None:
    """What we show when we ask a running peer."""
    if not options.own and not options.cert:
        return None
    certificate = options.cert or _certificate(options, options.own)
    return PkiFiles(_ca_file(options), certificate, options.key or certificate.with_suffix(".key"))


if __name__ == "__main__":
    raise SystemExit(main())
