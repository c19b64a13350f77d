"""A burst of the operator does not keep the front door waiting: on the real API server, under load."""

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Any

import pytest

from orderplane.adapters.kubernetes.client import ApiClient
from orderplane.crds.api_errors import NotFound, Overloaded
from orderplane.crds.meta import Kind
from orderplane.dev.localplane.plane import Plane

pytestmark = pytest.mark.integration

LEVEL = "/apis/flowcontrol.apiserver.k8s.io/v1/prioritylevelconfigurations/orderplane-operator"
BURST = 100
"""Requests at once, again and again; the operator itself never has more than 12 under way."""

ASKED = 40


@asynccontextmanager
async def client(plane: Plane, identity: str, connections: int = 4) -> AsyncIterator[ApiClient]:
    kubeconfig = str(plane.kubeconfig(identity))
    async with await ApiClient.connect(
        user_agent="tests", kubeconfig=kubeconfig, connections=connections, timeout_seconds=60
    ) as api:
        yield api


@dataclass(frozen=True, slots=True)
class Counters:
    """Of a priority level: https://kubernetes.io/docs/reference/instrumentation/metrics/"""

    waited_seconds: float
    dispatched: float
    rejected: float

    def since(self, before: "Counters") -> "Counters":
        return Counters(
            self.waited_seconds - before.waited_seconds,
            self.dispatched - before.dispatched,
            self.rejected - before.rejected,
        )


async def counters(admin: ApiClient, level: str) -> Counters:
    text = await admin.metrics()

    def total(name: str) -> float:
        line = rf'^apiserver_flowcontrol_{name}{{[^}}]*priority_level="{level}"[^}}]*}} (\S+)$'
        return sum(map(float, re.findall(line, text, re.MULTILINE)))

    return Counters(
        total("request_wait_duration_seconds_sum"),
        total("dispatched_requests_total"),
        total("rejected_requests_total"),
    )


@asynccontextmanager
async def with_few_seats(admin: ApiClient) -> AsyncIterator[None]:
    """The operator's level with next to nothing, so that a test's burst is more than it can have."""
    level = await admin.read_path(LEVEL)

    limited = level["spec"]["limited"]

    async def write(**changes: Any) -> None:
        body = {key: level[key] for key in ("apiVersion", "kind")}
        body["metadata"] = {"name": level["metadata"]["name"]}
        body["spec"] = {"type": "Limited", "limited": {**limited, **changes}}
        await admin.apply_path(LEVEL, body, manager="tests")

    await write(nominalConcurrencyShares=1, lendablePercent=0, borrowingLimitPercent=0)
    try:
        yield
    finally:
        await write()


async def test_the_front_door_does_not_wait_for_the_operator(plane: Plane, namespace: str) -> None:
    async with (
        client(plane, "admin") as admin,
        client(plane, "gateway") as gateway,
        client(plane, "operator", connections=BURST) as operator,
        with_few_seats(admin),
    ):
        is_over = asyncio.Event()

        async def reconcile() -> None:
            while not is_over.is_set():
                with suppress(Overloaded):
                    await operator.list_page(Kind.ORDER)

        levels = ("orderplane-gateway", "orderplane-operator")
        before = [await counters(admin, level) for level in levels]
        burst = asyncio.gather(*(reconcile() for _ in range(BURST)))
        try:
            for _ in range(ASKED):
                with pytest.raises(NotFound):
                    await gateway.get(Kind.ORDER, namespace, "none")
        finally:
            is_over.set()
            await burst
        after = [await counters(admin, level) for level in levels]
    door, behind = [now.since(then) for now, then in zip(after, before, strict=True)]
    assert (door.dispatched, door.rejected) == (ASKED, 0)
    assert behind.dispatched > BURST
    # Seconds that a request stood in a queue, on average.
    assert behind.waited_seconds / behind.dispatched > 10 * door.waited_seconds / door.dispatched
