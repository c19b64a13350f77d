"""CORS: off by default, and by origin where it is on."""

from typing import Any

import httpx
import pytest

from orderplane.gateway.app import create_app, declared_api
from orderplane.gateway.http.cors import origins

from .threaded_server import app_without_dependencies

SHOP = "https://shop.example"
PREFLIGHT = {
    "Origin": SHOP,
    "Access-Control-Request-Method": "POST",
    "Access-Control-Request-Headers": "authorization,content-type,idempotency-key",
}


def client_of(*allowed: str) -> httpx.AsyncClient:
    services: Any = app_without_dependencies().api.state.services
    app = create_app(declared_api(services), cors_origins=allowed)
    return httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://door.test")


async def test_without_a_setting_no_script_of_another_origin_gets_in() -> None:
    async with client_of() as client:
        assert (await client.options("/api/orders", headers=PREFLIGHT)).status_code == 405
        answer = await client.get("/api/orders", headers={"Origin": SHOP})
        assert not [name for name in answer.headers if name.startswith("access-control")]


async def test_a_preflight_needs_no_token() -> None:
    async with client_of(SHOP) as client:
        answer = await client.options("/api/orders", headers=PREFLIGHT)
    assert answer.status_code == 200
    assert answer.headers["Access-Control-Allow-Origin"] == SHOP
    assert "Access-Control-Allow-Credentials" not in answer.headers
    assert "Idempotency-Key" in answer.headers["Access-Control-Allow-Headers"]
    assert "Origin" in answer.headers["Vary"]


@pytest.mark.parametrize("path", ["/api/orders", "/nothing", "/api/products"])
async def test_also_a_refusal_can_be_read_by_the_script(path: str) -> None:
    async with client_of(SHOP) as client:
        answer = await client.get(path, headers={"Origin": SHOP})
        assert answer.status_code in (401, 404)
        assert answer.headers["Access-Control-Allow-Origin"] == SHOP
        exposed = answer.headers["Access-Control-Expose-Headers"]
        assert {"ETag", "Location", "Retry-After", "RateLimit"} <= set(exposed.split(", "))
        assert (await client.get(path)).headers["Vary"] == "Origin"


@pytest.mark.parametrize(
    "origin",
    ["https://shop.example.evil", "http://shop.example", "https://shop.example:444", "null", "*", ""],
)
async def test_another_origin_is_another_one(origin: str) -> None:
    async with client_of(SHOP) as client:
        answer = await client.get("/api/orders", headers={"Origin": origin})
        assert "Access-Control-Allow-Origin" not in answer.headers
        assert answer.headers["Vary"] == "Origin"
        preflight = await client.options("/api/orders", headers=PREFLIGHT | {"Origin": origin})
        assert preflight.status_code == 400
        assert "Access-Control-Allow-Origin" not in preflight.headers


def test_origins_as_browsers_write_them() -> None:
    assert origins("") == ()
    text = "https://shop.example, http://localhost:3000,https://[::1]:8443"
    assert origins(text) == ("https://shop.example", "http://localhost:3000", "https://[::1]:8443")


@pytest.mark.parametrize(
    "text",
    [
        "*", "null", "shop.example", "https://shop.example/", "https://shop.example/a", "HTTPS://shop.example",
        "https://Shop.example", "https://*.example", "https://shop.example:443", "http://shop.example:80",
        "https://a https://b", "ftp://shop.example",
    ],
)  # fmt: skip
def test_what_is_no_origin(text: str) -> None:
    with pytest.raises(ValueError, match="is not an origin"):
        origins(text)
