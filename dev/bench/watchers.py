"""Many clients that watch orders at one gateway, which is killed meanwhile."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import stamina

from orderplane.adapters.kubernetes.client import ApiClient
from orderplane.adapters.postgres.pool import open_pool
from orderplane.client.accounts import MemoryTokenStore, Tokens
from orderplane.client.client import Client
from orderplane.client.order_stream import ChangeKind
from orderplane.client.transport import ApiProblem, Transport, connect
from orderplane.crds.meta import Kind
from orderplane.crds.order import FINISHED
from orderplane.dev.bench.sagas import client_of
from orderplane.dev.demo.products import MERCHANT, seed
from orderplane.dev.demo.summary import percentile
from orderplane.dev.localplane.plane import Plane
from orderplane.gateway.identity.keyring import KeyRing
from orderplane.gateway.identity.tokens import ACCESS_SECONDS, TokenRules, issue
from orderplane.gateway.identity.user_store import UserStore
from orderplane.gateway.principal import SCOPES_OF, Principal, Role
from orderplane.ledgers.postgres.session import Pool

STAFF = 5
"""Watchers who work for the shop, and see every order; the others see their own."""
SETTLE_SECONDS = 90.0
_RETRY_SECONDS = 120.0
_ORDER = {
    "items": [{"sku": "TEA-EARL-GREY-100", "quantity": 1}],
    "address": {
        "name": "Ada Example", "line1": "1 Sample Street", "city": "Berlin", "postalCode": "10115",
        "country": "DE",
    },
    "paymentMethod": "pm_card_visa",
}  # fmt: skip


@dataclass(slots=True)
class Watcher:
    """One client. `changes` are versions of Orders and when they came, in the order in which they came; all
    are later than `began_at`.
    """

    id: str
    client: Client
    is_staff: bool
    changes: list[tuple[int, float]] = field(default_factory=list)
    began_at: int = 0
    resets: int = 0
    is_synced: asyncio.Event = field(default_factory=asyncio.Event)

    async def follow(self) -> None:
        """Until it is cancelled."""
        async for change in self.client.orders.watch_all(limit=0):
            if change.kind is ChangeKind.RESET:
                self.resets += 1
            elif change.position is not None:
                version = int(change.position.partition("-")[0])
                if change.kind is ChangeKind.SYNCED:
                    self.began_at = version
                    self.is_synced.set()
                else:
                    self.changes.append((version, time.monotonic()))


@dataclass(slots=True)
class Truth:
    """What a watch of the API server has shown: version, customer and when, of each change."""

    changes: list[tuple[int, str, float]] = field(default_factory=list)
    finished: set[str] = field(default_factory=set)

    async def follow(self, api: ApiClient, since: int) -> None:
        """Until it is cancelled."""
        while True:
            async with api.watch(Kind.ORDER, MERCHANT, since=since, seconds=300) as events:
                async for event in events:
                    order = event["object"]
                    since = int(order["metadata"]["resourceVersion"])
                    if event["type"] == "BOOKMARK":
                        continue
                    self.changes.append((since, order["spec"]["customer"], time.monotonic()))
                    if (order.get("status") or {}).get("phase") in FINISHED:
                        self.finished.add(order["metadata"]["name"])


@dataclass(frozen=True, slots=True)
class Result:
    """Figures of one run.

    Args:
        delivered: Changes that were delivered, to all watchers together.
        wrong: Watchers who have not seen every change of their orders, once and in order.
        resets: States that watchers got because what they had missed was not known.
        p50, p95: Seconds from the moment at which a watch of the API server shows a change to its delivery,
            without the time in which the gateway was down.
        down_seconds: From the end of the gateway until the next one was ready.
        resumed_seconds: From then until every watcher had seen what had happened meanwhile.
        watcher_bytes: Memory of the gateway for one watcher.
        gateway_cores, client_cores: CPU seconds a second while orders ran: the gateway, and this process.
    """

    watchers: int
    orders: int
    seconds: float
    delivered: int
    wrong: int
    resets: int
    p50: float
    p95: float
    down_seconds: float
    resumed_seconds: float
    watcher_bytes: int
    gateway_cores: float
    client_cores: float

    @property
    def is_passed(self) -> bool:
        """Nobody has missed anything, and it came within a second."""
        return not (self.wrong or self.resets) and self.p95 < 1.0

    def as_document(self) -> dict[str, Any]:
        """The figures as JSON."""
        return asdict(self)


async def measure(
    plane: Plane, watchers: int, rate: float, seconds: float, report: Callable[[str], None]
) -> Result:
    """Open the streams, run orders, kill the gateway while more orders run, and compare.

    Raises:
        TimeoutError: a stream was not opened, or an order not finished.
    """
    async with AsyncExitStack() as stack:
        pool = await open_pool(plane.postgres_dsn, size=4)
        stack.push_async_callback(pool.close)
        api = await stack.enter_async_context(client_of(plane, "admin"))
        await seed(pool)
        # Requests are sent again while the gateway is down: that is no news.
        stamina.instrumentation.set_on_retry_hooks(())
        connecting = connect(plane.url("gateway"), retry_seconds=_RETRY_SECONDS, connections=watchers + 50)
        transport = await stack.enter_async_context(connecting)
        everybody = await _watchers(plane, pool, transport, watchers)
        report("warming up")
        await _place(everybody, rate, 3.0)
        truth = Truth()
        since = (await api.list_page(Kind.ORDER, limit=1)).resource_version
        await stack.enter_async_context(_running(truth.follow(api, since)))
        memory = await _memory(plane)
        report(f"opening {watchers} streams")
        for watcher in everybody:
            await stack.enter_async_context(_running(watcher.follow()))
        await asyncio.wait_for(asyncio.gather(*(each.is_synced.wait() for each in everybody)), 120)
        watcher_bytes = (await _memory(plane) - memory) // watchers

        report("orders")
        cpu, own, began = plane.supervisor.cpu_seconds("gateway"), time.process_time(), time.monotonic()
        first = await _place(everybody, rate, seconds / 2)
        cores = (plane.supervisor.cpu_seconds("gateway") - cpu) / (time.monotonic() - began)
        own_cores = (time.process_time() - own) / (time.monotonic() - began)
        report("the gateway is killed")
        placing = asyncio.create_task(_place(everybody, rate, seconds / 2))
        killed_at = time.monotonic()
        await plane.supervisor.kill("gateway")
        await plane.supervisor.wait_ready("gateway")
        up_at = time.monotonic()
        names = first | await placing
        took = time.monotonic() - began
        report("waiting until the orders are finished")
        async with asyncio.timeout(SETTLE_SECONDS):
            while not names <= truth.finished:  # noqa: ASYNC110 - the next line of the watch tells it
                await asyncio.sleep(0.1)
        with suppress(TimeoutError):
            async with asyncio.timeout(SETTLE_SECONDS):
                while any(_is_wrong(truth, each) for each in everybody):  # noqa: ASYNC110 - see above
                    await asyncio.sleep(0.5)
    at = {version: seen for version, _, seen in truth.changes}
    missed = (
        seen for each in everybody for version, seen in each.changes if killed_at <= at[version] < up_at
    )
    waits = sorted(
        seen - at[version]
        for each in everybody
        for version, seen in each.changes
        if at[version] < killed_at - 1
    )
    return Result(
        watchers=watchers,
        orders=len(names),
        seconds=took,
        delivered=sum(len(each.changes) for each in everybody),
        wrong=sum(_is_wrong(truth, each) for each in everybody),
        resets=sum(each.resets - 1 for each in everybody),
        p50=percentile(waits, 50),
        p95=percentile(waits, 95),
        down_seconds=up_at - killed_at,
        resumed_seconds=max(missed, default=up_at) - up_at,
        watcher_bytes=watcher_bytes,
        gateway_cores=cores,
        client_cores=own_cores,
    )


def _is_wrong(truth: Truth, watcher: Watcher) -> bool:
    """Whether it has seen anything else than the changes of its orders, once and in order."""
    seen = [version for version, _ in watcher.changes]
    wanted = [
        version
        for version, customer, _ in truth.changes
        if version > watcher.began_at and (watcher.is_staff or customer == watcher.id)
    ]
    return seen != wanted


async def _watchers(plane: Plane, pool: Pool, transport: Transport, count: int) -> list[Watcher]:
    """Accounts without a password, with tokens that are signed with the gateway's key."""
    ring, rules = KeyRing(plane.signing_keys), TokenRules(plane.url("gateway"), "orderplane")
    users, made = UserStore(pool), []
    for number in range(count):
        is_staff = number < STAFF
        role, name = Role.MERCHANT if is_staff else Role.CUSTOMER, f"u-watch-{number}"
        await users.add(
            MERCHANT, name, email=f"{name}@example.test", password_hash="", role=role.value, is_confirmed=True
        )
        caller = Principal(MERCHANT, name, role, SCOPES_OF[role])
        token = issue(ring, rules, caller, client_id="bench", now=int(time.time())).token
        tokens = MemoryTokenStore(Tokens(token, time.time() + ACCESS_SECONDS))
        made.append(Watcher(name, Client(transport, token_store=tokens), is_staff))
    return made


async def _place(everybody: Sequence[Watcher], rate: float, seconds: float) -> set[str]:
    """Have customers order, so many a second; answers the ids of the orders."""
    customers = [each for each in everybody if not each.is_staff]
    names: set[str] = set()

    async def place(number: int) -> None:
        customer = customers[number % len(customers)]
        with suppress(ApiProblem):
            order = await customer.client.orders.create(_ORDER, key=f"{time.time_ns()}-{number}")
            names.add(order["id"])

    async with asyncio.TaskGroup() as group:
        for number in range(round(rate * seconds)):
            group.create_task(place(number))
            await asyncio.sleep(1 / rate)
    return names


async def _memory(plane: Plane) -> int:
    """Bytes that the gateway's process has in memory."""
    pid = plane.supervisor.pid("gateway")
    text = await asyncio.to_thread(Path(f"/proc/{pid}/statm").read_text)
    return int(text.split()[1]) * 4096


@asynccontextmanager
async def _running(work: Any) -> AsyncIterator[None]:
    task = asyncio.create_task(work)
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
