"""Throughput and latency of whole sagas, compared with bare writes to the same API server."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass
from typing import Any

from orderplane.adapters.kubernetes.client import ApiClient
from orderplane.adapters.postgres.pool import open_pool
from orderplane.crds.meta import Kind
from orderplane.crds.order import Order
from orderplane.dev.bench.api_writes import Pattern, bare_writes_per_second, count_writes
from orderplane.dev.demo.mix import Story, mix
from orderplane.dev.demo.products import MERCHANT, seed
from orderplane.dev.demo.shop import Shop
from orderplane.dev.demo.summary import percentile
from orderplane.dev.localplane.plane import Plane
from orderplane.ledgers.postgres.session import session

_WARM_UP = 20
_WATCH_SECONDS = 300
_LATENCIES = """
SELECT extract(epoch FROM shipped.at - created.at)::float8 AS seconds
FROM history created JOIN history shipped USING (merchant, subject)
WHERE created.type = 'order.created' AND shipped.type = 'order.shipped' AND created.at >= to_timestamp($1)
"""


@dataclass(frozen=True, slots=True)
class Result:
    """Figures of one run.

    Args:
        sagas_per_second: From the first request to the last Order that shows Shipped.
        ceiling_per_second: Sagas whose `writes` a client can make without anything behind it, on the same
            API server.
        p50, p95: Seconds from the 202 to the moment at which a watcher sees the phase Shipped.
        writes: API writes per saga, by verb and resource, counted by the API server.
        committed_later: How many of `writes` set a Reservation to Committed. The operator makes these after
            Shipped, so they are not part of the budget up to Shipped.
        cpu_ms: CPU milliseconds per saga of each process, user and system time.
    """

    orders: int
    rate: float | None
    sagas_per_second: float
    ceiling_per_second: float
    p50: float
    p95: float
    ledger_p50: float
    ledger_p95: float
    writes: dict[str, float]
    committed_later: float
    cpu_ms: dict[str, float]

    @property
    def ratio(self) -> float:
        """Throughput as a share of the ceiling."""
        return self.sagas_per_second / self.ceiling_per_second

    @property
    def writes_per_saga(self) -> float:
        """The writes of one saga to Shipped."""
        return sum(self.writes.values()) - self.committed_later

    def as_document(self) -> dict[str, Any]:
        """The figures as JSON."""
        return {**asdict(self), "ratio": self.ratio, "writesPerSaga": self.writes_per_saga}


async def measure(plane: Plane, orders: int, rate: float | None, report: Callable[[str], None]) -> Result:
    """Warm up, run the orders, then the bare writes with the operator stopped.

    Raises:
        TimeoutError: not every order was shipped.
    """
    pool = await open_pool(plane.postgres_dsn, size=4)
    try:
        async with client_of(plane, "admin") as api:
            await seed(pool)
            report("warming up")
            shop = Shop(plane.url("gateway"), api, pool, rate=rate)
            # A login costs a password hash, which is not what is measured.
            await shop.open()
            await _run(Shop(plane.url("gateway"), api, pool, rate=None), api, _WARM_UP, seed_number=1)
            writes_before, committed_before, cpu_before = (
                await count_writes(api),
                await _count_committed(api),
                _cpu(plane),
            )
            began = time.time()
            report("orders")
            shipped_at, latencies = await _run(shop, api, orders, seed_number=2)
            cpu_after = _cpu(plane)
            writes = await count_writes(api)
            writes.subtract(writes_before)
            committed = await _count_committed(api) - committed_before
            async with session(pool) as connection:
                ledger = sorted(row["seconds"] for row in await connection.fetch(_LATENCIES, began))
            report("the ceiling")
            counts = {name: count / orders for name, count in sorted(writes.items()) if count}
            committed_later = committed / orders
            per_second = await _bare_writes(plane, api, counts, min(2 * orders, 1200))
            ceiling = per_second / (sum(counts.values()) - committed_later)
    finally:
        await pool.close()
    return Result(
        orders=orders,
        rate=rate,
        sagas_per_second=orders / shipped_at,
        ceiling_per_second=ceiling,
        p50=percentile(latencies, 50),
        p95=percentile(latencies, 95),
        ledger_p50=percentile(ledger, 50),
        ledger_p95=percentile(ledger, 95),
        writes=counts,
        committed_later=committed_later,
        cpu_ms={
            name: 1000 * (seconds - cpu_before.get(name, 0.0)) / orders for name, seconds in cpu_after.items()
        },
    )


async def _run(shop: Shop, api: ApiClient, orders: int, *, seed_number: int) -> tuple[float, list[float]]:
    """Place orders that succeed, wait until all are Shipped; returns the seconds and each latency, sorted."""
    cases = mix(orders, seed_number, stories={Story.GOOD: 1})
    await shop.open()
    started = time.monotonic()
    placing = asyncio.create_task(shop.place_all(cases))
    shipped: dict[str, float] = {}
    await _watch(api, shipped, orders, placing, shop)
    await placing
    latencies = sorted(shipped[p.name] - p.accepted_at for p in shop.placed if p.name in shipped)
    return max(shipped.values()) - started, latencies


async def _watch(
    api: ApiClient, shipped: dict[str, float], orders: int, placing: "asyncio.Task[None]", shop: Shop
) -> None:
    """Note when each order is Shipped, from a watch as `kubectl get orders -w` opens it.

    The API server ends the stream of a watcher that is too slow; a new one starts then.
    """
    while True:
        async with api.watch(Kind.ORDER, MERCHANT, since=0, seconds=_WATCH_SECONDS) as events:
            async for event in events:
                if placing.done() and (problem := placing.exception()) is not None:
                    raise problem
                document = event["object"]
                if (document.get("status") or {}).get("phase") in ("Shipped", "Delivered"):
                    shipped.setdefault(document["metadata"]["name"], time.monotonic())
                if len(shipped) < orders:
                    continue
                names = {placed.name for placed in shop.placed if placed.name}
                if len(names) == orders and names <= shipped.keys():
                    for extra in shipped.keys() - names:
                        del shipped[extra]
                    return


async def _count_committed(api: ApiClient) -> int:
    """Reservations whose status says Committed."""
    count, token = 0, None
    while True:
        page = await api.list_page(
            Kind.RESERVATION, MERCHANT, continue_token=token, field_selector="status.phase=Committed"
        )
        count += len(page.items)
        if (token := page.continue_token) is None:
            return count


async def _bare_writes(plane: Plane, api: ApiClient, counts: Mapping[str, float], sagas: int) -> float:
    """Bare writes per second. The operator is stopped, so that it does not reconcile the bare orders."""
    pattern = await _pattern(api, counts)
    await plane.supervisor.stop("operator")
    async with client_of(plane, "gateway") as gateway, client_of(plane, "operator") as bare:
        await bare_writes_per_second(gateway, bare, pattern, 20)
        return await bare_writes_per_second(gateway, bare, pattern, sagas)


async def _pattern(api: ApiClient, counts: Mapping[str, float]) -> Pattern:
    """The writes of one of the orders that were measured."""
    page = await api.list_page(Kind.ORDER, MERCHANT, field_selector="status.phase=Shipped", limit=1)
    if not page.items:
        page = await api.list_page(Kind.ORDER, MERCHANT, limit=1)
    document = page.items[0]
    metadata, order = document["metadata"], Order.model_validate(document)
    children = {
        kind: await api.get(kind, MERCHANT, order.child_name)
        for kind in (Kind.RESERVATION, Kind.PAYMENT, Kind.SHIPMENT)
    }
    kept = [name for name in ("labels", "annotations", "finalizers") if name in metadata]
    return Pattern(
        manifest={
            "apiVersion": document["apiVersion"],
            "kind": document["kind"],
            "metadata": {
                "namespace": MERCHANT,
                **{name: metadata[name] for name in kept},
            },
            "spec": document["spec"],
        },
        status=document["status"],
        child_statuses={kind: child["status"] for kind, child in children.items()},
        reports=min(3, max(1, round(counts.get("PUT orders/status", 1)))),
        events=min(3, round(counts.get("POST events", 0))),
    )


@asynccontextmanager
async def client_of(plane: Plane, identity: str) -> AsyncIterator[ApiClient]:
    """A client with the rights of one of the processes, or of the administrator."""
    connecting = ApiClient.connect(
        user_agent="orderplane-bench", kubeconfig=str(plane.kubeconfig(identity)), timeout_seconds=30
    )
    async with await connecting as api:
        yield api


def _cpu(plane: Plane) -> dict[str, float]:
    return {name: plane.supervisor.cpu_seconds(name) for name in plane.supervisor.names}
