"""Tokens of an OpenID Connect issuer, found by the discovery document of a test server."""

from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

import pytest
from aiohttp import web
from joserfc import jwt
from joserfc.jwk import ECKey, RSAKey

from orderplane.gateway.http.problems import Problem
from orderplane.gateway.identity.oidc import OidcIssuer, OidcTokens
from orderplane.gateway.identity.tokens import TokenRules
from orderplane.gateway.principal import Role, TokenRefused

NOW = 1_800_000_000


@dataclass
class Provider:
    """A small identity provider; `pretends` is what its document says the issuer is."""

    url: str = ""
    pretends: str | None = None
    is_broken: bool = False
    keys: dict[str, Any] = field(default_factory=dict)
    asked: int = 0

    async def discovery(self, _: web.Request) -> web.Response:
        self.asked += 1
        if self.is_broken:
            return web.Response(status=500)
        issuer = self.url if self.pretends is None else self.pretends
        return web.json_response({"issuer": issuer, "jwks_uri": f"{self.url}/keys"})

    async def key_set(self, _: web.Request) -> web.Response:
        keys = [{**key.as_dict(private=False), "kid": kid} for kid, key in self.keys.items()]
        return web.json_response({"keys": [{"kty": "oct", "k": "AA", "kid": "sym"}, {"kty": "EC"}, *keys]})

    def token(self, kid: str, **changes: Any) -> str:
        key = self.keys[kid]
        claims = {
            "iss": self.url, "aud": ["orderplane", "other"], "sub": "ada", "exp": NOW + 60,
            "shop": "demo", "group": "merchant",
        }  # fmt: skip
        algorithm = "RS256" if isinstance(key, RSAKey) else "ES256"
        return jwt.encode({"alg": algorithm, "kid": kid}, claims | changes, key, algorithms=[algorithm])


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
async def provider() -> AsyncIterator[Provider]:
    provider = Provider(keys={"a": ECKey.generate_key("P-256"), "r": RSAKey.generate_key(2048)})
    app = web.Application()
    app.router.add_get("/.well-known/openid-configuration", provider.discovery)
    app.router.add_get("/keys", provider.key_set)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    provider.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    yield provider
    await runner.cleanup()


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def tokens(provider: Provider, clock: Clock) -> OidcTokens:
    rules = TokenRules(provider.url, "orderplane", merchant_claim="shop", role_claim="group", types=())
    return OidcTokens(OidcIssuer(provider.url, clock), rules, unix_time=lambda: NOW)


async def test_its_tokens_are_taken(provider: Provider, tokens: OidcTokens) -> None:
    for kid in ("a", "r"):
        caller = await tokens.caller(provider.token(kid))
        assert (caller.merchant, caller.name, caller.role) == ("demo", "ada", Role.MERCHANT)
    assert provider.asked == 1, "the keys are kept"


@pytest.mark.parametrize(
    "changes", [{"iss": "https://evil.example"}, {"aud": "x"}, {"exp": NOW - 60}, {"group": "root"}]
)
async def test_wrong_ones_are_refused(
    provider: Provider, tokens: OidcTokens, changes: dict[str, Any]
) -> None:
    with pytest.raises(TokenRefused):
        await tokens.caller(provider.token("a", **changes))


async def test_a_new_key_is_fetched_but_not_at_every_request(
    provider: Provider, tokens: OidcTokens, clock: Clock
) -> None:
    await tokens.caller(provider.token("a"))
    provider.keys["b"] = ECKey.generate_key("P-256")
    for _ in range(20):
        with pytest.raises(TokenRefused):
            await tokens.caller(provider.token("b"))
    assert provider.asked == 1
    clock.now += 30
    assert (await tokens.caller(provider.token("b"))).name == "ada"
    assert provider.asked == 2


async def test_what_was_known_stays_good_while_it_is_away(
    provider: Provider, tokens: OidcTokens, clock: Clock
) -> None:
    await tokens.caller(provider.token("a"))
    provider.is_broken = True
    clock.now += 600
    assert (await tokens.caller(provider.token("a"))).name == "ada"


async def test_nothing_known_is_said_as_unavailable(provider: Provider, tokens: OidcTokens) -> None:
    provider.is_broken = True
    with pytest.raises(Problem, match="unavailable"):
        await tokens.caller(provider.token("a"))


async def test_a_document_that_speaks_for_another_issuer_is_not_trusted(
    provider: Provider, tokens: OidcTokens
) -> None:
    provider.pretends = "https://evil.example"
    with pytest.raises(Problem, match="unavailable"):
        await tokens.caller(provider.token("a"))
