"""Names, addresses and card numbers are in the Order and at the carrier, and nowhere else."""

import asyncio
import json
import secrets
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from kubernetes import client, config

from orderplane.adapters.kafka.topics import read_all
from orderplane.adapters.kubernetes.client import Json
from orderplane.cli.backends import open_backends
from orderplane.client.transport import ApiProblem, connect
from orderplane.crds.meta import Kind
from orderplane.dev.demo.customers import arrive
from orderplane.dev.demo.mix import Case, Story, mix
from orderplane.dev.demo.products import MERCHANT, seed
from orderplane.dev.demo.shop import Shop
from orderplane.dev.localplane.plane import Plane
from orderplane.ledgers.postgres.session import Pool, session

pytestmark = [pytest.mark.integration, pytest.mark.timeout(280)]

STORIES = {
    Story.GOOD: 1, Story.OUT_OF_STOCK: 1, Story.DECLINED: 1, Story.CHARGE_UNCLEAR: 1,
    Story.ADDRESS_REFUSED: 1, Story.LABEL_REFUSED: 1, Story.CANCELLED: 1,
}  # fmt: skip

CARD = "4242424242424242"
_MARK = secrets.token_hex(4)
NAME, CITY, LINE2, POSTCODE = f"Zoe-{_MARK}", f"Town-{_MARK}", f"Flat-{_MARK}", f"Z{_MARK}"
# The last two are how all of the demo's customers are reached.
PLANTED = (NAME, CITY, LINE2, POSTCODE, CARD, "@example.test", "+31970")


def with_planted(case: Case) -> Case:
    """The same case for a customer whom we would recognise anywhere."""
    address = case.body["address"] | {
        "name": NAME, "city": CITY, "line2": LINE2, "postalCode": POSTCODE,
    }  # fmt: skip
    return replace(case, key=f"{case.key}-{_MARK}", body=case.body | {"address": address})


def leaks(text: str) -> list[str]:
    return [planted for planted in PLANTED if planted in text]


async def refused(plane: Plane, pool: Pool, body: Json) -> str:
    """What the gateway answers to an order that it does not take."""
    async with connect(plane.url("gateway")) as transport:
        (customer,) = await arrive(transport, pool, 1)
        with pytest.raises(ApiProblem) as refusal:
            await customer.client(transport).orders.create(body, key=secrets.token_hex(16))
    assert 400 <= refusal.value.status < 500
    return json.dumps(dict(refusal.value.document))


async def told_by_kubernetes(plane: Plane) -> str:
    """Every Event of the cluster, in full."""

    def listed() -> Any:
        with config.new_client_from_config(str(plane.kubeconfig("admin"))) as api:
            found = client.EventsV1Api(api).list_event_for_all_namespaces()
            return api.sanitize_for_serialization(found)

    return json.dumps(await asyncio.to_thread(listed))


def logged(folder: Path) -> dict[str, str]:
    """What each process has written, by the log's name."""
    return {file.name: file.read_bytes().decode(errors="replace") for file in folder.glob("*.log")}


async def test_nobody_tells_who_the_customer_is(running: Plane) -> None:
    async with open_backends(running.env("admin")) as backends:
        await seed(backends.pool)
        shop = Shop(running.url("gateway"), backends.api, backends.pool)
        cases = [with_planted(case) for case in mix(len(STORIES), 11, stories=STORIES)]
        async with asyncio.TaskGroup() as group:
            group.create_task(shop.place_all(cases))
            assert await shop.watch(150, lambda: None), shop.phases()
        assert [placed.problem for placed in shop.placed if placed.problem] == []

        # A card number in place of a token is refused without being heard again.
        for method in (CARD, f"pm_{CARD}"):
            assert (
                leaks(await refused(running, backends.pool, cases[0].body | {"paymentMethod": method})) == []
            )
        wrong = cases[0].body | {"items": [{"sku": "NO-SUCH-THING", "quantity": 1}]}
        assert leaks(await refused(running, backends.pool, wrong)) == []

        # The search can find something: the Orders themselves do have it.
        orders = await backends.api.list_page(Kind.ORDER, MERCHANT)
        assert NAME in json.dumps(orders.items)

        subjects = {placed.order["metadata"]["uid"] for placed in shop.placed}
        records = [record async for record in read_all(running.kafka_bootstrap)]
        ours = [record for record in records if record.key.decode() in subjects]
        assert {record.topic for record in ours} >= {"order.created", "order.failed", "order.delivered"}
        for record in records:
            assert leaks(f"{record.key!r} {record.value!r} {record.headers!r}") == [], record.topic

        async with session(backends.pool) as connection:
            history = await connection.fetch("SELECT * FROM history WHERE merchant = $1", MERCHANT)
        assert leaks(repr([dict(row) for row in history])) == []

    events = await told_by_kubernetes(running)
    assert "Failed" in events
    assert leaks(events) == []

    logs = await asyncio.to_thread(logged, running.state / "logs")
    assert {
        "operator.log", "gateway.log", "relay.log", "notifier.log", "deliverer.log", "webhook.log",
        "kube-apiserver.log",
    } <= set(logs)  # fmt: skip
    assert any(shop.placed[0].name in text for text in logs.values())
    assert {name: leaks(text) for name, text in logs.items() if leaks(text)} == {}
