"""The application without its servers: every error is a problem document, and limits hold."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Annotated, Any

import httpx
import orjson
import pytest
from fastapi import Cookie, Depends, FastAPI, Header, Query, Request
from fastapi import Path as ParameterOfPath
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from starlette.responses import PlainTextResponse, Response
from starlette.types import ASGIApp
from structlog.testing import capture_logs

from orderplane.adapters.kubernetes.reflector import Reflector
from orderplane.crds.api_errors import (
    Forbidden,
    Gone,
    Invalid,
    NotFound,
    Overloaded,
    Unauthorized,
    Unavailable,
)
from orderplane.crds.meta import Kind
from orderplane.dev import openapi_page
from orderplane.gateway import openapi
from orderplane.gateway.app import create_app, declared_api
from orderplane.gateway.front_door import FrontDoor
from orderplane.gateway.http import request_limits as limits
from orderplane.gateway.http import telemetry
from orderplane.gateway.http.binding import CannotBeServedError
from orderplane.gateway.http.problems import BASE, PROBLEM_TYPES
from orderplane.gateway.http.request_limits import RequestLimits
from orderplane.gateway.orders.held_orders import HeldOrders
from orderplane.gateway.orders.order_reader import OrderReader
from orderplane.gateway.principal import SCOPES_OF, Principal, Role
from orderplane.ledgers.errors import Transient
from orderplane.ledgers.pricing import RefusalCode

from ..support.archive import EmptyArchive

DOCS = Path(__file__).parents[2] / "docs" / "openapi.json"


class BrokenApi:
    """An API server client that fails in one way."""

    def __init__(self, error: Exception) -> None:
        self.error = error

    async def get(self, *_: Any, **__: Any) -> Any:
        raise self.error

    async def list_page(self, *_: Any, **__: Any) -> Any:
        raise self.error


class Anybody:
    """Takes every token for a seller's."""

    async def caller(self, _: str) -> Principal:
        return Principal("demo", "u-seller", Role.MERCHANT, SCOPES_OF[Role.MERCHANT])


def app_with(error: Exception) -> ASGIApp:
    return app_on(BrokenApi(error))


def app_on(api: Any) -> ASGIApp:
    held = HeldOrders(10, time.monotonic)
    # No watch runs: each order is read from the API server.
    orders = OrderReader(api, held, Reflector(api, Kind.ORDER, held), EmptyArchive())
    services: Any = SimpleNamespace(api=api, authentication=Anybody(), load_shedding=None, orders=orders)
    return create_app(declared_api(services))


def client_of(app: Any) -> httpx.AsyncClient:
    headers = {"Authorization": "Bearer any"}
    return httpx.AsyncClient(
        transport=httpx.ASGITransport(app), base_url="http://127.0.0.1:8080", headers=headers
    )


def check(response: httpx.Response, code: str) -> dict[str, Any]:
    document: dict[str, Any] = response.json()
    assert response.headers["Content-Type"] == "application/problem+json"
    assert document["type"] == BASE + code
    assert document["code"] == code
    assert response.status_code == document["status"] == PROBLEM_TYPES[code].status
    assert document["title"]
    assert document["detail"]
    return document


@pytest.fixture
async def client() -> AsyncIterator[httpx.AsyncClient]:
    async with client_of(app_with(NotFound(404, "NotFound", "no"))) as client:
        yield client


async def test_an_unknown_address(client: httpx.AsyncClient) -> None:
    for path in ("/", "/nope", "/api/orders/", "/docs", "/redoc"):
        check(await client.get(path), "route_not_found")


@pytest.mark.parametrize(
    ("method", "path", "allow"),
    [
        ("PUT", "/api/orders", "GET, HEAD, POST"),
        ("DELETE", "/api/orders/o-1", "GET, HEAD"),
        ("GET", "/api/orders/o-1/cancel", "POST"),
        ("PUT", "/api/products", "GET, HEAD, POST"),
        ("OPTIONS", "/api/orders", "GET, HEAD, POST"),
        ("BREW", "/api/products/TEA", "DELETE, GET, HEAD, PATCH"),
        ("PUT", "/api/inventory/TEA", "GET, HEAD"),
        ("PUT", "/api/inventory/reserve", "POST"),
    ],
)
async def test_a_wrong_method(client: httpx.AsyncClient, method: str, path: str, allow: str) -> None:
    response = await client.request(method, path)
    check(response, "method_not_allowed")
    assert response.headers["Allow"] == allow


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (NotFound(404, "NotFound", "no"), "order_not_found"),
        (Overloaded(429, "TooManyRequests", "no", retry_after=7), "overloaded"),
        (Unavailable(0, "NoAnswer", "no"), "unavailable"),
        (Transient("LedgerUnavailable", "no"), "unavailable"),
        (Unauthorized(403, "Forbidden", "secret reason"), "unavailable"),
        (Forbidden(403, "Forbidden", "secret reason"), "internal_error"),
        (RuntimeError("secret reason"), "internal_error"),
    ],
)
async def test_failures_of_other_systems(error: Exception, code: str) -> None:
    with capture_logs() as logs:
        async with client_of(app_with(error)) as client:
            response = await client.get("/api/orders/o-1")
    check(response, code)
    assert bool(logs) is (response.status_code >= 500)
    assert "secret" not in response.text
    if response.status_code == 503:
        seconds = {Overloaded: 7, Unauthorized: 5}.get(type(error), 1)
        assert int(response.headers["Retry-After"]) == seconds


async def test_an_internal_error_names_its_trace(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(telemetry, "_tracer", TracerProvider().get_tracer("test"))
    trace_id = "0af7651916cd43dd8448eb211c80319c"
    headers = {"traceparent": f"00-{trace_id}-b7ad6b7169203331-01"}
    with capture_logs():
        async with client_of(app_with(RuntimeError("x"))) as client:
            response = await client.get("/api/orders/o-1", headers=headers)
    assert check(response, "internal_error")["traceId"] == trace_id


async def test_a_request_is_one_span_within_the_callers_trace(monkeypatch: pytest.MonkeyPatch) -> None:
    exporter = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    monkeypatch.setattr(telemetry, "_tracer", provider.get_tracer("test"))
    parent = "b7ad6b7169203331"
    headers = {"traceparent": f"00-0af7651916cd43dd8448eb211c80319c-{parent}-01"}
    async with client_of(app_with(NotFound(404, "NotFound", "no"))) as client:
        await client.get("/api/orders/o-1", headers=headers)
    (span,) = exporter.get_finished_spans()
    assert span.name == "GET /api/orders/{order_id}"
    assert span.parent is not None
    assert format(span.parent.span_id, "016x") == parent
    assert span.attributes is not None
    assert span.attributes["http.response.status_code"] == 404


@pytest.mark.parametrize("error", [Gone(410, "Expired", "x"), Invalid(400, "BadRequest", "x")])
async def test_a_list_token_that_the_server_does_not_take(error: Exception) -> None:
    async with client_of(app_with(error)) as client:
        response = await client.get("/api/orders")
    check(response, "cursor_expired" if isinstance(error, Gone) else "invalid_cursor")


@pytest.mark.parametrize(
    "query",
    ["limit=0", "limit=201", "limit=x", "phase=Nope", f"cursor={'x' * 5000}",
     "createdAfter=yesterday", "createdAfter=1767225600", "createdBefore=2026-01-31T12:00:00", "sku=a%2Fb"],
)  # fmt: skip
async def test_a_wrong_parameter_is_named_and_its_value_is_not(client: httpx.AsyncClient, query: str) -> None:
    response = await client.get(f"/api/orders?{query}")
    parameter, _, value = query.partition("=")
    assert check(response, "validation_failed")["errors"][0]["parameter"] == parameter
    assert len(value) == 1 or value not in response.text


@pytest.mark.parametrize("order_id", ["O-1", "a%2Fb", "..", "x" * 51, "-a", "a-", "a%00", "é"])
async def test_what_cannot_be_a_name_is_not_even_looked_up(order_id: str) -> None:
    async with client_of(app_with(RuntimeError("asked"))) as client:
        response = await client.get(f"/api/orders/{order_id}")
    assert response.status_code == 404


@pytest.mark.parametrize(
    "content_type", [None, "text/plain", "application/json; charset=latin-1", "multipart/form-data"]
)
async def test_another_media_type(client: httpx.AsyncClient, content_type: str | None) -> None:
    headers = {"Idempotency-Key": "k"} | ({"Content-Type": content_type} if content_type else {})
    check(await client.post("/api/orders", content=b"{}", headers=headers), "unsupported_media_type")


@pytest.mark.parametrize("coding", ["gzip", "br", "GZIP", "identity, gzip", "x"])
async def test_a_coded_body_is_refused_with_the_coding_that_is_taken(
    client: httpx.AsyncClient, coding: str
) -> None:
    """RFC 9110, 15.5.16."""
    headers = {"Idempotency-Key": "k", "Content-Type": "application/json", "Content-Encoding": coding}
    for path in ("/api/orders", "/api/auth/login", "/api/products"):
        response = await client.post(path, content=b"{}", headers=headers)
        check(response, "unsupported_media_type")
        assert response.headers["Accept-Encoding"] == "identity"
    plain = await client.post(
        "/api/orders", content=b"{}", headers=headers | {"Content-Encoding": "identity"}
    )
    check(plain, "validation_failed")


async def test_head_is_get_without_its_content() -> None:
    page = SimpleNamespace(items=[], continue_token=None)

    async def list_page(*_: Any, **__: Any) -> Any:
        return page

    async with client_of(app_on(SimpleNamespace(list_page=list_page))) as client:
        got = await client.get("/api/orders")
        head = await client.head("/api/orders")
        assert (head.status_code, head.content) == (200, b"")
        assert head.headers == got.headers
        nobody = await client.head("/api/orders", headers={"Authorization": ""})
        assert (nobody.status_code, nobody.content) == (401, b"")
        assert (await client.head("/api/orders/o-1/cancel")).headers["Allow"] == "POST"
        assert (await client.head("/nothing")).status_code == 404


@pytest.mark.parametrize(
    ("query", "parameter", "known"),
    [
        ("client=c-9", "client", True),
        ("limit=1&limit=2", "limit", False),
        ("limit=5&Limit=5", "Limit", True),
        ("phase=Paid&phase=Paid", "phase", False),
        ("=x", "?", True),
        ("%7B%22a%22%7D=secret", "?", True),
        ("created_after=2026-01-31T12:00:00Z", "created_after", True),
    ],
)
async def test_an_unknown_or_repeated_parameter_is_refused(
    client: httpx.AsyncClient, query: str, parameter: str, known: bool
) -> None:
    document = check(await client.get(f"/api/orders?{query}"), "validation_failed")
    (place,) = document["errors"]
    assert place["parameter"] == parameter
    if known:
        names = "createdAfter, createdBefore, cursor, customer, limit, phase, reason, reference, sku, stalled"
        assert place["detail"].endswith(f"There are: {names}.")
    assert "secret" not in str(document)


async def test_a_route_without_parameters_takes_none(client: httpx.AsyncClient) -> None:
    for method, path in (
        ("GET", "/api/orders/o-1/timeline"), ("POST", "/api/orders"), ("DELETE", "/api/products/A"),
        ("GET", "/openapi.json"),
    ):  # fmt: skip
        document = check(await client.request(method, f"{path}?dryRun=true"), "validation_failed")
        assert document["errors"][0]["detail"].endswith("There are none.")


async def test_a_long_address_is_refused(client: httpx.AsyncClient) -> None:
    check(await client.get(f"/api/orders?cursor={'x' * limits.MAX_TARGET}"), "target_too_long")
    check(await client.get(f"/api/orders/{'x' * limits.MAX_TARGET}"), "target_too_long")


async def test_every_answer_forbids_sniffing(client: httpx.AsyncClient) -> None:
    assert (await client.get("/nope")).headers["X-Content-Type-Options"] == "nosniff"


# Limits


async def swallow(request: Request) -> Response:
    """A route that answers with the number of bytes it was sent."""
    return PlainTextResponse(str(len(await request.body())))


def door_to(answer: Callable[[Request], Awaitable[Response]], **limited: int) -> FrontDoor:
    """The door with one route behind it."""
    api = FastAPI(openapi_url=None)
    api.add_api_route("/", answer, methods=["GET", "POST"], response_model=None)
    return FrontDoor(api, limits=RequestLimits(**limited))


def raw(method: str, *headers: tuple[bytes, bytes], address: str = "192.0.2.1") -> dict[str, Any]:
    """The scope of a request, as the server makes it."""
    return {
        "type": "http", "method": method, "path": "/", "raw_path": b"/", "query_string": b"",
        "client": (address, 1), "headers": list(headers),
    }  # fmt: skip


async def chunks(count: int, size: int) -> AsyncIterator[bytes]:
    for _ in range(count):
        yield b"x" * size


async def test_cookies_are_never_parsed() -> None:
    """Python's parser takes seconds for some of them (CVE-2024-7592)."""
    seen: list[Any] = []

    async def look(request: Request) -> Response:
        seen.extend(request.scope["headers"])
        assert not request.cookies
        return await swallow(request)

    async with client_of(door_to(look)) as client:
        await client.post("/", content=b"x", headers={"Cookie": 'a="\\\\"', "X-Other": "b"})
    assert "b" in [value.decode() for name, value in seen if name == b"x-other"]
    assert b"cookie" not in [name for name, _ in seen]


async def test_a_body_up_to_the_limit_passes_whole() -> None:
    async with client_of(door_to(swallow)) as client:
        assert (await client.post("/", content=b"x" * limits.MAX_BODY)).text == str(limits.MAX_BODY)
        assert (await client.post("/", content=chunks(8, 8192))).text == str(limits.MAX_BODY)


async def test_a_body_beyond_the_limit_is_refused_with_and_without_a_length() -> None:
    async with client_of(door_to(swallow)) as client:
        check(await client.post("/", content=b"x" * (limits.MAX_BODY + 1)), "body_too_large")
        check(await client.post("/", content=chunks(9, 8192)), "body_too_large")


async def test_a_declared_length_is_enough_to_refuse() -> None:
    sent: list[Any] = []

    async def receive() -> Any:
        assert sent, "the body was asked for before the answer"
        return {"type": "http.disconnect"}

    async def send(message: Any) -> None:
        sent.append(message)

    await door_to(swallow)(raw("POST", (b"content-length", b"1000000")), receive, send)
    assert sent[0]["status"] == 413
    assert (b"connection", b"close") in sent[0]["headers"]
    assert sent[-1]["more_body"] is False


async def test_a_body_that_does_not_come_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "BODY_SECONDS", 0.01)
    monkeypatch.setattr(limits, "_DRAIN_SECONDS", 0.01)
    sent: list[Any] = []

    async def receive() -> Any:
        await asyncio.Event().wait()

    async def send(message: Any) -> None:
        sent.append(message)

    await door_to(swallow)(raw("POST", (b"content-length", b"5")), receive, send)
    assert sent[0]["status"] == 408


async def test_too_many_requests_at_once_are_refused() -> None:
    gate = asyncio.Event()

    async def wait(request: Request) -> Response:
        await gate.wait()
        return await swallow(request)

    async with client_of(door_to(wait, max_in_flight=1)) as client:
        first = asyncio.create_task(client.get("/"))
        await asyncio.sleep(0)
        while True:
            second = await asyncio.wait_for(client.get("/"), 5) if not first.done() else None
            if second is not None and second.status_code == 503:
                break
        check(second, "overloaded")
        gate.set()
        assert (await first).status_code == 200
        assert (await client.get("/")).status_code == 200


class HalfSent:
    """A request whose body never ends."""

    def __init__(self, app: Any, address: str) -> None:
        self.scope = raw("POST", (b"content-length", b"5"), address=address)
        self.sent: list[Any] = []
        self.is_waiting = asyncio.Event()
        self.task = asyncio.create_task(app(self.scope, self.receive, self.send))

    async def receive(self) -> Any:
        if self.sent:
            return {"type": "http.disconnect"}
        self.is_waiting.set()
        return await asyncio.get_running_loop().create_future()

    async def send(self, message: Any) -> None:
        self.sent.append(message)


async def test_half_sent_bodies_take_no_room_from_others() -> None:
    """As many of one address as there are slots: others are served, and the address pushes out its oldest."""
    app = door_to(swallow, max_in_flight=4, unfinished_per_address=3)
    half_sent = [HalfSent(app, "192.0.2.1") for _ in range(8)]
    elsewhere = HalfSent(app, "192.0.2.2")
    for request in (*half_sent, elsewhere):
        await asyncio.wait_for(request.is_waiting.wait(), 5)
    async with client_of(app) as client:
        for _ in range(10):
            assert (await client.post("/", content=b"whole")).text == "5"
    pushed_out, waiting = half_sent[:5], half_sent[5:]
    for request in pushed_out:
        await asyncio.wait_for(request.task, 5)
        assert request.sent[0]["status"] == 408
        assert b"oldest" in request.sent[1]["body"]
    for request in (*waiting, elsewhere):
        assert not request.sent
        request.task.cancel()
    await asyncio.gather(*(request.task for request in (*waiting, elsewhere)), return_exceptions=True)
    assert len(app._limits._unfinished) == 0


async def test_answers_that_nobody_reads_take_no_room_from_others() -> None:
    app = door_to(swallow, max_in_flight=4)
    unread: asyncio.Queue[Any] = asyncio.Queue()
    reading = asyncio.Event()

    async def receive() -> Any:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: Any) -> None:
        unread.put_nowait(message)
        await reading.wait()

    waiting = [asyncio.create_task(app(raw("GET"), receive, send)) for _ in range(8)]
    for _ in waiting:
        assert (await asyncio.wait_for(unread.get(), 5))["status"] == 200
    async with client_of(app) as client:
        for _ in range(10):
            assert (await client.get("/")).status_code == 200
    reading.set()
    await asyncio.gather(*waiting)
    assert app._limits._in_flight == 0


async def test_a_failure_gives_its_room_back() -> None:
    async def fail(_: Request) -> Response:
        raise RuntimeError("x")

    app = door_to(fail, max_in_flight=1)
    with capture_logs():
        async with client_of(app) as client:
            for _ in range(2):
                check(await client.get("/"), "internal_error")
    assert app._limits._in_flight == 0


@pytest.mark.parametrize(
    "declare",
    [
        lambda api: api.get("/{number}")(_with_a_number),
        lambda api: api.get("/")(_with_a_cookie),
        lambda api: api.post("/")(_with_a_body),
        lambda api: api.get("/")(lambda: None),
        lambda api: api.get("/")(_with_what_is_required),
        lambda api: api.get("/{word}")(_with_a_pattern),
        lambda api: api.get("/")(_without_a_response),
        lambda api: api.get("/", dependencies=[Depends(_once)])(_with_what_another_has),
    ],
)
def test_a_route_that_cannot_be_served_ends_the_start(declare: Callable[[FastAPI], Any]) -> None:
    api = FastAPI(openapi_url=None)
    declare(api)
    with pytest.raises(CannotBeServedError):
        FrontDoor(api)


async def _with_a_number(number: int) -> Response:
    raise NotImplementedError


async def _with_a_cookie(word: Annotated[str, Cookie()] = "") -> Response:
    raise NotImplementedError


async def _with_a_body(words: list[str]) -> Response:
    raise NotImplementedError


async def _with_what_is_required(word: str) -> Response:
    raise NotImplementedError


async def _with_a_pattern(word: Annotated[str, ParameterOfPath(pattern="a")]) -> Response:
    raise NotImplementedError


async def _without_a_response() -> dict[str, str]:
    raise NotImplementedError


async def _once() -> int:
    raise NotImplementedError


async def _with_what_another_has(number: Annotated[int, Depends(_once)]) -> Response:
    raise NotImplementedError


async def test_parameters_come_as_they_are_declared() -> None:
    """In a header, however its name is spelt; in a query, however often; else their defaults."""
    seen: list[Any] = []

    async def keep(
        word: str,
        number: Annotated[int, Query(ge=1, alias="aNumber")] = 7,
        words: Annotated[list[str] | None, Query()] = None,
        tag: Annotated[str | None, Header(alias="X-Tag")] = None,
        other_tag: Annotated[int, Header()] = 0,
    ) -> Response:
        seen.append((word, number, words, tag, other_tag))
        return PlainTextResponse("")

    api = FastAPI(openapi_url=None)
    api.get("/{word}")(keep)
    async with client_of(FrontDoor(api)) as client:
        await client.get("/a")
        await client.get("/b?aNumber=2&words=x", headers={"x-TAG": "t", "Other-Tag": "3"})
        check(await client.get("/c?aNumber=0", headers={"Other-Tag": "3"}), "validation_failed")
        check(await client.get("/c", headers={"Other-Tag": "three"}), "validation_failed")
    assert seen == [("a", 7, None, None, 0), ("b", 2, ["x"], "t", 3)]


async def test_a_request_that_ends_midway_is_counted_and_its_room_is_free() -> None:
    """The server cancels what has not ended when its time to drain is over."""
    begun = asyncio.Event()

    async def wait(_: Request) -> Response:
        begun.set()
        await asyncio.Event().wait()
        raise NotImplementedError

    app, sent = door_to(wait), asyncio.Queue[Any]()
    in_flight = telemetry.IN_FLIGHT._value.get()
    task = asyncio.create_task(app(raw("GET"), asyncio.Queue[Any]().get, sent.put))
    await asyncio.wait_for(begun.wait(), 5)
    assert telemetry.IN_FLIGHT._value.get() == in_flight + 1
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert (telemetry.IN_FLIGHT._value.get(), app._limits._in_flight) == (in_flight, 0)
    assert sent.empty()


# Documents


def test_every_refusal_of_a_quote_is_a_known_problem() -> None:
    assert {code.value for code in RefusalCode} <= set(PROBLEM_TYPES)


def test_the_committed_document_is_the_generated_one() -> None:
    assert DOCS.read_bytes() == openapi_page.page(), (
        "docs/openapi.json is not what the code says. "
        "Write it anew: python -m orderplane.dev.openapi_page > docs/openapi.json"
    )


async def test_the_document_is_served_from_bytes_that_are_made_once(
    client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = await client.get("/openapi.json")
    assert first.status_code == 200
    assert first.json() == orjson.loads(openapi_page.page())
    monkeypatch.setattr(openapi, "document", None)
    again = await client.get("/openapi.json")
    assert (again.content, again.headers) == (first.content, first.headers)
    assert (await client.head("/openapi.json")).headers == first.headers
    for tag, status in ((first.headers["ETag"], 304), ('W/"other"', 200)):
        known = await client.get("/openapi.json", headers={"If-None-Match": tag})
        assert (known.status_code, known.headers["ETag"]) == (status, first.headers["ETag"])
        assert bool(known.content) is (status == 200)


def test_the_document_is_complete() -> None:
    document = orjson.loads(openapi_page.page())
    assert document["openapi"].startswith("3.1")
    components = document["components"].items()
    known = {f"#/components/{part}/{name}" for part, named in components for name in named}
    assert {value for key, value in _walk(document) if key == "$ref"} <= known
    operations = [operation for path in document["paths"].values() for operation in path.values()]
    assert len(operations) == 69
    for operation in operations:
        assert operation["summary"]
        assert operation["description"]
        assert {"500", "503"} <= set(operation["responses"])
        for status, response in operation["responses"].items():
            if int(status) >= 400:
                assert set(response["content"]) == {"application/problem+json"}, (
                    operation["summary"],
                    status,
                )


def _walk(part: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(part, dict):
        for key, value in part.items():
            yield key, value
            yield from _walk(value)
    elif isinstance(part, list):
        for value in part:
            yield from _walk(value)
