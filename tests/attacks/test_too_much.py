"""Too large, too deep, too slow: refused while other requests are served."""

import asyncio
import time
from typing import Any

import httpx
import pytest

from orderplane.gateway.http.connections import HEADER_SECONDS
from orderplane.gateway.http.request_limits import BODY_SECONDS, MAX_BODY, MAX_IN_FLIGHT

from ..support.plane import ORDER
from .conftest import Target, code_of

pytestmark = pytest.mark.integration

DEEP = {
    "arrays": b"[" * 30_000 + b"]" * 30_000,
    "objects": b'{"a":' * 9_000 + b"1" + b"}" * 9_000,
    "unclosed arrays": b"[" * 60_000,
    "unclosed objects": b'{"a":' * 12_000,
    "in an order": b'{"items": ' + b"[" * 30_000 + b"]" * 30_000 + b"}",
}

TEA = "TEA-EARL-GREY-100"
TAKEN = (
    ("POST", "/api/orders"),
    ("POST", "/api/auth/register"),
    ("POST", "/api/products"),
    ("PATCH", f"/api/products/{TEA}"),
    ("POST", f"/api/inventory/{TEA}/adjustments"),
    ("POST", f"/api/inventory/{TEA}/recounts"),
    ("POST", "/api/inventory/reserve"),
    ("POST", "/api/inventory/release"),
)
"""Where JSON is taken."""

LARGE = {
    "a number": b'{"paymentMethod": ' + b"9" * 60_000 + b"}",
    "a text": b'{"paymentMethod": "' + b"x" * 60_000 + b'"}',
    "members": b"{" + b",".join(b'"m%d": 1' % number for number in range(5_000)) + b"}",
    "items": b'{"items": [' + b",".join([b'{"sku": "A"}'] * 4_500) + b"]}",
    "an exponent": b'{"ttlSecondsAfterFinished": 1e999999999}',
    "half a surrogate": b'{"paymentMethod": "\\ud800"}',
    "no UTF-8": b'{"paymentMethod": "\xff\xfe"}',
    "a mark before it": b"\xef\xbb\xbf{}",
    "twice the same member": b'{"paymentMethod": "a", "paymentMethod": "b"}',
}


async def is_served(target: Target) -> bool:
    started = time.monotonic()
    answer = await target.http.get("/api/products", headers=target.customer.headers)
    return answer.status_code == 200 and time.monotonic() - started < 5


@pytest.mark.parametrize("name", DEEP)
async def test_nesting_is_refused(target: Target, name: str) -> None:
    assert len(DEEP[name]) <= MAX_BODY
    for method, path in TAKEN:
        answer = await target.send(method, path, DEEP[name], target.seller)
        assert code_of(answer) == (400, "invalid_json"), path
    assert await is_served(target)


@pytest.mark.parametrize("name", LARGE)
async def test_strange_json_is_refused(target: Target, name: str) -> None:
    assert len(LARGE[name]) <= MAX_BODY
    for method, path in TAKEN:
        answer = await target.send(method, path, LARGE[name], target.seller)
        assert code_of(answer) in ((400, "invalid_json"), (422, "validation_failed")), path
        assert len(answer.content) < 8_192, "what was sent does not come back"
    assert await is_served(target)


async def test_a_merge_patch_that_nests_changes_nothing(target: Target) -> None:
    """Only so deep that it is read: what it is laid upon has no such depth."""
    headers = target.seller.headers
    before = (await target.http.get(f"/api/products/{TEA}", headers=headers)).json()
    for member in ("name", "price", "otherPrices", "weightGrams", "archived", "__proto__"):
        patch: Any = {member: {"price": {"amount": 1, "a": {"a": {"a": {"a": {"a": None}}}}}}}
        answer = await target.send("PATCH", f"/api/products/{TEA}", patch, target.seller)
        assert code_of(answer) == (422, "validation_failed"), member
    for number in (b"1e999", b"-1e999", b"1e2", b"9" * 400):
        patch = b'{"price": {"amount": ' + number + b"}}"
        answer = await target.send("PATCH", f"/api/products/{TEA}", patch, target.seller)
        assert code_of(answer) in ((400, "invalid_json"), (422, "validation_failed")), number
    assert (await target.http.get(f"/api/products/{TEA}", headers=headers)).json() == before


@pytest.mark.parametrize(("method", "path"), [*TAKEN, ("POST", "/api/auth/login")])
async def test_a_body_has_an_end(target: Target, method: str, path: str) -> None:
    answer = await target.send(method, path, b" " * (MAX_BODY + 1), target.seller)
    assert code_of(answer) == (413, "body_too_large")
    assert await is_served(target)


async def test_a_head_has_an_end(target: Target) -> None:
    """A megabyte; what comes in one piece may be some more than the limit, and is not much."""
    for headers in ({"X-Long": "x" * 1_000_000}, {f"X-{number}": "x" * 50 for number in range(18_000)}):
        try:
            answer = await target.http.get("/api/products", headers=target.customer.headers | headers)
        except httpx.TransportError:
            # It hung up while we were still speaking.
            continue
        assert answer.status_code in (400, 431)
    assert await is_served(target)


async def test_half_sent_bodies_of_one_address_take_no_room_from_others(target: Target) -> None:
    """More than there is room for: everybody else is served, and so is the address itself."""
    head = b"POST /api/orders HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
    half = head + b"Content-Length: 100\r\n\r\n{"
    connections = [await target.connect() for _ in range(MAX_IN_FLIGHT + 44)]
    try:
        for _, writer in connections:
            writer.write(half)
            await writer.drain()
        assert await is_served(target)
        assert (await target.post("/api/orders", ORDER)).status_code == 202
        bare = await target.http.get("/.well-known/jwks.json", headers={"X-Forwarded-For": "127.0.0.1"})
        assert bare.status_code == 200
        # The oldest have made room; the youngest still may finish.
        said = await asyncio.wait_for(connections[0][0].readline(), 5)
        assert said.startswith(b"HTTP/1.1 408 ")
        reader, writer = connections[-1]
        writer.write(b" " * 98 + b"}")
        assert (await asyncio.wait_for(reader.readline(), 5)).startswith(b"HTTP/1.1 401 ")
    finally:
        for _, writer in connections:
            writer.close()


async def test_who_is_slow_waits_alone(target: Target) -> None:
    """Slowloris: hundreds of connections that never say what they want, or never finish to say it."""
    head = b"POST /api/orders HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
    token = f"Authorization: Bearer {target.customer.token}\r\nIdempotency-Key: k\r\n".encode()
    first = {
        "nothing": b"",
        "half a head": head,
        "half a body": head + token + b"Content-Length: 100\r\n\r\n{",
        "half a chunk": head + token + b"Transfer-Encoding: chunked\r\n\r\nff\r\n{",
        "half a second request": b"GET /.well-known/jwks.json HTTP/1.1\r\nHost: x\r\n\r\nGET / HTTP/1.1\r\n",
    }

    async def linger(name: str) -> tuple[str, float, bytes]:
        """Send a byte a second until the other side ends it; how long that took, and what was said first."""
        reader, writer = await target.connect()
        started = time.monotonic()
        writer.write(first[name])
        # After its refusal it hangs up, and what is sent then would take the rest of it away.
        hearing = reader.read() if name == "half a second request" else reader.readline()
        reading = asyncio.create_task(hearing)
        try:
            while not reading.done():
                await asyncio.wait([reading], timeout=1)
                if name != "nothing" and not writer.is_closing():
                    writer.write(b"x")
            return name, time.monotonic() - started, await reading
        except ConnectionError:
            return name, time.monotonic() - started, b""
        finally:
            writer.close()

    longest = max(HEADER_SECONDS, BODY_SECONDS) + 15
    async with asyncio.timeout(longest + 15), asyncio.TaskGroup() as group:
        lingering = [group.create_task(linger(name)) for name in first for _ in range(60)]
        await asyncio.sleep(2)
        assert await is_served(target)
        assert (await target.post("/api/orders", ORDER)).status_code == 202
    for task in lingering:
        name, seconds, said = task.result()
        assert seconds < longest, name
        if name in ("half a body", "half a chunk"):
            assert said.startswith(b"HTTP/1.1 408 "), (name, said)
