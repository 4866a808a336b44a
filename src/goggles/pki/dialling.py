"""What does a running peer show, and does it let us in?  For `vg-certs check --connect`.

Law: what is shown is looked at, not trusted; not a byte is said but the handshake.  In TLS 1.3 a server judges its
client after the client's side of the handshake is done, so its verdict is waited for.
"""

from __future__ import annotations

import contextlib
import ipaddress
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass

from cryptography import x509
from OpenSSL import SSL

from goggles.pki.context import ALPN, PkiFiles
from goggles.pki.doctor import Finding
from goggles.pki.pem import load_bundle, load_key

TLS_RECORDS = (0x14, 0x15, 0x16, 0x17)  # the first byte of each thing that TLS says
VERDICT = 1.0  # seconds without a refusal that count as being let in


@dataclass(frozen=True, slots=True)
class Shown:
    """The certificates that the peer presented, its own first, and what went wrong on the way."""

    chain: list[x509.Certificate]
    findings: list[Finding]


def ask(host: str, port: int, own: PkiFiles | None, seconds: float = 5.0, verdict: float = VERDICT) -> Shown:
    """Shake hands with `host`:`port` with our credentials (or none); CertificateError where those can not be read."""
    made = _context(own)
    try:
        plain = socket.create_connection((host, port), seconds)
    except TimeoutError:
        return _nothing(f"no answer within {seconds:g} s", "is the host up, and is there a firewall between?")
    except (OSError, OverflowError, UnicodeError) as error:
        return _nothing(f"nobody answers there: {error}", "is it running, and are host and port right?")
    with contextlib.closing(plain):
        return _Asking(plain, _connection(made, host)).ask(own is not None, seconds, verdict)


def _nothing(what: str, hint: str) -> Shown:
    return Shown([], [Finding(what, hint)])


def _context(own: PkiFiles | None) -> SSL.Context:
    made = SSL.Context(SSL.TLS_CLIENT_METHOD)
    made.set_min_proto_version(SSL.TLS1_3_VERSION)
    made.set_verify(SSL.VERIFY_NONE)
    if own is not None:
        leaf, *between = load_bundle(own.certfile)
        made.use_certificate(leaf)
        for each in between:
            made.add_extra_chain_cert(each)
        made.use_privatekey(load_key(own.keyfile))  # type: ignore[arg-type] # takes all keys that pki makes
    return made


def _connection(made: SSL.Context, host: str) -> SSL.Connection:
    connection = SSL.Connection(made, None)
    connection.set_alpn_protos([ALPN[0].encode()])
    try:
        ipaddress.ip_address(host)
    except ValueError:
        connection.set_tlsext_host_name(host.encode("idna"))
    connection.set_connect_state()
    return connection


class _Asking:
    """One handshake, TLS on one side of it and a plain socket on the other."""

    def __init__(self, plain: socket.socket, connection: SSL.Connection) -> None:
        self._plain = plain
        self._tls = connection
        self._first = b""  # what the peer said first

    def ask(self, with_own: bool, seconds: float, verdict: float) -> Shown:
        try:
            self._drive(self._tls.do_handshake, seconds)
        except TimeoutError:
            return _nothing(f"it says nothing within {seconds:g} s", "is it overloaded, or not a goggles port?")
        except (SSL.Error, OSError, EOFError) as error:
            return _nothing(*self._no_handshake(error))
        chain = list(self._tls.get_peer_cert_chain(as_cryptography=True) or [])
        if not with_own:
            return Shown(chain, [Finding("asked without a certificate: whether we are let in is not known", bad=False)])
        return Shown(chain, self._verdict(verdict))

    def _verdict(self, seconds: float) -> list[Finding]:
        try:
            self._drive(lambda: self._tls.recv(1), seconds)
        except TimeoutError:
            return []
        except SSL.ZeroReturnError:
            pass
        except SSL.Error as error:
            return [Finding(f"it refuses our certificate: {_words(error)}", "check ours in the eyes of its CA")]
        except (OSError, EOFError):
            pass
        else:
            return []
        hint = "is ours revoked there, or has it no name or the wrong role? its log says more"
        return [Finding("it hangs up right after the handshake", hint)]

    def _drive(self, step: Callable[[], object], seconds: float) -> None:
        deadline = time.monotonic() + seconds
        while True:
            try:
                step()
            except SSL.WantReadError:
                self._send()
                self._receive(deadline)
            else:
                self._send()
                return

    def _send(self) -> None:
        with contextlib.suppress(SSL.WantReadError):
            while data := self._tls.bio_read(65_536):
                self._plain.sendall(data)

    def _receive(self, deadline: float) -> None:
        self._plain.settimeout(max(0.001, deadline - time.monotonic()))
        data = self._plain.recv(65_536)
        if not data:
            raise EOFError
        self._first = self._first or data[:20]
        self._tls.bio_write(data)

    def _no_handshake(self, error: Exception) -> tuple[str, str]:
        hint = "is it a goggles port?"
        if self._first and self._first[0] not in TLS_RECORDS:
            return f"it does not speak TLS: it says {self._first!r}", hint
        if isinstance(error, SSL.Error):
            return f"no TLS 1.3 with it: {_words(error)}", hint
        return "it hangs up in the handshake", hint


def _words(error: SSL.Error) -> str:
    reasons = [str(part[-1]) for part in (error.args[0] if error.args else ()) if part]
    return ", ".join(reasons) or type(error).__name__
