"""Faults for the drill, each with the alerts that it must fire, and which resolve when it is over."""

import asyncio
import json
import secrets
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import aiohttp
import asyncpg
from aiohttp import web
from aiokafka import AIOKafkaProducer

from orderplane.adapters.kubernetes.webhook_certificate import issue
from orderplane.adapters.webhook_endpoints.secrets import EndpointSecrets
from orderplane.cli.backends import Backends
from orderplane.crds.meta import API_VERSION, Kind
from orderplane.dev.demo.mix import Story, mix
from orderplane.dev.demo.products import MERCHANT
from orderplane.dev.demo.shop import Shop
from orderplane.dev.localplane.credentials import write_private
from orderplane.dev.localplane.plane import Plane
from orderplane.events.standard_webhooks import new_secret
from orderplane.ledgers.postgres.audit_runs import record_audit_run
from orderplane.ledgers.postgres.session import session, transaction
from orderplane.ledgers.postgres.settlement import settle_by_hand
from orderplane.ledgers.postgres.webhook_endpoints import WebhookEndpointStore, add_endpoint, add_test
from orderplane.ledgers.webhook_endpoints import EndpointDetails

LABEL_IS_REFUSED = "9 Island Walk"
_LEVEL = "/apis/flowcontrol.apiserver.k8s.io/v1/prioritylevelconfigurations/orderplane-operator"


@dataclass(frozen=True, slots=True)
class Site:
    """What the faults are injected into."""

    plane: Plane
    backends: Backends

    @asynccontextmanager
    async def without(self, component: str) -> AsyncIterator[None]:
        """Have one component down while the block runs."""
        await self.plane.supervisor.stop(component)
        try:
            yield
        finally:
            await self.plane.supervisor.start(component)

    async def close_dispute(self, dispute: str) -> None:
        """Accept it, as a person does in the provider's dashboard."""
        headers = {"Authorization": f"Bearer {self.plane.env('operator')['ORDERPLANE_PAYMENTS_KEY']}"}
        timeout = aiohttp.ClientTimeout(total=20)
        async with (
            aiohttp.ClientSession(self.plane.url("payments"), timeout=timeout, headers=headers) as session,
            session.post(f"/v1/disputes/{dispute}/close") as answer,
        ):
            answer.raise_for_status()

    async def register(self, url: str) -> str:
        """Register a webhook endpoint as a merchant does; answers its id."""
        id_ = f"we-{secrets.token_hex(8)}"
        keys = EndpointSecrets(self.plane.env("gateway")["ORDERPLANE_ENDPOINT_KEYS"])
        details = EndpointDetails(url, "drill", (), is_enabled=True)
        async with transaction(self.backends.pool) as connection:
            await add_endpoint(
                connection, MERCHANT, id_, details, secret=keys.encrypt(new_secret()), actor="user:drill"
            )
        return id_

    async def replace(self, document: Mapping[str, Any]) -> None:
        """Replace an object that is none of our kinds."""
        process = await asyncio.create_subprocess_exec(
            str(self.plane.kubectl), f"--kubeconfig={self.plane.kubeconfig('admin')}", "replace", "-f", "-",
            stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.DEVNULL,
        )  # fmt: skip
        await process.communicate(json.dumps(document).encode())
        assert process.returncode == 0, "kubectl has said why"

    async def place(self, *, line1: str = "1 Canal Street", method: str = "pm_card_visa") -> str:
        """Place an order as `kubectl apply` does; answers its name."""
        name = f"drill-{secrets.token_hex(4)}"
        address = {
            "name": "Ada Example", "line1": line1, "city": "Rotterdam", "postalCode": "3011", "country": "NL",
        }  # fmt: skip
        manifest = {
            "apiVersion": API_VERSION,
            "kind": "Order",
            "metadata": {"name": name},
            "spec": {
                "customer": "c-1",
                "items": [{"sku": "TEA-EARL-GREY-100", "quantity": 1}],
                "address": address,
                "paymentMethod": method,
            },
        }
        await self.backends.api.create(Kind.ORDER, MERCHANT, manifest)
        return name


@asynccontextmanager
async def no_relay(site: Site) -> AsyncIterator[None]:
    async with site.without("relay"):
        yield


@asynccontextmanager
async def no_kafka(site: Site) -> AsyncIterator[None]:
    async with site.without("kafka"):
        await site.place()
        yield


@asynccontextmanager
async def no_carrier(site: Site) -> AsyncIterator[None]:
    """What is paid has no label."""
    async with site.without("carrier"):
        for _ in range(10):
            await site.place()
        yield


@asynccontextmanager
async def no_postgres(site: Site) -> AsyncIterator[None]:
    """Nobody can log in meanwhile. Afterwards there is traffic again, as there would be."""
    async with _traffic(site), site.without("postgres"):
        yield


@asynccontextmanager
async def no_mail(site: Site) -> AsyncIterator[None]:
    async with site.without("mail"):
        shop = Shop(site.plane.url("gateway"), site.backends.api, site.backends.pool)
        await shop.place_all(mix(4, secrets.randbits(31), stories={Story.GOOD: 4}))
        yield


@asynccontextmanager
async def slow_logins(site: Site) -> AsyncIterator[None]:
    """The database answers, but late: a lock is held for seconds, again and again. Afterwards it is quick."""

    async def hold() -> None:
        connection = await asyncpg.connect(site.plane.env("admin")["ORDERPLANE_POSTGRES_DSN"])
        try:
            while True:
                async with connection.transaction():
                    await connection.execute("LOCK TABLE users IN ACCESS EXCLUSIVE MODE")
                    await connection.execute("SELECT pg_sleep(4)")
        finally:
            connection.terminate()

    async with _traffic(site, rate=4.0):
        task = asyncio.create_task(hold())
        try:
            yield
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)


@asynccontextmanager
async def no_seats(site: Site) -> AsyncIterator[None]:
    """The API server has no seat for the operator, whose orders go on when it has some again."""
    level = await site.backends.api.read_path(_LEVEL)
    level["metadata"].pop("resourceVersion")
    none = {
        "nominalConcurrencyShares": 0, "lendablePercent": 0, "borrowingLimitPercent": 0,
        "limitResponse": {"type": "Reject"},
    }  # fmt: skip
    await site.replace({**level, "spec": {"type": "Limited", "limited": none}})
    try:
        for _ in range(20):
            await site.place()
        yield
    finally:
        await site.replace(level)


@asynccontextmanager
async def an_old_certificate(site: Site) -> AsyncIterator[None]:
    """The webhook gets one that nobody has renewed for eighty days."""
    files = [site.plane.state / "pki" / f"webhook.{ending}" for ending in ("crt", "key")]
    before = [file.read_bytes() for file in files]
    issued = issue(["localhost"], datetime.now(UTC) - timedelta(days=80))
    for file, content in zip(files, (issued.certificate, issued.key), strict=True):
        write_private(file, content)
    try:
        yield
    finally:
        for file, content in zip(files, before, strict=True):
            write_private(file, content)


@asynccontextmanager
async def an_old_audit(site: Site) -> AsyncIterator[None]:
    async with session(site.backends.pool) as connection:
        await connection.execute("UPDATE audit_runs SET at = at - interval '1 day'")
    yield
    await record_audit_run(site.backends.pool, 0)


@asynccontextmanager
async def a_failed_refund(site: Site) -> AsyncIterator[None]:
    name = await site.place(method="pm_sandbox_refundFails", line1=LABEL_IS_REFUSED)
    yield
    await settle_by_hand(site.backends.pool, MERCHANT, name, reason="drill", reference="DRILL-1")


@asynccontextmanager
async def a_disputed_payment(site: Site) -> AsyncIterator[None]:
    """Nothing can be refunded until the bank has decided. It decides for the customer."""
    await site.place(method="pm_card_createDispute", line1=LABEL_IS_REFUSED)
    yield
    async for dispute in site.backends.payment_provider.disputes():
        await site.close_dispute(dispute.id)


@asynccontextmanager
async def a_locked_delivery(site: Site) -> AsyncIterator[None]:
    """Somebody's transaction has its row, and does not end."""
    endpoint = await site.register("http://127.0.0.1:9/")
    connection = await asyncpg.connect(site.plane.env("admin")["ORDERPLANE_POSTGRES_DSN"])
    try:
        async with transaction(site.backends.pool) as adding:
            await add_test(adding, MERCHANT, endpoint)
            await adding.execute(
                "UPDATE event_deliveries SET due_at = now() + interval '2 s' WHERE endpoint_id = $1", endpoint
            )
        async with connection.transaction():
            await connection.execute(
                "SELECT FROM event_deliveries WHERE endpoint_id = $1 FOR UPDATE", endpoint
            )
            yield
    finally:
        connection.terminate()
        await WebhookEndpointStore(site.backends.pool).delete(MERCHANT, endpoint)


@asynccontextmanager
async def an_endpoint_that_is_gone(site: Site) -> AsyncIterator[None]:
    async def gone(_: web.Request) -> web.Response:
        return web.Response(status=410)

    app = web.Application()
    app.router.add_post("/", gone)
    runner = web.AppRunner(app)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        endpoint = await site.register(f"http://127.0.0.1:{runner.addresses[0][1]}/")
        async with transaction(site.backends.pool) as connection:
            await add_test(connection, MERCHANT, endpoint)
        yield
    finally:
        await runner.cleanup()


@asynccontextmanager
async def refused_labels(site: Site) -> AsyncIterator[None]:
    for _ in range(40):
        await site.place(line1=LABEL_IS_REFUSED)
        await asyncio.sleep(0.2)
    yield


@asynccontextmanager
async def an_unreadable_record(site: Site) -> AsyncIterator[None]:
    producer = AIOKafkaProducer(bootstrap_servers=site.plane.kafka_bootstrap)
    await producer.start()
    try:
        await producer.send_and_wait("order.created", b"drill", key=b"nonsense")
    finally:
        await producer.stop()
    yield


@asynccontextmanager
async def a_violation(site: Site) -> AsyncIterator[None]:
    await record_audit_run(site.backends.pool, 1)
    yield
    await record_audit_run(site.backends.pool, 0)


@asynccontextmanager
async def _traffic(site: Site, rate: float = 10.0) -> AsyncIterator[None]:
    """So many logins a second that are refused, until the alerts that they are about are over."""

    async def log_in(session: aiohttp.ClientSession) -> None:
        form = {"grant_type": "password", "username": "nobody@example.test", "password": "drill"}
        with suppress(aiohttp.ClientError, TimeoutError):
            async with session.post(f"{site.plane.url('gateway')}/api/auth/login", data=form) as answer:
                await answer.read()

    async def log_in_for_ever() -> None:
        timeout = aiohttp.ClientTimeout(total=20)
        async with aiohttp.ClientSession(timeout=timeout) as session, asyncio.TaskGroup() as group:
            while True:
                group.create_task(log_in(session))
                await asyncio.sleep(1 / rate)

    task = asyncio.create_task(log_in_for_ever())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


Fault = Callable[[Site], AbstractAsyncContextManager[None]]

FAULTS: dict[Fault, tuple[str, ...]] = {
    a_violation: ("OrderplaneAuditViolations",),
    an_old_audit: ("OrderplaneAuditMissing",),
    an_unreadable_record: ("OrderplaneDeadLetters",),
    no_relay: ("OrderplaneProcessMissing",),
    a_failed_refund: ("OrderplaneRefundsFailed",),
    a_disputed_payment: ("OrderplaneOrdersStalled",),
    no_carrier: ("OrderplaneBreakerOpen", "OrderplaneOrdersStuck", "OrderplaneOrdersWaiting"),
    refused_labels: ("OrderplaneSagaFailures",),
    no_kafka: ("OrderplaneOutboxOld", "OrderplaneConsumerLag"),
    no_mail: ("OrderplaneMessagesLate",),
    a_locked_delivery: ("OrderplaneDeliveriesLate",),
    an_endpoint_that_is_gone: ("OrderplaneEndpointDisabled",),
    no_seats: ("OrderplaneApiServerThrottled",),
    an_old_certificate: ("OrderplaneCertificateExpires",),
    no_postgres: ("OrderplaneAvailabilityBurnsFast", "OrderplaneAvailabilityBurnsSlowly"),
    slow_logins: ("OrderplaneLatencyBurnsFast", "OrderplaneLatencyBurnsSlowly"),
}
