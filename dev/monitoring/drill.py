"""A drill: faults on a local plane make a real Prometheus and Alertmanager fire alerts, and resolve them.

`python -m orderplane.dev.monitoring.drill` does so for every alert of `FAULTS`, or for those that are named.
Windows and waiting times of the rules are shortened to a sixtieth: `promtool test rules` holds the real ones.
Exit code 1 says that an alert did not fire, or did not resolve.
"""

import asyncio
import re
import secrets
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import aiohttp
from aiokafka import AIOKafkaProducer

from orderplane.cli.backends import Backends, open_backends
from orderplane.cli.console import console, fail, run
from orderplane.cli.repair import settle
from orderplane.crds.meta import API_VERSION, Kind
from orderplane.dev.demo.command import TEMPO
from orderplane.dev.demo.products import MERCHANT, seed
from orderplane.dev.localplane.plane import Plane, PlaneSpec, remove
from orderplane.dev.localplane.progress import ConsoleProgress
from orderplane.dev.localplane.supervisor import StartFailed
from orderplane.dev.localplane.tools import ToolMissing
from orderplane.dev.monitoring.servers import Monitoring, start_monitoring
from orderplane.dev.prometheus_rule import rules_file
from orderplane.ledgers.postgres.audit_runs import record_audit_run

FASTER = 60
"""So much shorter are the windows of the rules."""

FIRE_SECONDS, RESOLVE_SECONDS = 240.0, 240.0
"""How long an alert may take. The outbox has to be two minutes old."""

LABEL_IS_REFUSED = "9 Island Walk"


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
async def a_failed_refund(site: Site) -> AsyncIterator[None]:
    name = await site.place(method="pm_sandbox_refundFails", line1=LABEL_IS_REFUSED)
    yield
    await settle(site.backends.pool, MERCHANT, name, "drill", "DRILL-1")


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
async def _traffic(site: Site) -> AsyncIterator[None]:
    """Ten logins a second that are refused, until the alert that they are about is over."""

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
                await asyncio.sleep(0.1)

    task = asyncio.create_task(log_in_for_ever())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


Fault = Callable[[Site], AbstractAsyncContextManager[None]]

FAULTS: dict[str, Fault] = {
    "OrderplaneAuditViolations": a_violation,
    "OrderplaneDeadLetters": an_unreadable_record,
    "OrderplaneProcessMissing": no_relay,
    "OrderplaneRefundsFailed": a_failed_refund,
    "OrderplaneBreakerOpen": no_carrier,
    "OrderplaneSagaFailures": refused_labels,
    "OrderplaneAvailabilityBurnsFast": no_postgres,
    "OrderplaneOutboxOld": no_kafka,
}
"""By the alert that each must fire; the alert resolves when the fault is over."""


def shortened(rules: str) -> str:
    """The rules with windows of a sixtieth, ten seconds at least, that fire at once."""

    def shorter(found: re.Match[str]) -> str:
        seconds = int(found[2]) * {"s": 1, "m": 60, "h": 3_600, "d": 86_400}[found[3]]
        return f"{found[1]}{max(10, seconds // FASTER)}s"

    faster = re.sub(r"(\[|offset )(\d+)([smhd])\b", shorter, rules)
    return re.sub(r"for: \w+", "for: 2s", faster)


async def drill(site: Site, monitoring: Monitoring, alert: str) -> str | None:
    """One fault; answers what was wrong with its alert."""
    began = time.monotonic()
    async with FAULTS[alert](site):
        if not await _is(monitoring, alert, FIRE_SECONDS, firing=True):
            return f"{alert} did not fire within {FIRE_SECONDS:g} s"
        fired = time.monotonic()
    if not await _is(monitoring, alert, RESOLVE_SECONDS, firing=False):
        return f"{alert} did not resolve within {RESOLVE_SECONDS:g} s"
    took = f"fired after {fired - began:.0f} s, resolved after {time.monotonic() - fired:.0f} s"
    console.print(f"ok {alert}: {took}", markup=False)
    return None


async def _is(monitoring: Monitoring, alert: str, seconds: float, *, firing: bool) -> bool:
    with suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            while True:
                names = {each["labels"]["alertname"] for each in await monitoring.alerts()}
                if (alert in names) is firing:
                    return True
                await asyncio.sleep(1)
    return False


async def _main(alerts: Sequence[str]) -> list[str]:
    state = Path(tempfile.mkdtemp(prefix="orderplane-drill-"))
    try:
        rules = state / "rules.yaml"
        await asyncio.to_thread(rules.write_text, shortened(rules_file().read_text(encoding="utf-8")))
        async with Plane.start(state, PlaneSpec(env=TEMPO), ConsoleProgress(console)) as plane:
            monitoring = await start_monitoring(plane, rules)
            async with open_backends(plane.env("admin")) as backends:
                await seed(backends.pool)
                site = Site(plane, backends)
                return [problem for alert in alerts if (problem := await drill(site, monitoring, alert))]
    finally:
        await asyncio.to_thread(remove, state)


if __name__ == "__main__":
    chosen = sys.argv[1:] or list(FAULTS)
    if unknown := set(chosen) - set(FAULTS):
        fail(f"No drill for {', '.join(sorted(unknown))}; there are {', '.join(FAULTS)}.", code=2)
    try:
        problems = run(_main(chosen))
    except (ToolMissing, StartFailed) as problem:
        fail(str(problem))
    for each in problems:
        console.print(each, style="red", markup=False)
    sys.exit(1 if problems else 0)
