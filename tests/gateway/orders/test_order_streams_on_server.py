"""Streams of orders of a gateway as its own process, on a real API server."""

import asyncio
import json
import signal
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import httpx
import pytest

from orderplane.client.event_stream import EventReader, ServerEvent
from orderplane.crds.meta import Kind
from orderplane.dev.localplane.ports import free_port
from orderplane.gateway.identity.tokens import ACCESS_SECONDS, LEEWAY_SECONDS
from orderplane.gateway.identity.user_store import UserStore
from orderplane.gateway.orders.order_feed import MAX_WAITING
from orderplane.gateway.principal import SCOPES_OF, Principal, Role

from ..conftest import MERCHANT, Behind, Gateway, order_of, running_gateway, token_of, until
from ..traffic.users import metric

pytestmark = pytest.mark.integration

PHASES = ["Reserved", "Paid", "Shipped", "Delivered"]
STREAM_TIMEOUT = httpx.Timeout(30, read=60)


class Watcher:
    """A client of one stream after the other."""

    def __init__(self, token: str, path: str = "/api/orders/watch", **query: str | int) -> None:
        self.token, self.path, self.query = token, path, query
        self.events: list[ServerEvent] = []
        self.last_id: str | None = None
        self._new = asyncio.Condition()

    @property
    def names(self) -> list[str]:
        return [event.name for event in self.events]

    @property
    def changes(self) -> list[tuple[str, str]]:
        """Ids and phases of what was told since the last state."""
        found: list[tuple[str, str]] = []
        for event in self.events:
            if event.name == "reset":
                found = []
            elif event.name == "order" and event.id is not None:
                order = json.loads(event.data)
                found.append((order["id"], order["phase"]))
        return found

    @property
    def phases(self) -> list[str]:
        return [phase for _, phase in self.changes]

    def end(self) -> dict[str, Any]:
        assert self.names[-1] == "end"
        found: dict[str, Any] = json.loads(self.events[-1].data)
        return found

    async def follow(self, gateway: Gateway) -> None:
        """Until the stream ends."""
        headers = {"Authorization": f"Bearer {self.token}"}
        if self.last_id is not None:
            headers["Last-Event-ID"] = self.last_id
        reader = EventReader(self.last_id)
        async with gateway.http.stream(
            "GET", self.path, params=self.query, headers=headers, timeout=STREAM_TIMEOUT
        ) as answer:
            assert answer.status_code == 200, await answer.aread()
            assert answer.headers["Content-Type"].startswith("text/event-stream")
            assert answer.headers["Cache-Control"] == "no-store"
            assert answer.headers["X-Accel-Buffering"] == "no"
            async for piece in answer.aiter_raw():
                self.events += reader.feed(piece)
                self.last_id = reader.last_id
                async with self._new:
                    self._new.notify_all()

    @asynccontextmanager
    async def following(self, gateway: Gateway) -> AsyncIterator[None]:
        """A stream that goes on after its state, until the end of the block."""
        seen = len(self.events)
        task = asyncio.create_task(self.follow(gateway))
        try:
            if self.last_id is None:
                await self.until(lambda: "synced" in self.names[seen:], task)
            yield
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    async def until(self, is_so: Any, task: asyncio.Task[None] | None = None) -> None:
        async with asyncio.timeout(30), self._new:
            while not is_so():
                assert task is None or not task.done(), task.result() if task else None
                await self._new.wait()


async def user(behind: Behind, name: str, role: Role = Role.CUSTOMER) -> str:
    """A new user; answers a token."""
    await UserStore(behind.pool).add(
        MERCHANT, name, email=f"{name}@example.test", password_hash="", role=role.value
    )
    return token_of(behind.plane, Principal(MERCHANT, name, role, SCOPES_OF[role]))


async def place(gateway: Gateway, customer: str) -> str:
    answer = await gateway.post(order_of(customer=customer))
    assert answer.status_code == 202, answer.text
    name: str = answer.json()["id"]
    return name


async def test_a_customer_sees_their_order_as_it_changes(gateway: Gateway, behind: Behind) -> None:
    ada, eve = Watcher(await user(behind, "c-stream-ada")), Watcher(await user(behind, "c-stream-eve"))
    async with ada.following(gateway), eve.following(gateway):
        name = await place(gateway, "c-stream-ada")
        one = Watcher(ada.token, f"/api/orders/{name}/watch")
        async with one.following(gateway):
            for phase in PHASES:
                await behind.report(name, phase=phase)
            await ada.until(lambda: ada.phases[-1:] == PHASES[-1:])
            await one.until(lambda: one.phases[-1:] == PHASES[-1:])
            await behind.remove(name)
            await ada.until(lambda: "gone" in ada.names)
            await one.until(lambda: "gone" in one.names)
    assert ada.changes[: 1 + len(PHASES)] == [(name, phase) for phase in ("Pending", *PHASES)]
    assert [phase for phase in one.phases if phase != "Pending"][: len(PHASES)] == PHASES
    assert eve.names == ["reset", "synced"]
    stranger = await gateway.http.get(
        f"/api/orders/{name}/watch", headers={"Authorization": f"Bearer {eve.token}"}
    )
    assert stranger.status_code == 404


async def test_filters_and_the_size_of_the_state(gateway: Gateway, behind: Behind) -> None:
    token = await user(behind, "u-stream-filters", Role.MERCHANT)
    first, second = [await place(gateway, "c-stream-filters") for _ in range(2)]
    query: dict[str, str | int] = {"customer": "c-stream-filters", "timeoutSeconds": 0}
    for limit, shown in ((0, []), (1, [second]), (50, [first, second])):
        watcher = Watcher(token, limit=limit, **query)
        await watcher.follow(gateway)
        orders = [json.loads(event.data)["id"] for event in watcher.events if event.name == "order"]
        assert sorted(orders) == sorted(shown) if limit != 1 else len(orders) == 1
        assert watcher.names == ["reset", *["order"] * len(shown), "synced", "end"]
        assert watcher.end()["code"] == "timeout"
    pending = Watcher(token, customer="c-stream-filters", phase="Pending")
    async with pending.following(gateway):
        await behind.report(first, phase="Paid")
        await pending.until(lambda: pending.names[-1] == "gone")
    assert json.loads(pending.events[-1].data) == {"id": first}
    for name in (first, second):
        await behind.remove(name)


async def test_all_go_on_without_a_gap_when_the_gateway_is_killed(behind: Behind) -> None:
    """Also at another gateway."""
    port, customers = free_port(), [f"c-stream-{number}" for number in range(8)]
    watchers = [Watcher(await user(behind, customer)) for customer in customers]
    seller = Watcher(await user(behind, "u-stream-seller", Role.MERCHANT), limit=0)
    everybody = [*watchers, seller]

    async def report_all(phase: str) -> None:
        for name in names:
            await behind.report(name, phase=phase)

    async with AsyncExitStack() as stack:
        first = await stack.enter_async_context(running_gateway(behind.plane, port=port))
        names = [await place(first, customer) for customer in customers]
        async with AsyncExitStack() as streams:
            for watcher in everybody:
                await streams.enter_async_context(watcher.following(first))
            await report_all("Reserved")
            for watcher in watchers:
                await watcher.until(lambda w=watcher: w.phases[-1:] == ["Reserved"])
            first.process.send_signal(signal.SIGKILL)
            await first.process.wait()
        await report_all("Paid")
        second = await stack.enter_async_context(running_gateway(behind.plane, port=port))
        async with AsyncExitStack() as streams:
            for watcher in everybody:
                await streams.enter_async_context(watcher.following(second))
            await report_all("Shipped")
            for watcher in watchers:
                await watcher.until(lambda w=watcher: w.phases[-1:] == ["Shipped"])
        other = await stack.enter_async_context(running_gateway(behind.plane))
        async with AsyncExitStack() as streams:
            for watcher in everybody:
                await streams.enter_async_context(watcher.following(other))
            await report_all("Delivered")
            for watcher in everybody:
                await watcher.until(lambda w=watcher: w.phases[-1:] == ["Delivered"])
            await seller.until(lambda: seller.phases.count("Delivered") >= len(names))
    for name, watcher in zip(names, watchers, strict=True):
        assert watcher.names.count("reset") == 1
        assert [change for change in watcher.changes if change[1] != "Pending"] == [
            (name, phase) for phase in ("Reserved", "Paid", "Shipped", "Delivered")
        ]
        # The seller sees the same of each order.
        assert [c for c in seller.changes if c[0] == name] == [
            (name, phase) for phase in ("Reserved", "Paid", "Shipped", "Delivered")
        ]
    assert seller.names.count("reset") == 1
    for name in names:
        await behind.remove(name)


@pytest.mark.parametrize("last_id", ["1-00000000", "anything"])
async def test_an_unknown_position_is_told_and_not_passed_over(
    gateway: Gateway, behind: Behind, last_id: str
) -> None:
    watcher = Watcher(await user(behind, f"c-stream-{last_id}"), timeoutSeconds=0)
    watcher.last_id = last_id
    await watcher.follow(gateway)
    assert watcher.names == ["reset", "synced", "end"]
    assert json.loads(watcher.events[0].data)["code"] == "too_old"


async def test_a_stream_ends_with_the_login_of_its_token(gateway: Gateway, behind: Behind) -> None:
    watcher = Watcher(await user(behind, "c-stream-gone"))
    task = asyncio.create_task(watcher.follow(gateway))
    await watcher.until(lambda: "synced" in watcher.names, task)
    assert await UserStore(behind.pool).delete(MERCHANT, "c-stream-gone")
    await asyncio.wait_for(task, 20)
    assert watcher.end()["code"] == "invalid_token"


async def test_a_stream_ends_when_its_token_expires(gateway: Gateway, behind: Behind) -> None:
    await user(behind, "c-stream-expires")
    caller = Principal(MERCHANT, "c-stream-expires", Role.CUSTOMER, SCOPES_OF[Role.CUSTOMER])
    age = ACCESS_SECONDS + LEEWAY_SECONDS - 3
    watcher = Watcher(token_of(behind.plane, caller, age=age))
    await asyncio.wait_for(watcher.follow(gateway), 20)
    assert watcher.names == ["reset", "synced", "end"]
    assert watcher.end() == {"code": "invalid_token", "detail": "The token has expired."}


async def test_a_gateway_that_stops_sends_its_clients_elsewhere(behind: Behind) -> None:
    watcher = Watcher(await user(behind, "c-stream-drain"))
    async with running_gateway(behind.plane) as gateway:
        task = asyncio.create_task(watcher.follow(gateway))
        await watcher.until(lambda: "synced" in watcher.names, task)
        gateway.process.terminate()
        await asyncio.wait_for(task, 20)
        assert await asyncio.wait_for(gateway.process.wait(), 20) == 0
    assert watcher.end()["code"] == "leaving"


async def test_places_are_bounded_and_given_back(behind: Behind) -> None:
    token = await user(behind, "c-stream-many")
    others = await user(behind, "u-stream-many", Role.MERCHANT)

    async def refused(gateway: Gateway, token: str) -> tuple[int, str, bool]:
        answer = await gateway.http.get(
            "/api/orders/watch", params={"timeoutSeconds": 0}, headers={"Authorization": f"Bearer {token}"}
        )
        if answer.status_code == 200:
            return 200, "", False
        return answer.status_code, answer.json()["code"], "Retry-After" in answer.headers

    async with running_gateway(behind.plane, {"ORDERPLANE_MAX_STREAMS": "12"}) as gateway:
        async with AsyncExitStack() as streams:
            for _ in range(10):
                await streams.enter_async_context(Watcher(token).following(gateway))
            assert await refused(gateway, token) == (429, "too_many_streams", True)
            for _ in range(2):
                await streams.enter_async_context(Watcher(others).following(gateway))
            assert await refused(gateway, others) == (503, "overloaded", True)
            assert await metric(gateway, "orderplane_streams") == 12
            # Streams are no requests that are being answered.
            assert (await gateway.http.get("/api/orders")).status_code == 200
            assert await metric(gateway, "orderplane_http_requests_in_flight") == 0

        async def is_free() -> bool:
            return await metric(gateway, "orderplane_streams") == 0

        await until(is_free)
        assert await refused(gateway, token) == (200, "", False)
        count = await metric(
            gateway, "orderplane_http_request_duration_seconds_bucket",
            method="GET", route="/api/orders/watch", le="1.0",
        )  # fmt: skip
        assert count == 15


async def test_who_does_not_read_is_cut_off(gateway: Gateway, behind: Behind) -> None:
    """By the bound on what waits for it, and nobody else has to wait."""
    token = await user(behind, "u-stream-slow", Role.MERCHANT)
    metadata = {f"key-{number}": "x" * 500 for number in range(45)}
    name = (await gateway.post(order_of(customer="c-stream-slow", metadata=metadata))).json()["id"]
    order = await behind.admin.get(Kind.ORDER, MERCHANT, name)
    version, count = order["metadata"]["resourceVersion"], 0
    quick = Watcher(token, f"/api/orders/{name}/watch")
    before = await metric(gateway, "orderplane_streams_ended_total", code="too_slow")
    port = int(gateway.url.rpartition(":")[2])
    _, writer = await asyncio.open_connection("127.0.0.1", port, limit=1)
    writer.write(f"GET {quick.path} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\n\r\n".encode())
    async with quick.following(gateway):
        async with asyncio.timeout(50):
            while await metric(gateway, "orderplane_streams_ended_total", code="too_slow") == before:
                for _ in range(100):
                    status = {"phase": PHASES[count % 2]}
                    order = await behind.operator.put_status(Kind.ORDER, MERCHANT, name, version, status)
                    version, count = order["metadata"]["resourceVersion"], count + 1
        assert count > MAX_WAITING
        await quick.until(lambda: len(quick.changes) == count)
    writer.close()
    await behind.remove(name)
