"""Forged tokens at the real gateway; tests/gateway/identity has every case in detail."""

import base64
import hashlib
import hmac
import json
import time
from collections.abc import Callable
from typing import Any

import pytest
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from joserfc import jwt
from joserfc.jwk import ECKey

from orderplane.gateway.identity.keyring import KeyRing
from orderplane.gateway.principal import Role

from .conftest import Target, code_of

pytestmark = pytest.mark.integration


class Forger:
    """Has a good token of its own, everything public, and for some tricks even the key."""

    def __init__(self, token: str, ring: KeyRing) -> None:
        header, claims, _ = token.split(".")
        self.header, self.claims = read(header), read(claims)
        self.ring = ring

    def signed(self, *, key: Any = None, header: dict[str, Any] | None = None, **claims: Any) -> str:
        """Right but for what is changed."""
        what = self.header | (header or {})
        return jwt.encode(what, self.claims | claims, key or self.ring.signing, default_type=None)

    def unsigned(self, algorithm: str) -> str:
        return f"{write(self.header | {'alg': algorithm})}.{write(self.claims | {'role': 'admin'})}."

    def hmac(self) -> str:
        public = self.ring.public()["keys"][0]
        key = ECKey.import_key({name: public[name] for name in ("kty", "crv", "x", "y")})
        secret = key.public_key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
        head = f"{write(self.header | {'alg': 'HS256'})}.{write(self.claims)}"
        return f"{head}.{encoded(hmac.digest(secret, head.encode(), hashlib.sha256))}"

    def altered(self, token: str) -> str:
        header, _, signature = token.split(".")
        return f"{header}.{write(self.claims | {'role': 'admin'})}.{signature}"


def read(part: str) -> dict[str, Any]:
    document: dict[str, Any] = json.loads(base64.urlsafe_b64decode(part + "=="))
    return document


def write(document: Any) -> str:
    return encoded(json.dumps(document).encode())


def encoded(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).decode().rstrip("=")


OWN_KEY = ECKey.generate_key("P-256")

FORGERIES: dict[str, Callable[[Forger], str]] = {
    "alg none": lambda forger: forger.unsigned("none"),
    "alg NoNe": lambda forger: forger.unsigned("NoNe"),
    "key confusion": Forger.hmac,
    "another key": lambda forger: forger.signed(key=OWN_KEY),
    "another key, brought along": lambda forger: forger.signed(
        key=OWN_KEY, header={"jwk": OWN_KEY.as_dict(private=False)}
    ),
    "an unknown kid": lambda forger: forger.signed(header={"kid": "unknown"}),
    "a kid that is a file": lambda forger: forger.signed(header={"kid": "../../../../dev/null"}),
    "a kid that is SQL": lambda forger: forger.signed(header={"kid": "' OR 1=1 --"}),
    "another issuer": lambda forger: forger.signed(iss="https://evil.example"),
    "another audience": lambda forger: forger.signed(aud="somebody-else"),
    "expired": lambda forger: forger.signed(exp=int(time.time()) - 60),
    "not valid yet": lambda forger: forger.signed(nbf=int(time.time()) + 600),
    "no access token": lambda forger: forger.signed(header={"typ": "JWT"}),
    "altered": lambda forger: forger.altered(forger.signed()),
    "another role": lambda forger: forger.signed(role="admin"),
    "another merchant": lambda forger: forger.signed(merchant="demo"),
    "nobody": lambda forger: forger.signed(sub="u-nobody"),
}


@pytest.mark.parametrize("how", FORGERIES)
async def test_a_forged_token_opens_nothing(target: Target, how: str) -> None:
    forger = Forger(target.customer.token, KeyRing(target.merchant.plane.signing_keys))
    good = {"Authorization": f"Bearer {forger.signed()}"}
    assert (await target.http.get("/api/orders", headers=good)).status_code == 200
    for path in ("/api/orders", "/api/users", "/api/users/me"):
        forged = {"Authorization": f"Bearer {FORGERIES[how](forger)}"}
        answer = await target.http.get(path, headers=forged)
        assert code_of(answer) == (401, "invalid_token")
        assert 'error="invalid_token"' in answer.headers["WWW-Authenticate"]


async def test_the_token_of_a_deleted_user_dies_with_it(target: Target) -> None:
    headers = target.customer.headers
    assert (await target.http.delete("/api/users/me", headers=headers)).status_code == 204
    deadline = time.monotonic() + 10
    while (await target.http.get("/api/orders", headers=headers)).status_code != 401:
        assert time.monotonic() < deadline


@pytest.mark.parametrize(
    "header",
    [
        "X-User", "X-User-Id", "X-Forwarded-User", "X-Remote-User", "Remote-User", "X-Auth-Request-User",
        "X-Authenticated-User", "Impersonate-User", "X-Merchant", "X-Tenant", "X-Namespace", "X-Role",
        "X-Forwarded-Authorization", "X-Original-Authorization", "X-Access-Token", "Cookie",
    ],
)  # fmt: skip
async def test_no_header_but_the_token_says_who_is_calling(target: Target, header: str) -> None:
    boss = await target.merchant.caller(Role.ADMIN)
    for value in (boss.id, "admin", target.merchant.name, f"Bearer {boss.token}", f"token={boss.token}"):
        nobody = await target.http.get("/api/users", headers={header: value})
        assert code_of(nobody) == (401, "unauthenticated")
        customer = await target.http.get("/api/users", headers={header: value} | target.customer.headers)
        assert code_of(customer) == (403, "insufficient_scope")


@pytest.mark.parametrize("scheme", ["bearer token", "Basic", "Token", "Bearer"])
async def test_only_a_bearer_token_counts(target: Target, scheme: str) -> None:
    value = f"{scheme} {target.customer.token}" if scheme != "Bearer" else "Bearer"
    answer = await target.http.get("/api/orders", headers={"Authorization": value})
    assert answer.status_code == 401


async def test_a_token_in_the_address_is_none(target: Target) -> None:
    """It is a parameter that no route has, and is refused before anybody is asked for a token."""
    answer = await target.http.get("/api/orders", params={"access_token": target.customer.token})
    assert code_of(answer) == (422, "validation_failed")
    assert answer.json()["errors"][0]["parameter"] == "access_token"
    assert (await target.http.get("/api/orders")).status_code == 401
