"""Somebody who has to answer stands still (SIGSTOP): every place where people look says so within 5 s."""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from orderplane.cli.backends import open_backends
from orderplane.cli.exit_codes import TRY_LATER
from orderplane.client.transport import connect
from orderplane.dev.demo.customers import arrive
from orderplane.dev.demo.products import MERCHANT, seed
from orderplane.dev.localplane.plane import Plane
from orderplane.gateway.identity.grants import new_secret
from orderplane.gateway.identity.user_store import UserStore, new_client_id
from orderplane.gateway.principal import Role

from ..cli.terminal import orderplane
from ..saga.conftest import Desk, phase_is
from ..saga.proofs import SLOW_ADDRESS
from ..support.plane import ORDER, Merchant, merchant_on
from .conftest import alarms_of, chaos_plane, frozen, verdict_of

pytestmark = [pytest.mark.integration, pytest.mark.chaos]

SECONDS = 5.0


@pytest.fixture(scope="module", name="own_plane")
async def plane_of_its_own(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Plane]:
    async with chaos_plane(tmp_path_factory.mktemp("frozen")) as plane:
        yield plane
        async with open_backends(plane.env("admin")) as backends:
            desk = Desk(Merchant(MERCHANT, plane, backends))
            await desk.until_row(
                "SELECT 1 WHERE $1 <> '' AND NOT EXISTS (SELECT 1 FROM orders WHERE state <> 'Sealed')"
            )
        verdict = await verdict_of(plane)
        assert verdict.is_clean, verdict.violations
        assert not verdict.open
        assert not alarms_of(plane)


@dataclass(frozen=True, slots=True)
class Shop(Desk):
    """A merchant with somebody at its counter, who looks at orders by HTTP and by the command line."""

    http: httpx.AsyncClient
    env: Mapping[str, str]

    async def rest(self, order: dict[str, Any]) -> dict[str, Any]:
        answer = await self.http.get(f"/api/orders/{order['metadata']['name']}")
        assert answer.status_code == 200, answer.text
        document: dict[str, Any] = answer.json()
        return document

    async def cli(self, *words: str) -> str:
        answer = await orderplane(*words, env=self.env)
        assert answer.code == 0, answer.err
        return answer.out


@pytest.fixture
async def shop(own_plane: Plane, tmp_path: Path) -> AsyncIterator[Shop]:
    async with merchant_on(own_plane) as merchant:
        client_id, (secret, secret_hash) = new_client_id(), new_secret()
        await UserStore(merchant.pool).add_client(merchant.name, client_id, name="x", secret_hash=secret_hash)
        url, headers = own_plane.url("gateway"), (await merchant.caller(Role.SERVICE)).headers
        env = {
            "ORDERPLANE_GATEWAY": url, "ORDERPLANE_MERCHANT": merchant.name, "COLUMNS": "200",
            "ORDERPLANE_CLIENT_ID": client_id, "XDG_CONFIG_HOME": str(tmp_path),
        }  # fmt: skip
        async with httpx.AsyncClient(base_url=url, headers=headers, timeout=10) as http:
            shop = Shop(merchant, http, env)
            # Whoever is logged in can look, whatever stands still later.
            assert (await orderplane("login", typed=secret, env=env)).code == 0
            assert "order" in await shop.cli("orders", "list")
            assert (await http.get("/api/orders")).status_code == 200
            yield shop


async def until(is_so: Callable[[], Awaitable[bool]], seconds: float, what: str) -> None:
    try:
        async with asyncio.timeout(seconds):
            while not await is_so():  # noqa: ASYNC110 - nothing tells of it
                await asyncio.sleep(0.05)
    except TimeoutError:
        pytest.fail(f"{what}: not within {seconds:g} s")


def waits_for(reason: str) -> Callable[[dict[str, Any]], bool]:
    """An Order whose condition, and whose column REASON, give this reason."""

    def is_so(order: dict[str, Any]) -> bool:
        status = order.get("status", {})
        given = [c["reason"] for c in status.get("conditions", ()) if c["type"] == "Reconciling"]
        return given == [reason] and status.get("reason") == reason

    return is_so


def lines_of(plane: Plane, process: str, **facts: Any) -> list[dict[str, Any]]:
    """The log lines of a process that have these facts."""
    found = []
    for line in plane.supervisor.log_of(process).read_text(errors="replace").splitlines():
        if line.startswith("{"):
            document = json.loads(line)
            if all(document.get(name) == value for name, value in facts.items()):
                found.append(document)
    return found


async def metric(plane: Plane, process: str, sample: str) -> float:
    """The value of one sample; 0 where there is none."""
    async with httpx.AsyncClient(timeout=5) as http:
        text = (await http.get(f"{plane.metrics_url(process)}/metrics")).text
    values = [float(line.rsplit(" ", 1)[1]) for line in text.splitlines() if line.startswith(f"{sample} ")]
    return values[0] if values else 0.0


async def until_metric(plane: Plane, process: str, sample: str, least: float) -> None:
    async def is_enough() -> bool:
        return await metric(plane, process, sample) >= least

    await until(is_enough, SECONDS, sample)


async def says_in_the_cluster(
    shop: Shop, order: dict[str, Any], since: float, reason: str, whom: str
) -> None:
    """Conditions, columns, Kubernetes Events, log and metrics name what the order waits for.

    Args:
        since: When it began to wait.
    """
    name = order["metadata"]["name"]
    await shop.until(order, waits_for(reason), seconds=since + SECONDS - time.monotonic())
    logged = lines_of(shop.plane, "operator", event="waiting", reason=reason, order=name)
    assert logged, "the log"
    assert logged[0]["whom"] == whom
    assert logged[0]["attempt"] >= 1
    await until_metric(shop.plane, "operator", f'orderplane_awaited_seconds{{whom="{whom}"}}', 0.01)
    await until_metric(shop.plane, "operator", 'orderplane_waiting_objects{kind="Order"}', 1)
    assert time.monotonic() < since + SECONDS, "log and metrics"
    # kubectl takes a second of CPU to start: it shows what is there already.
    assert reason in await shop.kubectl("get", "order", name)
    described = await shop.kubectl("describe", "order", name)
    assert f"{reason}: " in described.split("Events:")[1]


async def says_everywhere(shop: Shop, order: dict[str, Any], since: float, reason: str, whom: str) -> None:
    """As `says_in_the_cluster`, and by HTTP and by the command line."""
    name = order["metadata"]["name"]

    async def is_shown() -> bool:
        shown = await shop.rest(order)
        return shown["reason"] == reason in [condition["reason"] for condition in shown["conditions"]]

    await asyncio.gather(
        says_in_the_cluster(shop, order, since, reason, whom), until(is_shown, SECONDS, "REST")
    )
    assert f"Reconciling=True {reason}" in await shop.cli("orders", "get", name)
    assert reason in await shop.cli("orders", "list")


async def goes_on(shop: Shop, order: dict[str, Any], reason: str) -> None:
    """Soon after the thaw nothing says any more that it waits for that."""
    await shop.until(order, lambda found: not waits_for(reason)(found), seconds=SECONDS)


async def begun(shop: Shop, table: str, order: dict[str, Any]) -> float:
    """When the step was written down that is about to be sent."""
    query = f"SELECT 1 FROM {table} WHERE merchant = $1 AND order_uid = $2"  # noqa: S608 - our own names
    await shop.until_row(query, order["metadata"]["uid"])
    return time.monotonic()


@pytest.mark.timeout(120)
async def test_the_payment_provider(shop: Shop) -> None:
    with frozen(shop.plane, "payments"):
        order = await shop.place()
        await says_everywhere(
            shop, order, await begun(shop, "payments", order), "PaymentsUnclear", "payments"
        )
    await goes_on(shop, order, "PaymentsUnclear")
    await shop.until(order, phase_is("Delivered"))


@pytest.mark.timeout(120)
async def test_the_payment_provider_while_an_order_is_undone(shop: Shop) -> None:
    order = await shop.place(line1=SLOW_ADDRESS)
    await shop.until(order, phase_is("Paid"))
    with frozen(shop.plane, "payments"):
        await shop.cancel(order)
        await shop.until_row(
            "SELECT 1 FROM refunds WHERE merchant = $1 AND order_uid = $2", order["metadata"]["uid"]
        )
        await says_everywhere(shop, order, time.monotonic(), "PaymentsUnclear", "payments")
        assert (await shop.order(order))["status"]["phase"] == "Compensating"
    await shop.until(order, phase_is("Cancelled"), seconds=SECONDS)


@pytest.mark.timeout(120)
async def test_the_carrier(shop: Shop) -> None:
    with frozen(shop.plane, "carrier"):
        order = await shop.place()
        await says_everywhere(shop, order, await begun(shop, "shipments", order), "CarrierUnclear", "carrier")
    await goes_on(shop, order, "CarrierUnclear")
    await shop.until(order, phase_is("Delivered"))


@pytest.mark.timeout(120)
async def test_postgresql(shop: Shop) -> None:
    """The ledgers cannot be read: the operator says it from what it knows. The gateway lets nobody in whose
    login it cannot check, and says that."""
    order = await shop.place(line1=SLOW_ADDRESS)
    await shop.until(order, phase_is("Paid"))
    with frozen(shop.plane, "postgres"):
        await shop.cancel(order)
        since = time.monotonic()

        async def is_refused() -> bool:
            answer = await shop.http.get(f"/api/orders/{order['metadata']['name']}")
            return answer.status_code == 503 and "database did not answer" in answer.json()["detail"]

        await asyncio.gather(
            says_in_the_cluster(shop, order, since, "LedgerUnavailable", "postgres"),
            until(is_refused, SECONDS, "REST"),
            no_answer(shop, "gateway", "postgres", since),
        )
        cli = await orderplane("orders", "get", order["metadata"]["name"], env=shop.env)
        assert (cli.code, "database did not answer" in cli.err) == (TRY_LATER, True), cli.err
    await goes_on(shop, order, "LedgerUnavailable")
    await shop.until(order, phase_is("Cancelled"))


async def no_answer(shop: Desk, process: str, whom: str, since: float) -> None:
    """What no order waits for is told by the process that waits: in its log, and by a metric."""
    sample = f'orderplane_awaited_seconds{{whom="{whom}"}}'

    async def is_told() -> bool:
        return bool(lines_of(shop.plane, process, event="no answer", whom=whom)) and (
            await metric(shop.plane, process, sample) >= 3
        )

    await until(is_told, since + SECONDS - time.monotonic(), f"the log and the metric of the {process}")


@pytest.mark.timeout(120)
async def test_kafka(shop: Shop) -> None:
    """No order waits for it."""
    with frozen(shop.plane, "kafka"):
        order = await shop.place()
        since = time.monotonic()
        await no_answer(shop, "relay", "kafka", since)
        await shop.until(order, phase_is("Shipped", "Delivered"))
        assert await metric(shop.plane, "relay", "orderplane_outbox_waiting_events") > 0

    async def is_published() -> bool:
        return not await shop.rows(
            "SELECT 1 FROM history WHERE merchant = $1 AND type = 'order.created' AND published_at IS NULL"
        )

    await until(is_published, SECONDS, "the outbox")
    await shop.until(order, phase_is("Delivered"))


@pytest.mark.timeout(120)
async def test_the_mail_server(own_plane: Plane) -> None:
    """No order waits for it; what waits are messages, which `orderplane notifications` counts."""
    async with open_backends(own_plane.env("admin")) as backends:
        await seed(backends.pool, MERCHANT)
        shop = Desk(Merchant(MERCHANT, own_plane, backends))
        mails = "SELECT 1 FROM notifications WHERE merchant = $1 AND channel = 'email' AND state = "
        async with connect(own_plane.url("gateway")) as transport:
            (arrived,) = await arrive(transport, backends.pool, 1)
            customer = arrived.client(transport)
            with frozen(own_plane, "mail"):
                accepted = await customer.orders.create(ORDER, key="frozen-mail")
                await shop.until_row(f"{mails}'Waiting'")
                await no_answer(shop, "notifier", "mail", time.monotonic())
                counted = await orderplane("notifications", "--json", env=own_plane.env("admin"))
                states = [each["state"] for each in json.loads(counted.out) if each["channel"] == "email"]
                assert "Waiting" in states
                order = {"metadata": {"name": accepted["id"]}}
                await shop.until(order, phase_is("Shipped", "Delivered"))
            await shop.until_row(f"{mails}'Sent'", seconds=SECONDS)
            await shop.until(order, phase_is("Delivered"))
