"""The Auth half of the emulator: applications, codes, refresh tokens and access tokens; strict."""

from __future__ import annotations

import base64
import hashlib
import secrets
import threading
import time
import uuid
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

SERVERS = {
    "urn:globus:auth:scope:transfer.api.globus.org:all": "transfer.api.globus.org",
    "openid": "auth.globus.org",
    "profile": "auth.globus.org",
    "email": "auth.globus.org",
}
TRANSFER_ALL = "urn:globus:auth:scope:transfer.api.globus.org:all"
NATIVE_PAGE = "/v2/web/auth-code"  # below the address of Auth
DATA_ACCESS = "*https://auth.globus.org/scopes/{}/data_access"


@dataclass
class App:
    """A registered application; `secret` None: a native app."""

    client_id: str
    secret: str | None
    alive: bool = True


@dataclass
class Grant:
    """What somebody allowed an application."""

    app: App
    identity: str
    scopes: tuple[str, ...]
    consents: tuple[str, ...]  # collections
    session: dict[str, Any] = field(default_factory=dict)
    refresh: str = ""
    revoked: bool = False


@dataclass
class Token:
    grant: Grant
    server: str
    scopes: tuple[str, ...]
    expires: float
    active: bool = True


class AuthRefused(Exception):
    """An answer of Auth that is none."""

    def __init__(self, status: int, error: str, detail: str = "") -> None:
        super().__init__(error)
        self.status = status
        self.body = {
            "error": error,
            "error_description": detail,
            "errors": [{"id": str(uuid.uuid4()), "status": str(status), "code": error.upper(), "detail": detail}],
        }


class Auth:
    """Globus Auth."""

    def __init__(self) -> None:
        self.lock = threading.RLock()
        self.lifetime = 172_800.0  # seconds of an access token
        self.echoes = False  # whether it repeats what it refuses
        self.rotates = False  # whether a refresh token holds for one use
        self.apps: dict[str, App] = {}
        self.tokens: dict[str, Token] = {}
        self.grants: list[Grant] = []
        self.codes: dict[str, tuple[Grant, dict[str, str]]] = {}
        self.issued = 0
        self.asked: list[dict[str, str]] = []  # all authorize requests

    def register(self, *, native: bool) -> App:
        secret = None if native else base64.b64encode(secrets.token_bytes(32)).decode()
        app = App(str(uuid.uuid4()), secret)
        self.apps[app.client_id] = app
        return app

    def secrets_out(self) -> list[str]:
        """All that must never be seen anywhere but in the one file."""
        with self.lock:
            apps = [app.secret for app in self.apps.values() if app.secret]
            return apps + list(self.tokens) + [grant.refresh for grant in self.grants if grant.refresh]

    # --- the browser -----------------------------------------------------------------------

    def browse(self, url: str, identity: str) -> str:
        """A person goes to an address, logs in and allows all; the code that is shown."""
        asked = {key: values[-1] for key, values in parse_qs(urlsplit(url).query, strict_parsing=True).items()}
        self.asked.append(asked)
        app = self.apps.get(asked.get("client_id", ""))
        if app is None or app.secret is not None or asked.get("response_type") != "code":
            raise AuthRefused(400, "invalid_request", "no native app")
        if not asked.get("redirect_uri", "").endswith(NATIVE_PAGE) or asked.get("code_challenge_method") != "S256":
            raise AuthRefused(400, "invalid_request", "the redirect or the challenge")
        if asked.get("access_type") != "offline":
            raise AuthRefused(400, "invalid_request", "no refresh token asked for")
        scopes, consents = parsed(asked.get("scope", ""))
        session = {key: value for key, value in asked.items() if key.startswith("session_")}
        code = secrets.token_urlsafe(20)
        with self.lock:
            self.codes[code] = Grant(app, identity, scopes, consents, session), asked
        return code

    def redirect(self, url: str, identity: str) -> str:
        """Where a browser is sent with the code."""
        code = self.browse(url, identity)
        asked = parse_qs(urlsplit(url).query)
        return f"{asked['redirect_uri'][0]}?{urlencode({'code': code, 'state': asked.get('state', ['_default'])[0]})}"

    # --- tokens ----------------------------------------------------------------------------

    def token(self, form: dict[str, str], basic: tuple[str, str] | None) -> dict[str, Any]:
        app = self._client(form, basic)
        kind = form.get("grant_type")
        with self.lock:
            if kind == "client_credentials":
                return self._own(app, form)
            if kind == "refresh_token":
                return self._refreshed(app, form)
            if kind == "authorization_code":
                return self._exchanged(app, form)
        raise AuthRefused(400, "unsupported_grant_type")

    def _client(self, form: dict[str, str], basic: tuple[str, str] | None) -> App:
        app = self.apps.get(basic[0] if basic else form.get("client_id", ""))
        if app is None or not app.alive:
            raise AuthRefused(401, "invalid_client", f"no such client {basic if self.echoes else ''}")
        if (app.secret is None) != (basic is None) or (basic and basic[1] != app.secret):
            raise AuthRefused(401, "invalid_client", "wrong secret, or none where one is needed")
        return app

    def _own(self, app: App, form: dict[str, str]) -> dict[str, Any]:
        if app.secret is None:
            raise AuthRefused(400, "unauthorized_client")
        scopes, consents = parsed(form.get("scope", ""))
        grant = Grant(app, f"{app.client_id}@clients.auth.globus.org", scopes, consents)
        return self._issue(grant, form, refresh=False)

    def _refreshed(self, app: App, form: dict[str, str]) -> dict[str, Any]:
        given = form.get("refresh_token", "")
        grant = next((one for one in self.grants if one.refresh == given and given), None)
        if grant is None or grant.app is not app or grant.revoked:
            raise AuthRefused(400, "invalid_grant", f"the refresh token {given if self.echoes else ''} is not active")
        if self.rotates:
            grant.revoked = True
            grant = Grant(app, grant.identity, grant.scopes, grant.consents, grant.session)
        return self._issue(grant, form, refresh=self.rotates)

    def _exchanged(self, app: App, form: dict[str, str]) -> dict[str, Any]:
        grant, asked = self.codes.pop(form.get("code", ""), (None, {}))
        if grant is None or grant.app is not app:
            raise AuthRefused(401, "invalid_grant", "the code is not known, or was used")
        digest = hashlib.sha256(form.get("code_verifier", "").encode()).digest()
        if base64.urlsafe_b64encode(digest).decode().rstrip("=") != asked["code_challenge"]:
            raise AuthRefused(401, "invalid_grant", "the verifier does not fit")
        if form.get("redirect_uri") != asked["redirect_uri"]:
            raise AuthRefused(401, "invalid_grant", "the redirect does not fit")
        return self._issue(grant, form, refresh=True)

    def _issue(self, grant: Grant, form: dict[str, str], *, refresh: bool) -> dict[str, Any]:
        if refresh:
            grant.refresh = secrets.token_urlsafe(24)
            self.grants.append(grant)
        made = []
        for server in dict.fromkeys(SERVERS[scope] for scope in grant.scopes):
            scopes = tuple(scope for scope in grant.scopes if SERVERS[scope] == server)
            text = secrets.token_urlsafe(32)
            self.tokens[text] = Token(grant, server, scopes, time.time() + self.lifetime)
            self.issued += 1
            answer: dict[str, Any] = {"access_token": text, "scope": " ".join(scopes), "token_type": "Bearer"}
            answer |= {"expires_in": int(self.lifetime), "resource_server": server}
            if grant.refresh:
                answer["refresh_token"] = grant.refresh
            made.append(answer)
        return {**made[0], "other_tokens": made[1:], **({"state": form["state"]} if "state" in form else {})}

    # --- what Transfer asks ----------------------------------------------------------------

    def who(self, header: str) -> Token | None:
        """The token of a request, if it holds for Transfer."""
        kind, _, text = header.partition(" ")
        with self.lock:
            token = self.tokens.get(text)
        good = kind == "Bearer" and token is not None and token.active and not token.grant.revoked
        if not good or token is None or token.server != "transfer.api.globus.org" or token.expires < time.time():
            return None
        return token

    def revoke_all(self) -> None:
        """Somebody withdraws every consent."""
        with self.lock:
            for grant in self.grants:
                grant.revoked = True
            for token in self.tokens.values():
                token.active = False

    def expire_all(self) -> None:
        """All access tokens end now; refresh tokens do not."""
        with self.lock:
            for token in self.tokens.values():
                token.active = False


def parsed(text: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Scopes and the collections for which they hold a data_access consent."""
    scopes: list[str] = []
    consents: list[str] = []
    for word in text.replace("] ", "]\n").replace(" urn:", "\nurn:").replace(" openid", "\nopenid").split("\n"):
        scope, _, inner = word.strip().partition("[")
        if scope not in SERVERS:
            raise AuthRefused(400, "unknown_scope", f"{scope!r} is no scope")
        scopes.append(scope)
        for each in inner.rstrip("]").split():
            head, tail = DATA_ACCESS.split("{}")
            if not (each.startswith(head) and each.endswith(tail)):
                raise AuthRefused(400, "unknown_scope", each)
            consents.append(each[len(head) : -len(tail)])
    return tuple(dict.fromkeys(scopes)), tuple(consents)
