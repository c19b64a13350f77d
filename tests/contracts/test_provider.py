"""The gateway keeps the pacts of its consumers, with everything behind it real."""

import asyncio
import json
from collections.abc import Callable, Coroutine
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from aiohttp import web
from argon2 import PasswordHasher
from pact import Verifier

from orderplane.adapters.kubernetes.client import Json
from orderplane.adapters.webhook_endpoints.secrets import EndpointSecrets
from orderplane.crds.api_errors import AlreadyExists
from orderplane.crds.defaults import draw_shard, reservation_manifest
from orderplane.crds.meta import API_VERSION, Kind
from orderplane.crds.order import Item
from orderplane.events.standard_webhooks import new_secret
from orderplane.gateway.identity.user_store import EmailTaken, UserStore, new_user_id
from orderplane.gateway.principal import Role
from orderplane.ledgers.postgres.refunds import PostgresRefundLedger
from orderplane.ledgers.postgres.session import transaction
from orderplane.ledgers.postgres.webhook_endpoints import WebhookEndpointStore, add_endpoint
from orderplane.ledgers.refunds import NewRefund
from orderplane.ledgers.webhook_endpoints import EndpointDetails

from ..support.plane import ORDER, Merchant
from .pacts import FOLDER, GATEWAY, kept, listening

pytestmark = pytest.mark.integration

CONSUMERS = {
    "order-client": Role.CUSTOMER,
    "refund-client": Role.SERVICE,
    "product-client": Role.CUSTOMER,
    "price-rule-client": Role.MERCHANT,
    "inventory-client": Role.SERVICE,
    "webhook-endpoint-client": Role.MERCHANT,
}
"""Who they are to the merchant."""


class World:
    """What consumers suppose to be so, made so for one caller, whose orders they are."""

    def __init__(self, merchant: Merchant, caller: str) -> None:
        self._merchant = merchant
        self._caller = caller

    async def for_sale(self) -> None:
        """It is: every merchant of the tests has the demo's products."""

    async def account(self, email: str, password: str) -> None:
        with suppress(EmailTaken):
            await UserStore(self._merchant.pool).add(
                "demo", new_user_id(), email=email, password_hash=PasswordHasher().hash(password),
                role="customer", is_confirmed=True,
            )  # fmt: skip

    async def under_way(self, id: str) -> None:
        spec = {**ORDER, "customer": self._caller}
        await self._make({"apiVersion": API_VERSION, "kind": "Order", "metadata": {"name": id}, "spec": spec})

    async def delivered(self, id: str) -> None:
        await self.under_way(id)
        await self._until(Kind.ORDER, id, "Delivered")

    async def refunded(self, id: str) -> None:
        await self.delivered(id)
        order = await self._merchant.api.get(Kind.ORDER, self._merchant.name, id)
        piece = NewRefund("rf-1", "Damaged", 100, {"TEA-EARL-GREY-100": 1})
        refunds = PostgresRefundLedger(self._merchant.pool)
        await refunds.request(self._merchant.name, order["metadata"]["uid"], piece)

    async def kept(self, id: str) -> None:
        items = [Item(sku="TEA-EARL-GREY-100", quantity=2)]
        until = datetime.now(UTC) + timedelta(minutes=10)
        await self._make(reservation_manifest(self._merchant.name, id, items, until, None, draw_shard()))
        await self._until(Kind.RESERVATION, id, "Held")

    async def registered(self, id: str, event: str | None = None) -> None:
        pool, merchant = self._merchant.pool, self._merchant.name
        keys = EndpointSecrets(self._merchant.plane.env("gateway")["ORDERPLANE_ENDPOINT_KEYS"])
        if await WebhookEndpointStore(pool).find(merchant, id) is not None:
            return  # an interaction before this one supposed the same
        details = EndpointDetails("http://127.0.0.1:9/", "", ("order.shipped",), is_enabled=True)
        async with transaction(pool) as connection:
            await add_endpoint(
                connection, merchant, id, details, secret=keys.encrypt(new_secret()), actor="user:u-1"
            )
            if event is not None:
                await connection.execute(
                    "INSERT INTO event_deliveries "
                    "(merchant, endpoint_id, event_id, type, is_test, created_at) "
                    "VALUES ($1, $2, $3, 'endpoint.test', true, now())",
                    merchant, id, event,
                )  # fmt: skip

    async def _make(self, manifest: Json) -> None:
        try:
            await self._merchant.api.create(Kind(manifest["kind"]), self._merchant.name, manifest)
        except AlreadyExists:
            # An interaction before this one supposed the same.
            return

    async def _until(self, kind: Kind, name: str, phase: str) -> None:
        async with asyncio.timeout(60):
            while True:
                found = await self._merchant.api.get(kind, self._merchant.name, name)
                if found.get("status", {}).get("phase") == phase:
                    return
                await asyncio.sleep(0.1)


STATES: dict[str, Callable[..., Coroutine[Any, Any, None]]] = {
    "the products are for sale": World.for_sale,
    "a customer has an account": World.account,
    "an order is under way": World.under_way,
    "an order was delivered": World.delivered,
    "a piece was refunded": World.refunded,
    "stock is kept": World.kept,
    "an endpoint was registered and tested": World.registered,
}


def supposed(consumer: str, state: str) -> list[dict[str, str]]:
    """With which parameters a consumer supposes a state."""
    pact = json.loads((FOLDER / f"{consumer}.json").read_text())
    states = [one for interaction in pact["interactions"] for one in interaction.get("providerStates", ())]
    return [one["params"] for one in states if one["name"] == state]


@pytest.mark.parametrize("consumer", CONSUMERS)
async def test_the_gateway_keeps_the_pact(merchant: Merchant, consumer: str) -> None:
    caller = await merchant.caller(CONSUMERS[consumer])
    world = World(merchant, caller.id)

    async def make_so(request: web.Request) -> web.Response:
        wanted = await request.json()
        # Without a name where an interaction supposes nothing.
        if wanted["state"]:
            await STATES[wanted["state"]](world, **wanted["params"])
        return web.json_response({})

    # Takes longer than the verifier waits for a state.
    for state in ("an order was delivered", "a piece was refunded"):
        for parameters in supposed(consumer, state):
            await STATES[state](world, **parameters)
    async with listening(make_so) as port:
        verifier = Verifier(GATEWAY, host="127.0.0.1")
        verifier.add_transport(url=merchant.plane.url("gateway"))
        verifier.add_source(FOLDER / f"{consumer}.json")
        verifier.add_custom_header("Authorization", caller.headers["Authorization"])
        verifier.state_handler(f"http://127.0.0.1:{port}/", body=True)
        await kept(verifier)


def test_every_consumer_of_the_gateway_is_heard() -> None:
    assert {file.stem for file in FOLDER.glob("*-client.json")} == set(CONSUMERS)
