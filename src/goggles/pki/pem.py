"""PEM files, and what stands in a certificate.

Law: a file appears whole or not at all, and is never readable by others than it should be, not for a moment.  What can
not be read or makes no sense is a CertificateError that names the file.
"""

from __future__ import annotations

import os
import secrets
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes

from goggles.errors import AlreadyExists, CertificateError, LocalFileError


def write_file(path: Path, data: bytes, mode: int, *, replace: bool = True) -> None:
    """Write `data` to `path`, there whole or not at all, and never readable by more than `mode` says.

    Raises LocalFileError, and AlreadyExists where a file is there that is not to be replaced."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        hidden = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
        try:
            _write_through(os.open(hidden, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), data)
            (os.replace if replace else os.link)(hidden, path)
        finally:
            hidden.unlink(missing_ok=True)
        _sync_folder(path.parent)
    except OSError as error:
        if isinstance(error, FileExistsError) and not replace and path.exists():
            raise AlreadyExists(f"{path} exists already", "nothing was changed") from error
        raise LocalFileError(f"{path} can not be written: {error.strerror}") from error


def _write_through(descriptor: int, data: bytes) -> None:
    with open(descriptor, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def _sync_folder(path: Path) -> None:
    folder = os.open(path, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def load_certificate(path: Path) -> x509.Certificate:
    """The first certificate in a PEM file, or CertificateError."""
    return load_bundle(path)[0]


def load_bundle(path: Path) -> list[x509.Certificate]:
    """All certificates in a PEM file, or CertificateError."""
    try:
        return x509.load_pem_x509_certificates(path.read_bytes())
    except OSError as error:
        raise CertificateError(f"{path} can not be read: {error.strerror}", "see certs/README.md") from error
    except ValueError as error:
        raise CertificateError(f"{path} is not a certificate in PEM form", "see certs/README.md") from error


def load_key(path: Path) -> PrivateKeyTypes:
    """An unencrypted private key in PEM, or CertificateError."""
    try:
        return serialization.load_pem_private_key(path.read_bytes(), None)
    except OSError as error:
        raise CertificateError(f"{path} can not be read: {error.strerror}", "see certs/README.md") from error
    except (ValueError, TypeError) as error:
        raise CertificateError(
            f"{path} is not an unencrypted private key in PEM form", "see certs/README.md"
        ) from error


# --- what a certificate says -----------------------------------------------------------------


def names_of(certificate: x509.Certificate) -> x509.SubjectAlternativeName:
    """The subject's alternative names, empty where there are none; CertificateError where they make no sense."""
    try:
        return certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return x509.SubjectAlternativeName([])
    except (ValueError, x509.DuplicateExtension) as error:
        raise CertificateError(f"the names in a certificate can not be read: {error}", "issue a new one") from error


def uris_of(certificate: x509.Certificate) -> list[str]:
    """The URIs among the subject's alternative names."""
    return list(names_of(certificate).get_values_for_type(x509.UniformResourceIdentifier))


def hosts_of(certificate: x509.Certificate) -> list[str]:
    """The host names and addresses that it is for."""
    names = names_of(certificate)
    addresses = [str(address) for address in names.get_values_for_type(x509.IPAddress)]
    return [*names.get_values_for_type(x509.DNSName), *addresses]


def is_issued_by(certificate: x509.Certificate, authority: x509.Certificate) -> bool:
    """True where names and signature say so."""
    try:
        certificate.verify_directly_issued_by(authority)
    except (ValueError, TypeError, InvalidSignature):
        return False
    return True
