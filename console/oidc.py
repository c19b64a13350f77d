"""Sign-in at a provider of OpenID Connect: the authorization code flow with PKCE.

Sources: OpenID Connect Core 1.0, 3.1; RFC 7636 (PKCE); RFC 9207 (`iss` in the answer); RFC 9700, 2.1.
"""

import asyncio
import base64
import hashlib
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

import aiohttp
import orjson

from orderplane.client.accounts import EARLY_SECONDS, Tokens
from orderplane.client.transport import ApiProblem

_MAX_BYTES = 256 * 1024
_METADATA_SECONDS = 600.0


class SignInRefused(Exception):  # noqa: N818
    """The provider has not signed anybody in; the message may be shown."""


@dataclass(frozen=True, slots=True)
class Attempt:
    """What the browser keeps, in a cookie, until it is back from the provider."""

    state: str
    nonce: str
    verifier: str
    next: str

    @classmethod
    def begin(cls, following: str) -> "Attempt":
        """A new one; `following` is where to go afterwards."""
        return cls(secrets.token_urlsafe(24), secrets.token_urlsafe(24), secrets.token_urlsafe(48), following)

    @classmethod
    def read(cls, cookie: str | None) -> "Attempt | None":
        """The one of a cookie; None if it is none."""
        parts = (cookie or "").split("~", 3)
        return cls(*parts) if len(parts) == 4 and all(parts) else None

    def written(self) -> str:
        """As the value of a cookie; the path comes last, because it may have a `~`."""
        return "~".join((self.state, self.nonce, self.verifier, self.next))

    @property
    def challenge(self) -> str:
        """What the provider compares the verifier with (S256)."""
        digest = hashlib.sha256(self.verifier.encode()).digest()
        return base64.urlsafe_b64encode(digest).rstrip(b"=").decode()


@dataclass(frozen=True, slots=True)
class SignedIn:
    """What the provider gave.

    Args:
        user: How the person is called on the pages.
    """

    tokens: Tokens
    user: str


class Provider:
    """One provider, with the console as its client.

    Args:
        redirect_uri: Where it sends browsers back to.
        secret: Of the client; None where it is a public one.
    """

    def __init__(
        self,
        http: aiohttp.ClientSession,
        issuer: str,
        client_id: str,
        secret: Callable[[], str] | None,
        *,
        redirect_uri: str,
        scopes: str,
        resource: str | None,
        unix_time: Callable[[], float] = time.time,
    ) -> None:
        self.issuer = issuer.rstrip("/")
        self._http = http
        self._client_id = client_id
        self._secret = secret
        self._redirect_uri = redirect_uri
        self._scopes = scopes
        self._resource = {"resource": resource} if resource else {}
        self._unix_time = unix_time
        self._metadata: dict[str, Any] = {}
        self._read_at = 0.0

    async def address(self, attempt: Attempt) -> str:
        """Where the browser signs in.

        Raises:
            SignInRefused: the provider cannot be reached.
        """
        query = {
            "response_type": "code",
            "client_id": self._client_id,
            "redirect_uri": self._redirect_uri,
            "scope": self._scopes,
            "state": attempt.state,
            "nonce": attempt.nonce,
            "code_challenge": attempt.challenge,
            "code_challenge_method": "S256",
            **self._resource,
        }
        endpoint = str((await self._document())["authorization_endpoint"])
        return f"{endpoint}{'&' if '?' in endpoint else '?'}{urlencode(query)}"

    async def redeem(self, code: str, attempt: Attempt) -> SignedIn:
        """Exchange the code that the browser came back with.

        Raises:
            SignInRefused: it is not taken, or the answer is for another attempt.
        """
        answer = await self._tokens(
            {
                "grant_type": "authorization_code",
                "code": code,
                "redirect_uri": self._redirect_uri,
                "code_verifier": attempt.verifier,
            }
        )
        claims = _claims(answer.get("id_token"))
        # The token came from the provider itself, over TLS, so its signature adds nothing (Core, 3.1.3.7, 6).
        audience = claims.get("aud")
        is_ours = self._client_id in (audience if isinstance(audience, list) else [audience])
        if str(claims.get("iss", "")).rstrip("/") != self.issuer or not is_ours:
            raise SignInRefused("The provider answered for somebody else. Sign in again.")
        if not secrets.compare_digest(str(claims.get("nonce", "")), attempt.nonce):
            raise SignInRefused("The provider answered for another attempt. Sign in again.")
        shown = claims.get("email") or claims.get("preferred_username") or claims.get("sub") or "signed in"
        return SignedIn(self._read(answer), str(shown)[:120])

    async def refreshed(self, refresh_token: str) -> Tokens:
        """New tokens.

        Raises:
            SignInRefused: the login has ended.
        """
        answer = await self._tokens({"grant_type": "refresh_token", "refresh_token": refresh_token})
        tokens = self._read(answer)
        # A provider that does not replace it leaves it out (RFC 6749, 6).
        return Tokens(tokens.access, tokens.expires_at, tokens.refresh or refresh_token)

    def _read(self, answer: dict[str, Any]) -> Tokens:
        try:
            seconds = float(answer.get("expires_in", 300))
            return Tokens(
                str(answer["access_token"]), self._unix_time() + seconds, answer.get("refresh_token")
            )
        except (KeyError, TypeError, ValueError):
            raise SignInRefused("The provider gave no access token.") from None

    async def _tokens(self, form: dict[str, str]) -> dict[str, Any]:
        endpoint = str((await self._document())["token_endpoint"])
        form = {**form, **self._resource}
        auth = None
        if self._secret is None:
            form["client_id"] = self._client_id
        else:
            auth = aiohttp.BasicAuth(self._client_id, self._secret())
        try:
            async with self._http.post(endpoint, data=form, auth=auth, allow_redirects=False) as answer:
                document = _json(await answer.content.read(_MAX_BYTES))
                if answer.status != 200:
                    raise SignInRefused("The provider did not take the sign-in. Sign in again.")
        except (aiohttp.ClientError, TimeoutError, ValueError):
            raise SignInRefused("The provider cannot be reached. Try again in a moment.") from None
        return document

    async def _document(self) -> dict[str, Any]:
        if not self._metadata or self._unix_time() - self._read_at > _METADATA_SECONDS:
            url = f"{self.issuer}/.well-known/openid-configuration"
            try:
                async with self._http.get(url, allow_redirects=False) as answer:
                    document = _json(await answer.content.read(_MAX_BYTES))
                if str(document["issuer"]).rstrip("/") != self.issuer:
                    raise SignInRefused("The provider's document is another issuer's.")
                endpoints = {name: document[name] for name in ("authorization_endpoint", "token_endpoint")}
            except (aiohttp.ClientError, TimeoutError, ValueError, KeyError):
                if self._metadata:
                    return self._metadata
                raise SignInRefused("The provider cannot be reached. Try again in a moment.") from None
            self._metadata, self._read_at = endpoints, self._unix_time()
        return self._metadata


class ProviderTokens:
    """The access tokens of one person; implements `client.accounts.TokenSource`."""

    def __init__(
        self, provider: Provider, tokens: Tokens, *, unix_time: Callable[[], float] = time.time
    ) -> None:
        self._provider = provider
        self._tokens = tokens
        self._unix_time = unix_time
        self._lock = asyncio.Lock()

    async def token(self, *, rejected: str | None = None) -> str:
        """A valid access token; one of many requests asks for a new one.

        Raises:
            ApiProblem: `unauthenticated`: the login at the provider has ended.
        """
        async with self._lock:
            is_valid = self._unix_time() < self._tokens.expires_at - EARLY_SECONDS
            if not is_valid or self._tokens.access == rejected:
                if self._tokens.refresh is None:
                    raise ApiProblem(401, "unauthenticated", "The sign-in has ended.")
                try:
                    self._tokens = await self._provider.refreshed(self._tokens.refresh)
                except SignInRefused as problem:
                    raise ApiProblem(401, "unauthenticated", str(problem)) from problem
            return self._tokens.access


def _json(content: bytes) -> dict[str, Any]:
    document = orjson.loads(content)
    if not isinstance(document, dict):
        raise ValueError("no object")
    return document


def _claims(id_token: object) -> dict[str, Any]:
    """The claims of a JWT, whose signature is not looked at."""
    try:
        payload = str(id_token).split(".")[1]
        return _json(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
    except (IndexError, ValueError):
        raise SignInRefused("The provider gave no identity. Ask for the scope openid.") from None
