"""Tokens of an OpenID Connect issuer, whose keys are found by its discovery document.

Source: OpenID Connect Discovery 1.0, section 4; RFC 7517.
"""

import asyncio
import time
from collections.abc import Callable
from typing import Any

import aiohttp
import orjson
import structlog
from joserfc.errors import JoseError
from joserfc.jwk import ECKey, OKPKey, RSAKey

from orderplane.gateway.http.problems import unavailable
from orderplane.gateway.identity.keyring import VerifyingKey
from orderplane.gateway.identity.tokens import (
    OIDC_ALGORITHMS,
    TokenRules,
    UnknownKey,
    principal_of,
    verify_signature,
)
from orderplane.gateway.principal import Principal

log = structlog.get_logger(__name__)

_TIMEOUT = aiohttp.ClientTimeout(total=5, connect=2)
_REFRESH_SECONDS = 600.0
_RETRY_SECONDS = 30.0
"""Minimum time between two requests that an unknown key id causes."""

_MAX_BYTES = 256 * 1024
_MAX_KEYS = 64


class OidcIssuer:
    """The public keys of an issuer. The last key set stays valid while the issuer cannot be reached."""

    def __init__(self, issuer: str, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._issuer = issuer.rstrip("/")
        self._monotonic = monotonic
        self._keys: dict[str, VerifyingKey] = {}
        self._fetched_at: float | None = None
        self._lock = asyncio.Lock()

    async def refresh(self, kid: str | None = None) -> None:
        """Fetch the keys if they are old, or if `kid` is not among them.

        Raises:
            Problem: `unavailable`: no key set was ever fetched.
        """
        if not self._needs_refresh(kid):
            return
        async with self._lock:
            if not self._needs_refresh(kid):
                return
            self._fetched_at = self._monotonic()
            try:
                self._keys = await self._fetch()
            except (aiohttp.ClientError, TimeoutError, ValueError, KeyError, TypeError) as problem:
                log.warning("key set of the issuer not fetched", why=type(problem).__name__)
        if not self._keys:
            raise unavailable("The issuer of tokens cannot be reached. Repeat the request.", _RETRY_SECONDS)

    def verifying(self, kid: str) -> VerifyingKey | None:
        """The key with this id, if it is known."""
        return self._keys.get(kid)

    def _needs_refresh(self, kid: str | None) -> bool:
        if self._fetched_at is None:
            return True
        age = self._monotonic() - self._fetched_at
        is_missing = not self._keys or (kid is not None and kid not in self._keys)
        return age >= (_RETRY_SECONDS if is_missing else _REFRESH_SECONDS)

    async def _fetch(self) -> dict[str, VerifyingKey]:
        async with aiohttp.ClientSession(timeout=_TIMEOUT, raise_for_status=True) as http:
            document = await _json(http, f"{self._issuer}/.well-known/openid-configuration")
            # OpenID Connect Discovery 4.3: the issuer in the document must be the one that was asked for.
            if str(document["issuer"]).rstrip("/") != self._issuer:
                raise ValueError("the discovery document is another issuer's")
            keys = (await _json(http, str(document["jwks_uri"])))["keys"][:_MAX_KEYS]
        return {key["kid"]: imported for key in keys if (imported := _import_key(key)) is not None}


async def _json(http: aiohttp.ClientSession, url: str) -> Any:
    async with http.get(url, allow_redirects=False) as answer:
        if answer.content_length is not None and answer.content_length > _MAX_BYTES:
            raise ValueError("too long")
        content = await answer.content.read(_MAX_BYTES)
        return orjson.loads(content)


def _import_key(key: dict[str, Any]) -> VerifyingKey | None:
    if "kid" not in key or key.get("use", "sig") != "sig":
        return None
    try:
        match key.get("kty"), key.get("crv"):
            case "EC", "P-256":
                return ECKey.import_key({name: key[name] for name in ("kty", "crv", "x", "y")})
            case "OKP", "Ed25519":
                return OKPKey.import_key({name: key[name] for name in ("kty", "crv", "x")})
            case "RSA", None:
                return RSAKey.import_key({name: key[name] for name in ("kty", "n", "e")})
    except (JoseError, ValueError, KeyError):
        return None
    return None


class OidcTokens:
    """Implements `principal.Authentication` for tokens of an OpenID Connect issuer.

    Whether the account still exists is the issuer's business: its tokens should be short-lived.
    """

    def __init__(
        self, issuer: OidcIssuer, rules: TokenRules, *, unix_time: Callable[[], float] = time.time
    ) -> None:
        self._issuer = issuer
        self._rules = rules
        self._unix_time = unix_time

    async def caller(self, token: str) -> Principal:
        await self._issuer.refresh()
        try:
            read = verify_signature(token, self._issuer.verifying, OIDC_ALGORITHMS)
        except UnknownKey as problem:
            await self._issuer.refresh(problem.kid)
            read = verify_signature(token, self._issuer.verifying, OIDC_ALGORITHMS)
        return principal_of(read, self._rules, self._unix_time())
