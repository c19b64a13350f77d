"""An operator stands still with a purchase on its way out, for longer than the settle time; really."""

import asyncio
import contextlib
import os
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from urllib.parse import urlsplit

import pytest

from orderplane.dev.localplane.components import process
from orderplane.dev.localplane.plane import Plane
from orderplane.dev.localplane.ports import free_port
from orderplane.ledgers.states import STILL_VALID

from ..saga.conftest import PATIENCE, Desk, phase_is
from ..support.plane import TEMPO, merchant_on
from .conftest import alarms_of, chaos_plane, verdict_of

pytestmark = [pytest.mark.integration, pytest.mark.chaos]

HASTY = {**TEMPO["operator"], "ORDERPLANE_CARRIER_SETTLE_SECONDS": "1"}
PATIENT_CARRIER = {"ORDERPLANE_SANDBOX_TRANSIT_SECONDS": "600"}
"""No label is scanned before it is found: a parcel that has left could not be taken back."""


@dataclass
class Door:
    """A way to the carrier on which purchases wait until they are let through."""

    host: str
    port: int
    held: asyncio.Event = field(default_factory=asyncio.Event)
    opened: asyncio.Event = field(default_factory=asyncio.Event)
    url: str = ""

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        inner_reader, inner_writer = await asyncio.open_connection(self.host, self.port)
        # Python 3.11 reports the handler of a connection that ends with the loop as failed.
        with contextlib.suppress(asyncio.CancelledError):
            async with asyncio.TaskGroup() as group:
                group.create_task(self._pump(reader, inner_writer, holds=True))
                group.create_task(self._pump(inner_reader, writer))

    async def _pump(
        self, source: asyncio.StreamReader, sink: asyncio.StreamWriter, *, holds: bool = False
    ) -> None:
        try:
            while chunk := await source.read(65_536):
                if holds and b"/buy " in chunk:
                    self.held.set()
                    await self.opened.wait()
                sink.write(chunk)
                await sink.drain()
        except ConnectionError:
            pass
        finally:
            sink.close()


@asynccontextmanager
async def door_to(url: str) -> AsyncIterator[Door]:
    where = urlsplit(url)
    assert where.hostname is not None
    assert where.port is not None
    door = Door(where.hostname, where.port)
    async with await asyncio.start_server(door.serve, "127.0.0.1") as server:
        door.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        yield door
        door.opened.set()


async def start_sleeper(plane: Plane, carrier_url: str) -> int:
    """An operator that reaches the carrier only through the door; answers its pid."""
    # Its calls do not time out: what it is told when it wakes up is not lost.
    more = {"ORDERPLANE_CARRIER_URL": carrier_url, "ORDERPLANE_CARRIER_SECONDS": "60"}
    env = {**plane.env("operator"), **HASTY, **more}
    component = process("operator", env, http_port=free_port(), metrics_port=free_port(), state=plane.state)
    await plane.supervisor.start(replace(component, name="sleeper", stop_timeout=1))
    pid = plane.supervisor.pid("sleeper")
    assert pid is not None
    return pid


@pytest.fixture(scope="module", name="own_plane")
async def plane_with_patient_carrier(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Plane]:
    async with chaos_plane(tmp_path_factory.mktemp("sleeping")) as plane:
        await plane.supervisor.stop("carrier")
        await plane.start_process("carrier", PATIENT_CARRIER)
        yield plane


@pytest.mark.parametrize("end", ["wakes up", "dies"])
@pytest.mark.timeout(400)
async def test_the_label_that_it_buys_after_the_end_is_voided(own_plane: Plane, end: str) -> None:
    async with door_to(own_plane.url("carrier")) as door, merchant_on(own_plane) as merchant:
        desk = Desk(merchant)
        await own_plane.supervisor.stop("operator")
        pid = await start_sleeper(own_plane, door.url)
        order = await desk.place()
        async with asyncio.timeout(PATIENCE):
            await door.held.wait()
        os.kill(pid, signal.SIGSTOP)
        try:
            await desk.cancel(order)
            # First the decision alone: else the other operator may buy the label before it sees the cancel.
            await own_plane.start_process("operator", {**HASTY, "ORDERPLANE_CONTROLLERS": "order"})
            await desk.until_row(
                "SELECT 1 FROM orders WHERE merchant = $1 AND uid = $2 AND state = 'Compensating'",
                order["metadata"]["uid"],
            )
            await own_plane.supervisor.stop("operator")
            await own_plane.start_process("operator", HASTY)
            await desk.until(order, phase_is("Cancelled"))
            assert await desk.labels(order) == []
            door.opened.set()
            await desk.until_label(order)
        finally:
            if end == "wakes up":
                os.kill(pid, signal.SIGCONT)
            else:
                await own_plane.supervisor.stop("sleeper")
        row = await desk.until_row(
            "SELECT * FROM shipments WHERE merchant = $1 AND order_uid = $2 AND state = 'Discarded'",
            order["metadata"]["uid"],
            # Where the first look came before the label, the second comes twelve times as late.
            seconds=180,
        )
        (label,) = await desk.labels(order)
        assert label.void not in STILL_VALID
        assert row["tracking_code"] == label.label.tracking_code
        assert [refund.state for refund in await desk.refunds(order)] == ["Succeeded"]
        assert (await desk.history(order))[-1] == "order.cancelled"
        if end == "wakes up":
            await own_plane.supervisor.stop("sleeper")
    verdict = await verdict_of(own_plane)
    assert verdict.is_clean, verdict.violations
    assert not verdict.open
    assert not alarms_of(own_plane)
