"""How we log in to Globus: as an application with a secret, or as a person who has allowed a native app to act.

Law: a secret lies in one file that nobody else can read, is read anew at each login, and goes to Globus Auth and to
nobody else: not into a log, a message, or the `repr` of anything here.
"""

from __future__ import annotations

import os
import secrets
import stat
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from globus_sdk import (
    ClientCredentialsAuthorizer,
    ConfidentialAppAuthClient,
    GlobusAPIError,
    GlobusError,
    NativeAppAuthClient,
    OAuthRefreshTokenResponse,
    RefreshTokenAuthorizer,
    TransferClient,
)
from globus_sdk.authorizers import GlobusAuthorizer
from globus_sdk.transport import RequestsTransport, RetryConfig

from goggles.errors import PermissionDenied, SettingsError, Unavailable
from goggles.settings import NameserverSettings

SERVER = TransferClient.resource_server
ALL = str(TransferClient.scopes.all)
LOGIN = "librarian globus-login"
TIMEOUT = 20.0  # seconds for one answer
RETRIES = 3  # of the SDK for one call


@dataclass(frozen=True, slots=True)
class Credentials:
    """Which application we are, and where its secret (native: the refresh token) lies."""

    client_id: str
    native: bool
    file: Path

    @classmethod
    def of(cls, settings: NameserverSettings) -> Self:
        """SettingsError where something is missing; the file itself may come later, but not open to others."""
        for name in ("globus_client_id", "globus_client_secret_file"):
            if not getattr(settings, name):
                raise SettingsError(f"{name} is missing, which Globus needs", "see docs/globus.md")
        file = settings.globus_client_secret_file
        assert file is not None
        found = cls(settings.globus_client_id, settings.globus_client_native_app, file)
        if file.exists():
            found.secret()
        return found

    def secret(self) -> str:
        """What the file holds; SettingsError where it is not there, empty, or open to others."""
        hint = f"run: {LOGIN}" if self.native else "put the secret of the confidential app there, with mode 600"
        try:
            with open(self.file, encoding="utf-8") as file:
                mode = stat.S_IMODE(os.fstat(file.fileno()).st_mode)
                text = file.read().strip()
        except (OSError, ValueError) as error:
            what = error.strerror if isinstance(error, OSError) else "it is no text"
            raise SettingsError(f"the Globus secret in {self.file} can not be read: {what}", hint) from error
        if mode & 0o077:
            raise SettingsError(
                f"others may read the Globus secret in {self.file} (mode {mode:o})", f"chmod 600 {self.file}"
            )
        if not text or any(char.isspace() for char in text):
            raise SettingsError(f"{self.file} holds no secret for Globus", hint)
        return text

    def keep(self, secret: str) -> None:
        """Write the file anew, whole and for us alone."""
        hidden = self.file.with_name(f".{self.file.name}.{secrets.token_hex(4)}")
        try:
            with open(os.open(hidden, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as file:
                file.write(secret + "\n")
                file.flush()
                os.fsync(file.fileno())
            os.replace(hidden, self.file)
        except OSError as error:
            raise SettingsError(f"the Globus secret can not be kept in {self.file}: {error.strerror}") from error

    def hushed(self, text: str) -> str:
        """A text of somebody else, without the secret where it repeats it."""
        try:
            return text.replace(self.secret(), "(the secret)")
        except SettingsError:
            return text

    def authorizer(self, scopes: Sequence[str], retries: RetryConfig) -> GlobusAuthorizer:
        """What renews its access tokens by itself.  Speaks to Globus Auth; raises what the SDK raises."""
        secret, transport = self.secret(), RequestsTransport(http_timeout=TIMEOUT)
        if not self.native:
            client = ConfidentialAppAuthClient(self.client_id, secret, transport=transport, retry_config=retries)
            return ClientCredentialsAuthorizer(client, list(scopes))

        def renewed(answer: OAuthRefreshTokenResponse) -> None:
            newer = answer.by_resource_server.get(SERVER, {}).get("refresh_token")
            if newer and newer != secret:
                self.keep(newer)

        person = NativeAppAuthClient(self.client_id, transport=transport, retry_config=retries)
        return RefreshTokenAuthorizer(secret, person, on_refresh=renewed)


class Login:
    """The walk of a person through the login of a native app, once: go to `url`, then `finish` with the code."""

    def __init__(
        self, credentials: Credentials, consents: Sequence[str] = (), session: Mapping[str, Any] | None = None
    ) -> None:
        """`consents`: collections that need one; `session`: what Globus asked of the login."""
        if not credentials.native:
            raise SettingsError(
                "a confidential app logs in by itself", "set globus_client_native_app for the login of a person"
            )
        self._credentials = credentials
        transport, retries = RequestsTransport(http_timeout=TIMEOUT), RetryConfig(max_retries=RETRIES)
        self._client = NativeAppAuthClient(credentials.client_id, transport=transport, retry_config=retries)
        self._client.oauth2_start_flow(scopes_for(consents), refresh_tokens=True)
        self.url = self._client.oauth2_get_authorize_url(**(session or {}))

    def finish(self, code: str) -> None:
        """Keep the refresh token; PermissionDenied where Globus does not take the code."""
        try:
            answer = self._client.oauth2_exchange_code_for_tokens(code.strip())
            token = answer.by_resource_server[SERVER]["refresh_token"]
        except GlobusAPIError as error:
            if error.http_status >= 500 or error.http_status == 429:
                raise Unavailable(
                    f"Globus has trouble of its own ({error.http_status})", f"run {LOGIN} again"
                ) from error
            raise PermissionDenied(
                f"Globus does not take this code: {error.code}", f"codes hold for minutes: run {LOGIN} again"
            ) from error
        except GlobusError as error:
            raise Unavailable(f"Globus could not be reached ({type(error).__name__})", f"run {LOGIN} again") from error
        except (ValueError, TypeError, AttributeError) as error:
            raise Unavailable("the answer of Globus makes no sense", f"run {LOGIN} again") from error
        except KeyError as error:
            raise PermissionDenied(
                "Globus gave no refresh token for its transfers", "is the app registered as a native app?"
            ) from error
        self._credentials.keep(token)


def scopes_for(collections: Sequence[str]) -> list[str]:
    """The scope for transfers, with a consent for each of these collections."""
    return [
        ALL,
        *(f"{ALL}[*https://auth.globus.org/scopes/{collection}/data_access]" for collection in collections),
    ]
