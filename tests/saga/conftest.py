"""One merchant's desk: place orders as a person would, and look at everything that became of them."""

import asyncio
import contextlib
import secrets
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from typing import Any

import aiohttp
import pytest
from kubernetes import client, config

from orderplane.adapters.kubernetes.client import ApiClient, Json
from orderplane.audit.verdict import Verdict, audit
from orderplane.cli.backends import Backends, open_backends
from orderplane.crds.api_errors import NotFound
from orderplane.crds.meta import API_VERSION, Kind
from orderplane.crds.order import child_name
from orderplane.dev.localplane.plane import Plane
from orderplane.ledgers.postgres.session import Pool, session

from ..support.plane import TEMPO, Merchant

PATIENCE = 60.0
"""Seconds for what usually takes less than five: the machine may be busy."""

TEA, MUG, POT = "TEA-EARL-GREY-100", "MUG-STONEWARE-BLUE", "POT-CAST-IRON-800"
OPENING = 1_000_000
CHILDREN = (Kind.RESERVATION, Kind.PAYMENT, Kind.SHIPMENT)

Items = Sequence[tuple[str, int]]


def manifest(
    name: str, items: Items = ((TEA, 2),), *, method: str = "pm_card_visa", line1: str = "1 Canal Street",
    **spec: Any,
) -> Json:  # fmt: skip
    """An Order as a person writes it; the webhook fills in the rest."""
    return {
        "apiVersion": API_VERSION,
        "kind": "Order",
        "metadata": {"name": name},
        "spec": {
            "customer": "c-1001",
            "items": [{"sku": sku, "quantity": quantity} for sku, quantity in items],
            "address": {
                "name": "Ada Example", "line1": line1, "city": "Rotterdam", "postalCode": "3011",
                "country": "NL",
            },
            "paymentMethod": method,
            **spec,
        },
    }  # fmt: skip


def phase_is(*phases: str) -> Callable[[Json], bool]:
    return lambda order: order.get("status", {}).get("phase", "Pending") in phases


def conditions_of(resource: Json) -> dict[str, tuple[str, str]]:
    """Status and reason by type."""
    return {c["type"]: (c["status"], c["reason"]) for c in resource.get("status", {}).get("conditions", ())}


def compensation_steps(order: Json) -> list[str]:
    """What the compensation list tells, sorted: money and stock go back side by side."""
    return sorted(entry["step"] for entry in order["status"].get("compensation", ()))


@dataclass(frozen=True, slots=True)
class Desk:
    """One merchant's namespace with everything that can be looked at."""

    merchant: Merchant

    @property
    def name(self) -> str:
        return self.merchant.name

    @property
    def api(self) -> ApiClient:
        return self.merchant.api

    @property
    def pool(self) -> Pool:
        return self.merchant.pool

    @property
    def plane(self) -> Plane:
        return self.merchant.plane

    @property
    def backends(self) -> Backends:
        return self.merchant.backends

    async def place(self, items: Items = ((TEA, 2),), *, name: str | None = None, **more: Any) -> Json:
        """Create an Order; answers it as it was stored."""
        name = name or f"o-{secrets.token_hex(4)}"
        return await self.api.create(Kind.ORDER, self.name, manifest(name, items, **more))

    async def order(self, order: Json) -> Json:
        return await self.api.get(Kind.ORDER, self.name, order["metadata"]["name"])

    async def child(self, kind: Kind, order: Json) -> Json:
        return await self.api.get(
            kind, self.name, child_name(order["metadata"]["name"], order["metadata"]["uid"])
        )

    async def until(self, order: Json, is_so: Callable[[Json], bool], *, seconds: float = PATIENCE) -> Json:
        """Look at an Order until it is as wished."""
        return await self._until(Kind.ORDER, order["metadata"]["name"], is_so, seconds)

    async def until_child(
        self, kind: Kind, order: Json, is_so: Callable[[Json], bool], *, seconds: float = PATIENCE
    ) -> Json:
        """Look at a child, which may not be there yet, until it is as wished."""
        return await self._until(
            kind, child_name(order["metadata"]["name"], order["metadata"]["uid"]), is_so, seconds
        )

    async def until_gone(self, order: Json, *, seconds: float = PATIENCE) -> None:
        """Until neither this Order, nor any child of it, is there any more."""
        names = {Kind.ORDER: order["metadata"]["name"]} | dict.fromkeys(
            CHILDREN, child_name(order["metadata"]["name"], order["metadata"]["uid"])
        )
        async with asyncio.timeout(seconds):
            for kind, name in names.items():
                while True:
                    try:
                        found = await self.api.get(kind, self.name, name)
                    except NotFound:
                        break
                    if kind is Kind.ORDER and found["metadata"]["uid"] != order["metadata"]["uid"]:
                        break
                    await asyncio.sleep(0.1)

    async def until_row(self, query: str, *arguments: Any, seconds: float = PATIENCE) -> Any:
        """Ask the ledgers until there is such a row; $1 is the merchant."""
        async with asyncio.timeout(seconds):
            while True:
                rows = await self.rows(query, *arguments)
                if rows:
                    return rows[0]
                await asyncio.sleep(0.02)

    async def until_sealed(self, order: Json) -> Any:
        """Until the gate admits nothing any more; answers its row."""
        return await self.until_row(
            "SELECT * FROM orders WHERE merchant = $1 AND uid = $2 AND state = 'Sealed'",
            order["metadata"]["uid"],
        )

    async def rows(self, query: str, *arguments: Any) -> list[Any]:
        """Ask the ledgers once; $1 is the merchant."""
        async with session(self.pool) as connection:
            found: list[Any] = await connection.fetch(query, self.name, *arguments)
            return found

    async def history(self, order: Json) -> list[str]:
        """The types of everything that has happened, in order."""
        rows = await self.rows(
            "SELECT type FROM history WHERE merchant = $1 AND subject = $2 ORDER BY seq",
            order["metadata"]["uid"],
        )
        return [row["type"] for row in rows]

    async def events(self, order: Json) -> dict[str, str]:
        """The notes of the Kubernetes Events about this very Order, by their reasons."""
        selector = f"regarding.uid={order['metadata']['uid']}"
        found = await self.officially(
            lambda api: client.EventsV1Api(api).list_namespaced_event(self.name, field_selector=selector)
        )
        return {event.reason: event.note for event in found.items}

    async def stock(self, sku: str) -> tuple[int, int]:
        """On hand, and reserved of it."""
        (row,) = await self.rows("SELECT * FROM stock WHERE merchant = $1 AND sku = $2", sku)
        return row["on_hand"], row["reserved"]

    async def intents(self, order: Json) -> list[Any]:
        """What the payment provider knows of an order."""
        found = [intent async for intent in self.backends.payment_provider.intents()]
        return [intent for intent in found if intent.reference == order["metadata"]["uid"]]

    async def refunds(self, order: Json) -> list[Any]:
        """What the payment provider has given back of an order, failed ones too."""
        ids = {intent.id for intent in await self.intents(order)}
        return [
            refund async for refund in self.backends.payment_provider.refunds() if refund.intent_id in ids
        ]

    async def labels(self, order: Json) -> list[Any]:
        """The parcels of an order that have a label, voided ones too."""
        found = [parcel async for parcel in self.backends.carrier.shipments()]
        return [p for p in found if p.reference == order["metadata"]["uid"] and p.label is not None]

    async def until_label(self, order: Json, *, seconds: float = PATIENCE) -> Any:
        """Ask the carrier until it has sold a label for this order."""
        async with asyncio.timeout(seconds):
            while True:
                found = await self.labels(order)
                if found:
                    return found[0]
                await asyncio.sleep(0.05)

    async def cancel(self, order: Json) -> None:
        """As `kubectl patch` would."""
        patch = {"spec": {"cancel": True}}
        await self.api.merge_patch(Kind.ORDER, self.name, order["metadata"]["name"], patch)

    async def delete(self, order: Json) -> None:
        await self.api.delete(Kind.ORDER, self.name, order["metadata"]["name"])

    async def sandbox(self, provider: str, path: str, body: Json | None = None) -> None:
        """Turn one of the providers' knobs."""
        key = self.plane.env("operator")[f"ORDERPLANE_{provider.upper()}_KEY"]
        headers = {"Authorization": f"Bearer {key}"}
        async with (
            aiohttp.ClientSession(self.plane.url(provider), headers=headers) as http,
            http.post(f"/_sandbox/{path}", json=body or {}) as answer,
        ):
            assert answer.status == 200, await answer.text()

    async def kubectl(self, *arguments: str, identity: str = "admin") -> str:
        """Run the real one in this namespace; answers what it printed."""
        assert self.plane.kubectl is not None
        process = await asyncio.create_subprocess_exec(
            self.plane.kubectl, "--kubeconfig", self.plane.kubeconfig(identity), "-n", self.name, *arguments,
            stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
        )  # fmt: skip
        out, err = await asyncio.wait_for(process.communicate(), PATIENCE)
        assert process.returncode == 0, err.decode()
        return out.decode()

    async def officially(self, call: Callable[[client.ApiClient], Any]) -> Any:
        """Call the official client, as the administrator, for what ours does not do."""

        def connected() -> Any:
            with config.new_client_from_config(str(self.plane.kubeconfig("admin"))) as api:
                return call(api)

        return await asyncio.to_thread(connected)

    async def _until(self, kind: Kind, name: str, is_so: Callable[[Json], bool], seconds: float) -> Json:
        found: Json = {}
        try:
            async with asyncio.timeout(seconds):
                while True:
                    try:
                        found = await self.api.get(kind, self.name, name)
                    except NotFound:
                        pass
                    else:
                        if is_so(found):
                            return found
                    await asyncio.sleep(0.05)
        except TimeoutError:
            pytest.fail(f"{kind} {name} is not as wished after {seconds:g} s: {found.get('status')}")


@pytest.fixture
def desk(merchant: Merchant) -> Desk:
    return Desk(merchant)


@pytest.fixture
async def parcels_at_home(desk: Desk) -> AsyncIterator[None]:
    """The carrier scans no parcel while the test runs."""
    await desk.plane.supervisor.stop("carrier")
    await desk.plane.start_process(
        "carrier", {**TEMPO["carrier"], "ORDERPLANE_SANDBOX_TRANSIT_SECONDS": "60"}
    )
    yield
    await desk.plane.supervisor.stop("carrier")
    await desk.plane.start_process("carrier", TEMPO["carrier"])


@pytest.fixture(scope="module", autouse=True)
async def _nothing_is_lost(running: Plane) -> AsyncIterator[None]:
    """After each module, the audit of the whole plane is clean, and no order is left half-way."""
    yield
    verdict = await settled_verdict(running)
    assert verdict.is_clean, verdict.violations
    assert not verdict.open


async def settled_verdict(plane: Plane) -> Verdict:
    """The audit once every order is over and every event is published."""
    async with open_backends(plane.env("admin")) as backends:
        # Where that never comes, the verdict says what is open.
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(PATIENCE):
                while await _is_busy(backends.pool):  # noqa: ASYNC110 - nothing tells of it
                    await asyncio.sleep(0.3)
        return await audit(backends.snapshot)


async def _is_busy(pool: Pool) -> bool:
    async with session(pool) as connection:
        return bool(
            await connection.fetchval(
                "SELECT EXISTS (SELECT 1 FROM orders WHERE state <> 'Sealed') "
                "OR EXISTS (SELECT 1 FROM history WHERE published_at IS NULL)"
            )
        )
