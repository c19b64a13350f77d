"""The gateway as its own process, on the real API server and PostgreSQL."""

import asyncio
import json
import os
import sys
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest

from orderplane.adapters.kubernetes.client import ApiClient
from orderplane.adapters.kubernetes.install import install
from orderplane.adapters.postgres.pool import open_pool
from orderplane.crds.meta import Kind
from orderplane.crds.order import Order
from orderplane.dev.localplane.components import UNLIMITED
from orderplane.dev.localplane.plane import Plane
from orderplane.dev.localplane.ports import free_port
from orderplane.gateway.identity.keyring import KeyRing
from orderplane.gateway.identity.tokens import TokenRules, issue
from orderplane.gateway.principal import SCOPES_OF, Principal, Role
from orderplane.ledgers.postgres.gate import PostgresGateLedger
from orderplane.ledgers.postgres.session import Pool

from ..support.price_rules import flat, set_price_rules

MERCHANT = "gateway-shop"
SELLER = "u-seller"
ISSUER = "http://gateway.test"
EARL, MUG, OLD, YEN, HEAVY = "TEA-EARL", "MUG-BLUE", "TEA-OLD", "TEA-YEN", "ANVIL"
FILS, SEN, GOLD = "TEA-FILS", "TEA-SEN", "TEA-GOLD"
PRODUCTS = [
    (EARL, "EUR", 895, 120, True),
    (MUG, "EUR", 1490, 400, True),
    (OLD, "EUR", 100, 100, False),
    (YEN, "JPY", 900, 100, True),
    (HEAVY, "EUR", 100, 50_000, True),
    (FILS, "KWD", 1_235, 100, True),
    (SEN, "JPY", 49, 100, True),
    (GOLD, "USD", 100_000_000, 100, True),
]


def order_of(**changes: Any) -> dict[str, Any]:
    """A good body."""
    return {
        "customer": "c-1001",
        "items": [{"sku": EARL, "quantity": 2}, {"sku": MUG, "quantity": 1}],
        "address": {
            "name": "Ada Example",
            "line1": "1 Sample Street",
            "city": "Berlin",
            "postalCode": "10115",
            "country": "DE",
        },
        "paymentMethod": "pm_card_visa",
        **changes,
    }


async def until(is_so: Callable[[], Awaitable[bool]], seconds: float = 60.0) -> None:
    """Look again and again until it is so."""
    async with asyncio.timeout(seconds):
        while not await is_so():  # noqa: ASYNC110 - nothing tells of it
            await asyncio.sleep(0.1)


def new_key() -> str:
    return str(uuid.uuid4())


@dataclass
class Gateway:
    """One process of the gateway."""

    url: str
    metrics_url: str
    http: httpx.AsyncClient
    process: asyncio.subprocess.Process

    async def post(self, body: Any = None, key: str | None = None, **headers: str) -> httpx.Response:
        """Place an order; a dict is sent as JSON, bytes as they are."""
        content = body if isinstance(body, bytes) else json.dumps(body or order_of()).encode()
        headers = {"Content-Type": "application/json", "Idempotency-Key": key or new_key(), **headers}
        return await self.http.post("/api/orders", content=content, headers=headers)


@dataclass
class Behind:
    """What is behind the gateway: the real systems, as their other users see them."""

    plane: Plane
    admin: ApiClient
    operator: ApiClient
    pool: Pool
    gates: PostgresGateLedger

    async def orders(self) -> dict[str, Any]:
        """Every Order of the merchant, by name."""
        page = await self.admin.list_page(Kind.ORDER, MERCHANT, limit=5000)
        return {order["metadata"]["name"]: order for order in page.items}

    async def open_gate(self, name: str) -> Order:
        """What the operator does first."""
        order = Order.model_validate(await self.admin.get(Kind.ORDER, MERCHANT, name))
        await self.gates.open(order)
        return order

    async def remove(self, name: str) -> None:
        """Delete an order as its owner, and let it go as the operator."""
        await self.open_gate(name)
        await self.admin.delete(Kind.ORDER, MERCHANT, name)
        await self.operator.merge_patch(Kind.ORDER, MERCHANT, name, {"metadata": {"finalizers": None}})

    async def report(self, name: str, **status: Any) -> None:
        """Set a status as the operator."""
        order = await self.admin.get(Kind.ORDER, MERCHANT, name)
        version = order["metadata"]["resourceVersion"]
        await self.operator.put_status(Kind.ORDER, MERCHANT, name, version, status)

    async def unanswered(self, name: str) -> None:
        """As if the process had died between making the resource and storing the answer."""
        row = await self.pool.fetchrow("SELECT merchant, kind FROM idempotency WHERE name = $1", name)
        assert row is not None
        found = await self.operator.get(Kind(row["kind"]), row["merchant"], name)
        kept = ("name", "namespace", "labels", "annotations", "finalizers")
        manifest = {
            "apiVersion": found["apiVersion"],
            "kind": found["kind"],
            "metadata": {field: found["metadata"][field] for field in kept if field in found["metadata"]},
            "spec": found["spec"],
        }
        done = await self.pool.execute(
            "UPDATE idempotency SET status = NULL, body = NULL, manifest = $2 WHERE name = $1", name, manifest
        )
        assert done == "UPDATE 1"

    async def end_claim(self, name: str) -> None:
        await self._row("UPDATE idempotency SET claimed_until = now() WHERE name = $1", name)

    async def hold_claim(self, name: str) -> None:
        await self._row(
            "UPDATE idempotency SET claimed_until = now() + interval '1 hour' WHERE name = $1", name
        )

    async def rows(self) -> int:
        count: int = await self.pool.fetchval("SELECT count(*) FROM idempotency")
        return count

    async def _row(self, statement: str, name: str) -> None:
        assert await self.pool.execute(statement, name) == "UPDATE 1"


@pytest.fixture(scope="session")
async def behind(plane: Plane) -> AsyncIterator[Behind]:
    async with AsyncExitStack() as stack:
        pool = await open_pool(plane.postgres_dsn, size=4)
        stack.push_async_callback(pool.close)
        clients = {
            identity: await stack.enter_async_context(
                await ApiClient.connect(
                    user_agent="tests", kubeconfig=str(plane.kubeconfig(identity)), timeout_seconds=15
                )
            )
            for identity in ("admin", "operator")
        }
        await install(
            [plane.merchant_access(MERCHANT)], kubeconfig=plane.kubeconfig("admin"), namespaces=[MERCHANT]
        )
        await _seed(pool)
        await set_price_rules(pool, MERCHANT, EUR=flat(490, 1900), JPY=flat(), KWD=flat(), USD=flat())
        yield Behind(plane, clients["admin"], clients["operator"], pool, PostgresGateLedger(pool))


@pytest.fixture(scope="session")
async def gateway(behind: Behind) -> AsyncIterator[Gateway]:
    async with running_gateway(behind.plane) as gateway:
        yield gateway


@pytest.fixture(scope="session")
async def cut_off_gateway(behind: Behind, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Gateway]:
    """One that reaches the database, and has lost the API server since it started."""
    kubeconfig = behind.plane.kubeconfig("gateway")
    document = json.loads(kubeconfig.read_text())
    target = urlsplit(document["clusters"][0]["cluster"]["server"]).port
    assert target is not None
    async with _forwarding(target) as (port, cut):
        document["clusters"][0]["cluster"]["server"] = f"https://127.0.0.1:{port}"
        forwarded = tmp_path_factory.mktemp("cut-off") / "kubeconfig"
        forwarded.write_text(json.dumps(document))
        async with running_gateway(behind.plane, {"KUBECONFIG": str(forwarded)}) as gateway:
            cut()
            yield gateway


@asynccontextmanager
async def _forwarding(target: int) -> AsyncIterator[tuple[int, Callable[[], None]]]:
    """A port that forwards connections to another port, until it is cut."""
    writers: set[asyncio.StreamWriter] = set()

    async def copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writers.add(writer)
        with suppress(ConnectionError):
            while data := await reader.read(65_536):
                writer.write(data)
                await writer.drain()
        writer.close()

    async def forward(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        behind = await asyncio.open_connection("127.0.0.1", target)
        await asyncio.gather(copy(reader, behind[1]), copy(behind[0], writer))

    def cut() -> None:
        server.close()
        for writer in writers:
            writer.close()

    server = await asyncio.start_server(forward, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1], cut
    finally:
        cut()


@asynccontextmanager
async def running_gateway(
    plane: Plane, more_env: Mapping[str, str] | None = None, *, port: int | None = None
) -> AsyncIterator[Gateway]:
    """Start a process on a port of its own or this one, wait until it is ready, stop it after the block."""
    port, metrics_port = port or free_port(), free_port()
    env = {
        **os.environ,
        **plane.env("gateway"),
        "ORDERPLANE_MERCHANT": MERCHANT,
        "ORDERPLANE_HTTP_PORT": str(port),
        "ORDERPLANE_METRICS_PORT": str(metrics_port),
        "ORDERPLANE_LOG_FORMAT": "json",
        **UNLIMITED,
        **(more_env or {}),
    }
    env.setdefault("ORDERPLANE_ISSUER", ISSUER)
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-W", "error", "-m", "orderplane.gateway.main", env=env
    )
    url, metrics_url = f"http://127.0.0.1:{port}", f"http://127.0.0.1:{metrics_port}"
    try:
        seller = Principal(MERCHANT, SELLER, Role.MERCHANT, SCOPES_OF[Role.MERCHANT])

        def authorize(request: httpx.Request) -> httpx.Request:
            # A gateway of the whole session outlives a token.
            request.headers.setdefault("Authorization", f"Bearer {token_of(plane, seller)}")
            return request

        async with httpx.AsyncClient(base_url=url, timeout=30, auth=authorize) as http:
            async with asyncio.timeout(60):
                while not await _is_ready(http, metrics_url):
                    assert process.returncode is None, "the gateway ended at its start"
                    await asyncio.sleep(0.05)
            yield Gateway(url, metrics_url, http, process)
    finally:
        if process.returncode is None:
            process.terminate()
        await asyncio.wait_for(process.wait(), 20)


def token_of(plane: Plane, caller: Principal, *, age: int = 0, **changes: Any) -> str:
    """A token that the gateways of these tests take, as if its caller had logged in `age` seconds ago."""
    rules = TokenRules(**{"issuer": ISSUER, "audience": "orderplane", **changes})
    now = int(time.time()) - age
    return issue(KeyRing(plane.signing_keys), rules, caller, client_id="tests", now=now).token


async def _is_ready(http: httpx.AsyncClient, metrics_url: str) -> bool:
    try:
        return (await http.get(f"{metrics_url}/readyz")).status_code == 200
    except httpx.TransportError:
        return False


async def _seed(pool: Pool) -> None:
    async with pool.acquire() as connection:
        await connection.executemany(
            "INSERT INTO products (merchant, sku, name, currency, unit_amount, weight_grams, is_active) "
            "VALUES ($1, $2, $2, $3, $4, $5, $6)",
            [(MERCHANT, *product) for product in PRODUCTS],
        )
        await connection.execute(
            "INSERT INTO stock (merchant, sku, opening, on_hand, reserved) VALUES ($1, $2, 10, 10, 3)",
            MERCHANT, EARL,
        )  # fmt: skip
        await connection.execute(
            "INSERT INTO users (merchant, id, email, role, password_hash) "
            "VALUES ($1, $2, 'seller@example.test', 'merchant', '')",
            MERCHANT, SELLER,
        )  # fmt: skip
