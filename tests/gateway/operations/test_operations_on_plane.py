"""Figures, repairs, failed messages and the record of actions, on a plane where everything runs."""

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any
from uuid import uuid4

import pytest

from orderplane.client.client import Client
from orderplane.client.transport import ApiProblem, Transport, connect
from orderplane.gateway.principal import Role
from orderplane.ledgers.postgres.inventory import recount

from ...support.plane import ORDER, Caller, Merchant

pytestmark = pytest.mark.integration

SKU = "TEA-EARL-GREY-100"


class Token:
    """An access token that somebody has already."""

    def __init__(self, caller: Caller) -> None:
        self._token = caller.token

    async def token(self, *, rejected: str | None = None) -> str:
        assert rejected is None
        return self._token


@pytest.fixture
async def transport(merchant: Merchant) -> AsyncIterator[Transport]:
    async with connect(merchant.plane.url("gateway")) as transport:
        yield transport


async def client_of(merchant: Merchant, transport: Transport, role: Role) -> tuple[Client, str]:
    """A client of somebody new, and the actor that they are."""
    caller = await merchant.caller(role)
    kind = "service" if role is Role.SERVICE else "user"
    return Client(transport, tokens=Token(caller)), f"{kind}:{caller.id}"


async def until(read: Callable[[], Any], is_right: Callable[[Any], bool], seconds: float = 60) -> Any:
    async with asyncio.timeout(seconds):
        while True:
            seen = await read()
            if is_right(seen):
                return seen
            await asyncio.sleep(0.1)


def order_of(merchant: Merchant, **changes: Any) -> dict[str, Any]:
    return {**ORDER, "items": [{"sku": SKU, "quantity": 1}], "customer": "c-1", **changes}


async def done(client: Client, object_: str) -> list[tuple[str, str]]:
    """What was done to an object, newest first, and by whom."""
    page = await client.operations.actions(object_=object_)
    return [(action["action"], action["actor"]) for action in page["items"]]


async def test_a_refund_that_failed_is_retried_and_settled_by_name(
    merchant: Merchant, transport: Transport
) -> None:
    client, actor = await client_of(merchant, transport, Role.MERCHANT)
    address = {**ORDER["address"], "line1": "9 Island Walk"}
    body = order_of(merchant, paymentMethod="pm_sandbox_refundFails", address=address)
    order = (await client.orders.create(body, key=str(uuid4())))["id"]
    stalled = await until(lambda: client.orders.list(stalled=True), lambda page: page["items"] != [])
    assert [each["id"] for each in stalled["items"]] == [order]
    assert (await client.operations.overview())["stalled"] == 1
    with pytest.raises(ApiProblem) as refused:
        await client.orders.settle(order, reason="card closed", reference="")
    assert refused.value.code == "validation_failed"

    await client.orders.retry(order)
    await until(lambda: done(client, order), lambda acts: ("order.retry", actor) in acts)
    await until(lambda: client.orders.list(stalled=True), lambda page: page["items"] != [])

    async def settled() -> str | None:
        # After the retry the refund is on its way again for a moment.
        try:
            return await client.orders.settle(order, reason="card closed", reference="SEPA-1")
        except ApiProblem as problem:
            assert problem.code == "nothing_to_settle"
            return None

    said = await until(settled, lambda answer: answer is not None)
    assert "paid back by hand" in said
    ended = await until(lambda: client.orders.get(order), lambda it: it["phase"] == "Failed")
    assert "RefundPayment" in [each["step"] for each in ended["compensation"]]
    assert [act for act in await done(client, order) if act[0] == "order.settle"] == [("order.settle", actor)]
    for again in (client.orders.retry(order), client.orders.settle(order, reason="x", reference="y")):
        with pytest.raises(ApiProblem) as problem:
            await again
        assert problem.value.code in ("already_finished", "nothing_to_settle")
    reason = ended["reason"]
    assert reason is not None
    assert [each["id"] for each in (await client.orders.list(reason=reason))["items"]] == [order]
    assert (await client.orders.list(reason="OutOfStock"))["items"] == []


async def test_whatever_is_changed_is_on_record_with_before_and_after(
    merchant: Merchant, transport: Transport
) -> None:
    admin, actor = await client_of(merchant, transport, Role.ADMIN)
    service, robot = await client_of(merchant, transport, Role.SERVICE)
    product = {"sku": "BOWL", "name": "Bowl", "price": {"amount": 500, "currency": "EUR"}, "weightGrams": 90}
    await service.products.create(product)
    await admin.products.change("BOWL", {"price": {"amount": 550}})
    await admin.inventory.recount("BOWL", 7, reason="first", key="r-1")
    await admin.inventory.adjust("BOWL", -2, reason="broken", key="a-1")
    # Twice with one key is once.
    await admin.inventory.adjust("BOWL", -2, reason="broken", key="a-1")
    await recount(merchant.pool, merchant.name, "BOWL", 4, note="by SQL")
    await admin.products.archive("BOWL")
    page = (await admin.operations.actions(object_="BOWL"))["items"]
    by_hand = f"database:{await merchant.pool.fetchval('SELECT session_user')}"
    assert [(it["action"], it["actor"], it["before"], it["after"]) for it in reversed(page)] == [
        ("product.create", robot, None, {
            "name": "Bowl", "description": "", "currency": "EUR", "unitAmount": 500, "otherPrices": {},
            "weightGrams": 90, "archived": False,
        }),
        ("product.change", actor, {"unitAmount": 500}, {"unitAmount": 550}),
        ("stock.recount", actor, None, {"onHand": 7}),
        ("stock.adjust", actor, {"onHand": 7}, {"onHand": 5, "reason": "broken"}),
        ("stock.recount", by_hand, {"onHand": 5}, {"onHand": 4, "reason": "by SQL"}),
        ("product.change", actor, {"archived": False}, {"archived": True}),
    ]  # fmt: skip
    versions = await admin.price_rules.get("EUR")
    await admin.price_rules.set("EUR", versions["rule"] | {"taxIncluded": True})
    assert (await done(admin, "EUR"))[0] == ("price_rule.set", actor)

    made = await admin.staff.create_user(
        email="bea@example.test", password="correct horse battery", role="merchant", name="Bea"
    )
    await admin.staff.delete_user(made["id"])
    assert await done(admin, made["id"]) == [("user.delete", actor), ("user.create", actor)]
    client = await admin.staff.create_service("warehouse")
    listed = (await admin.staff.services(limit=200))["items"]
    assert client["secret"] and [it["name"] for it in listed if it["id"] == client["id"]] == ["warehouse"]
    await admin.staff.revoke_service(client["id"])
    assert client["id"] not in [it["id"] for it in (await admin.staff.services(limit=200))["items"]]
    assert await done(admin, client["id"]) == [("client.revoke", actor), ("client.create", actor)]
    # No address of a person is kept there.
    rows = await merchant.pool.fetch("SELECT * FROM actions WHERE merchant = $1", merchant.name)
    assert "bea@" not in str([tuple(row) for row in rows])
    first = await admin.operations.actions(limit=2)
    assert first["next"] is not None
    second = await admin.operations.actions(limit=2, cursor=first["next"])
    assert [it["id"] for it in second["items"]] < [it["id"] for it in first["items"]]
    mine = await service.operations.actions(actor=robot)
    assert {it["actor"] for it in mine["items"]} == {robot}


async def test_cancelling_is_on_record_and_the_board_counts_it(
    merchant: Merchant, transport: Transport
) -> None:
    client, actor = await client_of(merchant, transport, Role.MERCHANT)
    order = (await client.orders.create(order_of(merchant), key=str(uuid4())))["id"]
    await client.orders.cancel(order)
    await until(lambda: client.orders.get(order), lambda it: it["phase"] == "Cancelled")
    page = (await client.operations.actions(object_=order))["items"]
    assert [(it["action"], it["actor"], it["before"], it["after"]) for it in page] == [
        ("order.cancel", actor, {"state": "Open"}, {"state": "Compensating", "reason": "CancelRequested"})
    ]
    seen = await until(client.operations.overview, lambda view: view["phases"]["Cancelled"] == 1)
    assert sum(minute["placed"] for minute in seen["minutes"]) == 1
    assert sum(minute["finished"] for minute in seen["minutes"]) == 1


async def test_a_message_that_failed_is_sent_once_more_when_asked(
    merchant: Merchant, transport: Transport
) -> None:
    client, actor = await client_of(merchant, transport, Role.MERCHANT)
    customer = await merchant.caller(Role.CUSTOMER)
    await merchant.pool.execute(
        "UPDATE users SET email = 'bounced-' || id || '@example.test' WHERE merchant = $1 AND id = $2",
        merchant.name, customer.id,
    )  # fmt: skip
    order = (await client.orders.create(order_of(merchant, customer=customer.id), key=str(uuid4())))["id"]
    await until(lambda: client.orders.get(order), lambda it: it["phase"] == "Delivered")

    async def failed() -> list[dict[str, Any]]:
        return [
            dict(message)
            for message in (await client.operations.failed_messages())["items"]
            if message["order"] == order
        ]

    dead = await until(failed, lambda messages: any(it["event"] == "order.delivered" for it in messages))
    assert {it["reason"] for it in dead} == {"RecipientRefused"}
    assert (await client.operations.overview())["failedMessages"] >= 1
    await merchant.pool.execute(
        "UPDATE users SET email = 'well-' || id || '@example.test' WHERE merchant = $1 AND id = $2",
        merchant.name, customer.id,
    )  # fmt: skip
    last = next(it for it in dead if it["event"] == "order.delivered")
    assert (await client.operations.replay(last["id"]))["state"] == "Waiting"
    states = await until(
        lambda: client.orders.messages(order),
        lambda page: any(it["id"] == last["id"] and it["state"] == "Sent" for it in page["items"]),
    )
    assert len({it["id"] for it in states["items"]}) == len(states["items"])
    # Repeating it changes nothing.
    assert (await client.operations.replay(last["id"]))["state"] == "Sent"
    assert await done(client, last["id"]) == [("message.replay", actor)]
    for nothing in ("x", f"{uuid4()}.email", f"{uuid4()}.pigeon"):
        with pytest.raises(ApiProblem) as problem:
            await client.operations.replay(nothing)
        assert problem.value.code == "message_not_found"
