"""The watch of orders on a real API server, which goes away, and comes back with an older etcd."""

import asyncio
import json
import shutil
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from orderplane.adapters.kubernetes import client as client_module
from orderplane.adapters.kubernetes import reflector as reflector_module
from orderplane.adapters.kubernetes.client import ApiClient
from orderplane.adapters.kubernetes.reflector import Reflector
from orderplane.crds.api_errors import ApiError, NotFound
from orderplane.crds.meta import Kind
from orderplane.dev.localplane.plane import Plane
from orderplane.gateway.http.problems import Problem
from orderplane.gateway.orders.held_orders import Criteria, HeldOrders
from orderplane.gateway.orders.listing import ListPosition, OrderFilter, filtered_page
from orderplane.gateway.orders.order_reader import OrderReader
from orderplane.gateway.principal import Principal, Role

from ...controllers.builders import an_order
from ...support.archive import EmptyArchive
from ...support.plane import bare_plane

pytestmark = pytest.mark.integration

SHOP = "demo"
SELLER = Principal(SHOP, "u-seller", Role.MERCHANT)


class Road:
    """The way to the API server: connections through it can be stopped without a word."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._is_open = asyncio.Event()
        self._is_open.set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None

    async def start(self) -> int:
        self._server = await asyncio.start_server(self._forward, "127.0.0.1", 0)
        port: int = self._server.sockets[0].getsockname()[1]
        return port

    def block(self) -> None:
        self._is_open.clear()

    def clear(self) -> None:
        self._is_open.set()

    async def close(self) -> None:
        assert self._server is not None
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _forward(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        writers = [writer]
        with suppress(OSError, asyncio.CancelledError):
            there = await asyncio.open_connection("127.0.0.1", self._port)
            writers.append(there[1])
            await asyncio.gather(self._copy(reader, there[1]), self._copy(there[0], writer))
        for each in writers:
            each.transport.abort()

    async def _copy(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            while data := await reader.read(65_536):
                await self._is_open.wait()
                writer.write(data)
                await writer.drain()
        writer.close()


@dataclass
class Door:
    """What a gateway has to read orders with."""

    held: HeldOrders
    watch: Reflector
    reader: OrderReader
    road: Road

    async def phase(self, name: str) -> str | None:
        """None where there is no such order."""
        try:
            order = await self.reader.read(SELLER, name)
        except Problem:
            return None
        return order["status"]["phase"]

    async def names(self) -> list[str]:
        read = self.reader.chunks(SELLER, Criteria(), OrderFilter())
        page, rest = await filtered_page(read, OrderFilter(), 200, ListPosition())
        assert rest is None
        return [order["metadata"]["name"] for order in page]

    async def until_current(self, since: int = 0) -> None:
        await until(lambda: self.watch.is_current and self.watch.seen >= since)


async def until(is_so: Callable[[], bool], seconds: float = 60.0) -> None:
    async with asyncio.timeout(seconds):
        while not is_so():  # noqa: ASYNC110 - nothing tells of it
            await asyncio.sleep(0.02)


@pytest.fixture(scope="module")
async def own_plane(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Plane]:
    """One whose API server and etcd may be stopped."""
    async with bare_plane(tmp_path_factory.mktemp("watched")) as plane:
        yield plane


@pytest.fixture
async def admin(own_plane: Plane) -> AsyncIterator[ApiClient]:
    kubeconfig = str(own_plane.kubeconfig("admin"))
    async with await ApiClient.connect(user_agent="tests", kubeconfig=kubeconfig) as api:
        yield api


@pytest.fixture
async def shop(own_plane: Plane) -> AsyncIterator[ApiClient]:
    """Places orders as a gateway does, past the webhook."""
    kubeconfig = str(own_plane.kubeconfig("gateway"))
    async with await ApiClient.connect(user_agent="tests", kubeconfig=kubeconfig) as api:
        yield api


@pytest.fixture
async def operator(own_plane: Plane) -> AsyncIterator[ApiClient]:
    kubeconfig = str(own_plane.kubeconfig("operator"))
    async with await ApiClient.connect(user_agent="tests", kubeconfig=kubeconfig) as api:
        yield api


@pytest.fixture
async def door(own_plane: Plane, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Door]:
    """With the rights of the gateway, and quicker."""
    monkeypatch.setattr(client_module, "WATCH_GRACE_SECONDS", 0.5)
    monkeypatch.setattr(reflector_module, "WATCH_SECONDS", (1, 1))
    monkeypatch.setattr(reflector_module, "STALE_SECONDS", 4.0)
    async with open_door(own_plane, tmp_path) as door:
        await door.until_current()
        yield door


@asynccontextmanager
async def open_door(plane: Plane, folder: Path) -> AsyncIterator[Door]:
    document = json.loads(plane.kubeconfig("gateway").read_text())
    port = urlsplit(document["clusters"][0]["cluster"]["server"]).port
    assert port is not None
    async with AsyncExitStack() as stack:
        road = Road(port)
        document["clusters"][0]["cluster"]["server"] = f"https://127.0.0.1:{await road.start()}"
        stack.push_async_callback(road.close)
        kubeconfig = folder / "kubeconfig"
        kubeconfig.write_text(json.dumps(document))
        api = await stack.enter_async_context(
            await ApiClient.connect(user_agent="tests", kubeconfig=str(kubeconfig), timeout_seconds=2)
        )
        held = HeldOrders(1000, time.monotonic)
        watch = Reflector(api, Kind.ORDER, held)
        task = asyncio.create_task(watch.run(lambda: None))
        try:
            yield Door(held, watch, OrderReader(api, held, watch, EmptyArchive()), road)
        finally:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task


async def place(shop: ApiClient, name: str) -> Any:
    spec = an_order().spec.model_dump(mode="json", by_alias=True, exclude_none=True)
    metadata = {
        "name": name,
        "labels": {"orderplane.dev/shard": "3"},
        "finalizers": ["orderplane.dev/compensate"],
    }
    body = {"apiVersion": "orderplane.dev/v1alpha1", "kind": "Order", "metadata": metadata, "spec": spec}
    return await shop.create(Kind.ORDER, SHOP, body)


async def report(operator: ApiClient, name: str, phase: str) -> int:
    known = await operator.get(Kind.ORDER, SHOP, name)
    version = known["metadata"]["resourceVersion"]
    done = await operator.put_status(Kind.ORDER, SHOP, name, version, {"phase": phase})
    return int(done["metadata"]["resourceVersion"])


async def remove(admin: ApiClient, operator: ApiClient, name: str) -> None:
    await admin.delete(Kind.ORDER, SHOP, name)
    await operator.merge_patch(Kind.ORDER, SHOP, name, {"metadata": {"finalizers": None}})


async def test_what_happens_is_shown(
    door: Door, admin: ApiClient, shop: ApiClient, operator: ApiClient
) -> None:
    created = await place(shop, "o-shown")
    assert await door.phase("o-shown") == "Pending"
    await door.until_current(int(created["metadata"]["resourceVersion"]))
    assert door.held.get((SHOP, "o-shown")) is not None
    await door.until_current(await report(operator, "o-shown", "Paid"))
    assert await door.phase("o-shown") == "Paid"
    assert "o-shown" in await door.names()
    await remove(admin, operator, "o-shown")
    await until(lambda: door.held.get((SHOP, "o-shown")) is None)
    assert await door.phase("o-shown") is None
    assert "o-shown" not in await door.names()


async def test_a_connection_that_dies_without_a_word(
    door: Door, shop: ApiClient, operator: ApiClient
) -> None:
    await door.until_current(int((await place(shop, "o-silent"))["metadata"]["resourceVersion"]))
    door.road.block()
    version = await report(operator, "o-silent", "Shipped")
    await until(lambda: not door.watch.is_current, reflector_module.STALE_SECONDS + 5)
    with pytest.raises(ApiError):
        await door.phase("o-silent")  # no old answer, but none
    door.road.clear()
    await door.until_current(version)
    assert await door.phase("o-silent") == "Shipped"


async def test_an_api_server_that_starts_again(
    own_plane: Plane, door: Door, shop: ApiClient, operator: ApiClient
) -> None:
    """It has forgotten all events: 410, or a broken connection, and a new list."""
    await door.until_current(int((await place(shop, "o-restart"))["metadata"]["resourceVersion"]))
    await own_plane.supervisor.restart("kube-apiserver")
    version = await report(operator, "o-restart", "Paid")
    await door.until_current(version)
    assert await door.phase("o-restart") == "Paid"


async def test_an_etcd_that_was_restored(
    own_plane: Plane, door: Door, admin: ApiClient, shop: ApiClient, operator: ApiClient, tmp_path: Path
) -> None:
    await door.until_current(int((await place(shop, "o-kept"))["metadata"]["resourceVersion"]))
    supervisor, data = own_plane.supervisor, own_plane.state / "etcd"
    await supervisor.stop("kube-apiserver")
    await supervisor.stop("etcd")
    await asyncio.to_thread(shutil.copytree, data, tmp_path / "backup")
    await supervisor.start("etcd")
    await supervisor.wait_ready("etcd")
    await supervisor.start("kube-apiserver")
    await supervisor.wait_ready("kube-apiserver")

    await report(operator, "o-kept", "Shipped")
    await door.until_current(int((await place(shop, "o-lost"))["metadata"]["resourceVersion"]))
    assert {"o-kept", "o-lost"} <= set(await door.names())

    await supervisor.stop("kube-apiserver")
    await supervisor.stop("etcd")
    await asyncio.to_thread(shutil.rmtree, data)
    await asyncio.to_thread(shutil.copytree, tmp_path / "backup", data)
    await supervisor.start("etcd")
    await supervisor.wait_ready("etcd")
    await supervisor.start("kube-apiserver")
    await supervisor.wait_ready("kube-apiserver")
    with pytest.raises(NotFound):
        await admin.get(Kind.ORDER, SHOP, "o-lost")
    await door.until_current()
    await until(lambda: door.held.get((SHOP, "o-lost")) is None)
    assert await door.phase("o-kept") == "Pending"
    assert await door.phase("o-lost") is None
    assert "o-lost" not in await door.names()
    await door.until_current(await report(operator, "o-kept", "Paid"))
    assert await door.phase("o-kept") == "Paid"
