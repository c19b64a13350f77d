"""Sign-in at a provider of OpenID Connect: the authorization code flow with PKCE."""

import asyncio
import base64
import hashlib
import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qs, urlsplit

import aiohttp
import httpx
import pytest
from aiohttp import web

from orderplane.console.oidc import Provider

from .desk import Desk, desk_before, served

OVERVIEW = {
    "merchant": "demo", "at": "2026-01-01T00:00:00Z", "phases": {}, "stalled": 0, "minutes": [],
    "secondsToLabel": {"p50": None, "p95": None}, "backlog": {"orders": 0, "oldestSeconds": 0},
    "outbox": {"oldestSeconds": 0}, "failedMessages": 0,
}  # fmt: skip
REDIRECT = "https://shop.example/console/sign-in/callback"


@dataclass
class Issuer:
    """A provider that remembers what it was asked, and answers as it is told."""

    url: str = ""
    codes: dict[str, dict[str, str]] = field(default_factory=dict)
    changes: dict[str, Any] = field(default_factory=dict)
    expires_in: int = 300
    refreshed: int = 0

    async def discovery(self, _: web.Request) -> web.Response:
        return web.json_response({
            "issuer": self.url, "authorization_endpoint": f"{self.url}/authorize",
            "token_endpoint": f"{self.url}/token",
        })  # fmt: skip

    def authorize(self, address: str) -> str:
        """What its page does: a code for what the browser came with."""
        asked = {name: values[0] for name, values in parse_qs(urlsplit(address).query).items()}
        assert (asked["response_type"], asked["code_challenge_method"]) == ("code", "S256")
        assert (asked["client_id"], asked["redirect_uri"]) == ("console", REDIRECT)
        code = f"code-{len(self.codes)}"
        self.codes[code] = asked
        return code

    async def token(self, request: web.Request) -> web.Response:
        form = await request.post()
        if form["grant_type"] == "refresh_token":
            self.refreshed += 1
            assert form["refresh_token"] == "refresh-0"
            return web.json_response({"access_token": f"staff-{self.refreshed}", "expires_in": 300})
        asked = self.codes.pop(str(form.get("code")), None)
        digest = hashlib.sha256(str(form["code_verifier"]).encode()).digest()
        challenge = base64.urlsafe_b64encode(digest).rstrip(b"=").decode()
        if asked is None or asked["code_challenge"] != challenge:
            return web.json_response({"error": "invalid_grant"}, status=400)
        claims = {
            "iss": self.url, "aud": "console", "sub": "ada", "email": "ada@shop.example",
            "nonce": asked["nonce"], **self.changes,
        }  # fmt: skip
        payload = base64.urlsafe_b64encode(json.dumps(claims).encode()).rstrip(b"=").decode()
        return web.json_response({
            "access_token": "staff-0", "refresh_token": "refresh-0", "expires_in": self.expires_in,
            "id_token": f"e30.{payload}.x",
        })  # fmt: skip


async def api(request: web.Request) -> web.Response:
    """Knows staff by their tokens, and has no accounts."""
    if "customer" in request.headers["Authorization"]:
        return web.json_response({"code": "insufficient_scope", "detail": "no"}, status=403)
    if request.path == "/api/overview":
        return web.json_response(OVERVIEW)
    if request.path == "/api/price-rules":
        await asyncio.sleep(0)
        return web.json_response({"items": []})
    return web.json_response({"code": "route_not_found", "detail": "no"}, status=404)


@pytest.fixture
async def issuer() -> AsyncIterator[Issuer]:
    issuer, app = Issuer(), web.Application()
    app.router.add_get("/.well-known/openid-configuration", issuer.discovery)
    app.router.add_post("/token", issuer.token)
    async with served(app) as url:
        issuer.url = url
        yield issuer


@pytest.fixture
async def desk(issuer: Issuer) -> AsyncIterator[Desk]:
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", api)
    async with AsyncExitStack() as stack:
        http = await stack.enter_async_context(aiohttp.ClientSession())
        provider = Provider(
            http, issuer.url, "console", None, redirect_uri=REDIRECT, scopes="openid", resource=None
        )
        url = await stack.enter_async_context(served(app))
        yield await stack.enter_async_context(desk_before(url, provider=provider, is_secure=True))


async def begin(desk: Desk, following: str = "/console/prices") -> str:
    """Where the browser is led to."""
    shown = await desk.http.get("/console/sign-in", params={"next": following})
    assert "/console/sign-in/start" in shown.text
    answer = await desk.http.get("/console/sign-in/start", params={"next": following})
    assert answer.status_code == 303
    return answer.headers["Location"]


async def come_back(desk: Desk, address: str, code: str, **changes: str) -> httpx.Response:
    state = parse_qs(urlsplit(address).query)["state"][0]
    query = {"code": code, "state": state, **changes}
    return await desk.http.get("/console/sign-in/callback", params=query)


async def test_one_comes_back_signed_in_to_where_one_wanted_to_go(desk: Desk, issuer: Issuer) -> None:
    address = await begin(desk)
    answer = await come_back(desk, address, issuer.authorize(address), iss=issuer.url)
    assert (answer.status_code, answer.headers["Location"]) == (303, "/console/prices")
    cookies = " ".join(answer.headers.get_list("Set-Cookie"))
    assert "__Host-orderplane=" in cookies
    assert {"Secure", "HttpOnly", "SameSite=lax", "Path=/"} <= {part.strip() for part in cookies.split(";")}
    # No token of the provider is in the browser.
    assert "staff-0" not in cookies and "refresh-0" not in cookies
    page = await desk.http.get("/console/prices")
    assert page.status_code == 200
    assert "ada@shop.example" in page.text
    assert "/console/accounts" not in page.text


@pytest.mark.parametrize(
    ("changes", "claims"),
    [
        ({"state": "x"}, {}),
        ({"iss": "https://evil.example"}, {}),
        ({"code": "code-9"}, {}),
        ({}, {"nonce": "x"}),
        ({}, {"aud": "another"}),
        ({}, {"iss": "https://evil.example"}),
    ],
)
async def test_an_answer_to_something_else_is_refused(
    desk: Desk, issuer: Issuer, changes: dict[str, str], claims: dict[str, str]
) -> None:
    issuer.changes = claims
    address = await begin(desk)
    code = issuer.authorize(address)
    answer = await come_back(desk, address, changes.pop("code", code), **changes)
    assert answer.status_code == 403
    assert (await desk.http.get("/console/prices")).status_code == 303


async def test_a_code_of_another_browser_is_of_no_use(desk: Desk, issuer: Issuer) -> None:
    stolen = issuer.authorize(await begin(desk))
    desk.http.cookies.clear()
    own = await begin(desk)
    assert (await come_back(desk, own, stolen)).status_code == 403
    desk.http.cookies.clear()
    assert (await come_back(desk, own, stolen)).status_code == 403


async def test_many_requests_ask_for_one_new_token(desk: Desk, issuer: Issuer) -> None:
    issuer.expires_in = 1
    address = await begin(desk)
    await come_back(desk, address, issuer.authorize(address))
    answers = await asyncio.gather(*(desk.http.get("/console/prices") for _ in range(5)))
    assert {answer.status_code for answer in answers} == {200}
    assert issuer.refreshed == 1


async def test_no_password_is_taken_where_people_sign_in_elsewhere(desk: Desk) -> None:
    await desk.http.get("/console/sign-in")
    token = desk.http.cookies.get("orderplane-sign-in")
    answer = await desk.http.post(
        "/console/sign-in", data={"token": token or "", "email": "a@b.example", "password": "x"}
    )
    assert answer.status_code == 403
