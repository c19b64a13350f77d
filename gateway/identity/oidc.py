"""An outside issuer: any provider of OpenID Connect, by its discovery document.

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
    caller_of,
    signed,
)
from orderplane.gateway.principal import Principal

log = structlog.get_logger(__name__)

_TIMEOUT = aiohttp.ClientTimeout(total=5, connect=2)
_FRESH_SECONDS = 600.0
_RETRY_SECONDS = 30.0
"""How often an unknown key may make us ask again."""

_MOST_BYTES = 256 * 1024
_MOST_KEYS = 64


class OidcIssuer:
    """Keeps the provider's public keys. What it last told stays good while it cannot be reached."""

    def __init__(self, issuer: str, clock: Callable[[], float] = time.monotonic) -> None:
        self._issuer = issuer.rstrip("/")
        self._clock = clock
        self._keys: dict[str, VerifyingKey] = {}
        self._asked_at: float | None = None
        self._lock = asyncio.Lock()

    async def refresh(self, kid: str | None = None) -> None:
        """See that the keys are fresh, and that `kid` is among them if the provider has it.

        Raises:
            Problem: `unavailable`, where no key was ever had.
        """
        if not self._is_due(kid):
            return
        async with self._lock:
            if not self._is_due(kid):
                return
            self._asked_at = self._clock()
            try:
                self._keys = await self._fetch()
            except (aiohttp.ClientError, TimeoutError, ValueError, KeyError, TypeError) as problem:
                log.warning("the issuer could not be asked", why=type(problem).__name__)
        if not self._keys:
            raise unavailable("The issuer of tokens cannot be reached. Repeat the request.", _RETRY_SECONDS)

    def verifying(self, kid: str) -> VerifyingKey | None:
        """The key of that id, as far as it is known."""
        return self._keys.get(kid)

    def _is_due(self, kid: str | None) -> bool:
        if self._asked_at is None:
            return True
        age = self._clock() - self._asked_at
        is_missing = not self._keys or (kid is not None and kid not in self._keys)
        return age >= (_RETRY_SECONDS if is_missing else _FRESH_SECONDS)

    async def _fetch(self) -> dict[str, VerifyingKey]:
        async with aiohttp.ClientSession(timeout=_TIMEOUT, raise_for_status=True) as http:
            document = await _json(http, f"{self._issuer}/.well-known/openid-configuration")
            # A document that speaks for another issuer is not to be trusted with this one's keys.
            if str(document["issuer"]).rstrip("/") != self._issuer:
                raise ValueError("the discovery document is another issuer's")
            keys = (await _json(http, str(document["jwks_uri"])))["keys"][:_MOST_KEYS]
        return {key["kid"]: made for key in keys if (made := _key_of(key)) is not None}


async def _json(http: aiohttp.ClientSession, url: str) -> Any:
    async with http.get(url, allow_redirects=False) as answer:
        if answer.content_length is not None and answer.content_length > _MOST_BYTES:
            raise ValueError("too long")
        content = await answer.content.read(_MOST_BYTES)
        return orjson.loads(content)


def _key_of(key: dict[str, Any]) -> VerifyingKey | None:
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
    """Implements `principal.Authentication`: takes what an outside issuer has issued.

    That one knows who is still there.
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
            read = signed(token, self._issuer.verifying, OIDC_ALGORITHMS)
        except UnknownKey as problem:
            await self._issuer.refresh(problem.kid)
            read = signed(token, self._issuer.verifying, OIDC_ALGORITHMS)
        return caller_of(read, self._rules, self._unix_time())
