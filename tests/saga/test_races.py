"""Races and forgeries: whoever comes first, whoever lies, money and goods move once or not at all."""

import asyncio
import json
import secrets
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import aiohttp
import pytest
from kubernetes import client
from kubernetes.client.exceptions import ApiException

from orderplane.adapters.kubernetes.client import ApiClient, Json
from orderplane.adapters.postgres.recount import recount
from orderplane.adapters.postgres.stock import PostgresStock
from orderplane.cli.world import open_world
from orderplane.controllers.gate import StockState
from orderplane.controllers.payment.ports import IntentState
from orderplane.controllers.shipment.ports import VoidState
from orderplane.crds.api_errors import Forbidden, NotFound
from orderplane.crds.meta import (
    API_VERSION,
    CANCEL_SHIPMENT_FINALIZER,
    GROUP,
    RETRY_ANNOTATION,
    SHARD_LABEL,
    VERSION,
    Kind,
)
from orderplane.crds.order import Item, child_name
from orderplane.demo.catalogue import MERCHANT, seed
from orderplane.localplane.plane import Plane

from .conftest import MUG, OPENING, POT, TEA, Desk, conditions_of, phase_is, undone_steps

pytestmark = pytest.mark.integration

SLOW_ADDRESS = "7 Fog Street"
"""The first label is never answered and not bought: the order stays Paid for some seconds."""


async def balance(desk: Desk, order: Json) -> int:
    """What the provider has kept of an order's money."""
    taken = sum(intent.received for intent in await desk.intents(order))
    back = sum(r.amount for r in await desk.refunds(order) if r.state != "Failed")
    assert taken in (0, order["spec"]["quote"]["amounts"]["total"])
    return taken - back


async def is_undone_once(desk: Desk, order: Json) -> None:
    """Nothing is kept, and each step back was taken at most once."""
    assert await balance(desk, order) == 0
    assert len(await desk.refunds(order)) <= 1
    told = await desk.history(order)
    for type_ in ("inventory.released", "payment.refunded", "payment.cancelled", "shipment.cancelled"):
        assert told.count(type_) <= 1
    assert told.count("inventory.released") == told.count("inventory.reserved")
    assert told[-1] in ("order.cancelled", "order.failed")


async def test_cancel_against_charge(desk: Desk) -> None:
    # Spread over the time that a charge takes, so that some come before it, some within, some after.
    orders = [await desk.place([(MUG, 1)], line1=SLOW_ADDRESS) for _ in range(8)]

    async def cancel_at(number: int, order: Json) -> None:
        if number >= 2:
            await desk.until_row(
                "SELECT 1 FROM payments WHERE merchant = $1 AND order_uid = $2 "
                "AND (intent_id IS NOT NULL OR NOT $3)",
                order["metadata"]["uid"],
                number >= 5,
            )
        await desk.cancel(order)

    await asyncio.gather(*(cancel_at(number, order) for number, order in enumerate(orders)))
    for order in orders:
        ended = await desk.until(order, phase_is("Cancelled"))
        assert ended["status"]["reason"] == "CancelRequested"
        await is_undone_once(desk, order)
        assert await desk.labels(order) == []
    assert await desk.stock(MUG) == (OPENING, 0)


async def test_cancel_against_label(desk: Desk) -> None:
    orders = [await desk.place([(MUG, 1)]) for _ in range(8)]

    async def cancel_at(number: int, order: Json) -> None:
        await desk.until_row(
            "SELECT 1 FROM shipments WHERE merchant = $1 AND order_uid = $2 "
            "AND (buy_begun_at IS NOT NULL OR NOT $3)",
            order["metadata"]["uid"],
            number >= 4,
        )
        await desk.cancel(order)

    await asyncio.gather(*(cancel_at(number, order) for number, order in enumerate(orders)))
    for order in orders:
        await desk.until(order, phase_is("Cancelled"))
        await is_undone_once(desk, order)
        # Whatever label was bought is dead: the carrier was asked to take it back.
        for parcel in await desk.labels(order):
            assert parcel.void != "None"
    assert await desk.stock(MUG) == (OPENING, 0)


async def test_expiry_against_charge(desk: Desk) -> None:
    """A hold whose time runs out while its payment begins is kept or lost, never both."""
    stock = PostgresStock(desk.pool)
    orders = [await desk.place([(MUG, 1)]) for _ in range(6)]
    late = datetime.now(UTC) + timedelta(days=1)

    async def expire(order: Json) -> None:
        row = await desk.until_row(
            "SELECT * FROM reservations WHERE merchant = $1 AND holder = $2", order["metadata"]["uid"]
        )
        while row["state"] == "Held":
            entry = await stock.expire(desk.name, order["metadata"]["uid"], late)
            assert entry is not None
            if entry.state is not StockState.HELD:
                break
        # Whoever changes a ledger from outside the operator says so, as a recount does.
        news = {
            "merchant": desk.name, "order": order["metadata"]["name"],
            "child": child_name(order["metadata"]["name"], order["metadata"]["uid"]),
        }  # fmt: skip
        await desk.rows("SELECT pg_notify('ledger', $2) WHERE $1 <> ''", json.dumps(news))

    await asyncio.gather(*(expire(order) for order in orders))
    for order in orders:
        ended = await desk.until(order, phase_is("Delivered", "Failed"))
        told = await desk.history(order)
        if ended["status"]["phase"] == "Failed":
            assert ended["status"]["reason"] == "ReservationExpired"
            assert await balance(desk, order) == 0
            assert "order.shipped" not in told
        else:
            assert await balance(desk, order) == order["spec"]["quote"]["amounts"]["total"]
            assert "inventory.released" not in told


async def test_delete_right_after_create(desk: Desk) -> None:
    orders = []
    for _ in range(6):
        order = await desk.place([(MUG, 1)])
        await desk.delete(order)
        orders.append(order)
    for order in orders:
        await desk.until_gone(order)
        gate = await desk.until_sealed(order)
        assert (gate["outcome"], gate["reason"]) == ("Cancelled", "Deleted")
        await is_undone_once(desk, order)
    assert await desk.stock(MUG) == (OPENING, 0)


async def test_a_charge_that_lands_after_the_undo_began_is_given_back(desk: Desk) -> None:
    order = await desk.place([(MUG, 1)], method="pm_sandbox_slowCharge")
    await desk.until_row(
        "SELECT 1 FROM payments WHERE merchant = $1 AND order_uid = $2 AND confirm_attempt = 1",
        order["metadata"]["uid"],
    )
    await desk.cancel(order)
    await desk.until_row(
        "SELECT 1 FROM orders WHERE merchant = $1 AND uid = $2 AND state = 'Undoing'",
        order["metadata"]["uid"],
    )
    ended = await desk.until(order, phase_is("Cancelled"))
    assert "RefundPayment" in undone_steps(ended) or "CancelPayment" in undone_steps(ended)
    await is_undone_once(desk, order)
    for intent in await desk.intents(order):
        assert intent.state in (IntentState.CAPTURED, IntentState.CANCELLED)


async def test_a_charge_that_lands_while_nobody_is_there_is_given_back(desk: Desk) -> None:
    order = await desk.place([(MUG, 1)], method="pm_sandbox_slowCharge")
    await desk.until_row(
        "SELECT 1 FROM payments WHERE merchant = $1 AND order_uid = $2 AND confirm_attempt = 1",
        order["metadata"]["uid"],
    )
    await desk.plane.supervisor.kill("operator")
    await desk.delete(order)
    await desk.until_gone(order)
    await desk.until_sealed(order)
    await is_undone_once(desk, order)


async def test_retry_after_the_provider_pruned_its_keys(desk: Desk) -> None:
    order = await desk.place([(MUG, 1)], method="pm_sandbox_timeoutAfterCharge")
    await desk.until_row(
        "SELECT 1 FROM payments WHERE merchant = $1 AND order_uid = $2 AND confirm_attempt = 1",
        order["metadata"]["uid"],
    )
    # The answer is lost, and so is its key: only the intent itself can tell what happened.
    await desk.plane.supervisor.kill("operator")
    await desk.sandbox("payments", "prune")
    await desk.until(order, phase_is("Shipped", "Delivered"))
    received = [intent.received for intent in await desk.intents(order)]
    assert received.count(order["spec"]["quote"]["amounts"]["total"]) == 1
    assert sum(received) == order["spec"]["quote"]["amounts"]["total"]


async def test_a_label_that_times_out_after_it_was_bought_is_one_label(desk: Desk) -> None:
    order = await desk.place([(MUG, 1)], line1="3 Ferry Road")
    await desk.until(order, phase_is("Shipped", "Delivered"))
    assert len(await desk.labels(order)) == 1
    assert (await desk.history(order)).count("order.shipped") == 1


async def a_stranger(desk: Desk, order: Json) -> Json:
    """Somebody with the operator's rights takes the name that the order's Shipment will want."""
    stranger = {
        "apiVersion": API_VERSION,
        "kind": "Shipment",
        "metadata": {
            "name": child_name(order["metadata"]["name"], order["metadata"]["uid"]),
            "labels": {SHARD_LABEL: "7"},
            "finalizers": [CANCEL_SHIPMENT_FINALIZER],
        },
        "spec": {
            "orderRef": {"name": "somebody-elses", "uid": str(uuid4())},
            "address": {**order["spec"]["address"], "line1": "66 Thief Lane"},
            "parcels": [
                {"weightGrams": 10, "lengthMillimetres": 10, "widthMillimetres": 10, "heightMillimetres": 10}
            ],
            "service": "Standard",
        },
    }
    async with await as_operator(desk) as api:
        return await api.create(Kind.SHIPMENT, desk.name, stranger)


async def as_operator(desk: Desk) -> ApiClient:
    return await ApiClient.connect(
        user_agent="forger", kubeconfig=str(desk.plane.kubeconfig("operator")), seconds=10
    )


async def stalled_by_a_stranger(desk: Desk) -> tuple[Json, Json]:
    order = await desk.place([(MUG, 1)], method="pm_sandbox_processing")
    stranger = await a_stranger(desk, order)
    stalled = await desk.until(order, lambda o: conditions_of(o).get("Stalled") == ("True", "ChildConflict"))
    assert stalled["status"]["phase"] == "Paid"
    assert "Stalled" in await desk.events(order)
    assert await desk.labels(order) == []
    return order, stranger


async def test_a_child_of_somebody_else_stalls_the_order_until_it_is_cancelled(desk: Desk) -> None:
    order, stranger = await stalled_by_a_stranger(desk)
    await desk.cancel(order)
    await desk.until(order, phase_is("Cancelled"))
    await is_undone_once(desk, order)
    assert await desk.labels(order) == []
    still_there = await desk.api.get(Kind.SHIPMENT, desk.name, stranger["metadata"]["name"])
    assert still_there["metadata"]["uid"] == stranger["metadata"]["uid"]
    await desk.api.delete(Kind.SHIPMENT, desk.name, stranger["metadata"]["name"])
    await until_absent(desk, Kind.SHIPMENT, stranger["metadata"]["name"])


async def test_a_child_of_somebody_else_is_deleted_and_the_order_tried_again(desk: Desk) -> None:
    order, stranger = await stalled_by_a_stranger(desk)
    await desk.api.delete(Kind.SHIPMENT, desk.name, stranger["metadata"]["name"])
    await until_absent(desk, Kind.SHIPMENT, stranger["metadata"]["name"])
    annotation = {"metadata": {"annotations": {RETRY_ANNOTATION: datetime.now(UTC).isoformat()}}}
    await desk.api.merge_patch(Kind.ORDER, desk.name, order["metadata"]["name"], annotation)
    ended = await desk.until(order, phase_is("Shipped", "Delivered"))
    assert conditions_of(ended).get("Stalled", ("False", ""))[0] == "False"
    assert len(await desk.labels(order)) == 1


async def until_absent(desk: Desk, kind: Kind, name: str) -> None:
    async with asyncio.timeout(60):
        while True:
            try:
                await desk.api.get(kind, desk.name, name)
            except NotFound:
                return
            await asyncio.sleep(0.1)


async def test_nobody_but_the_operator_may_forge_a_status(desk: Desk) -> None:
    order = await desk.place([(MUG, 1)], method="pm_sandbox_timeoutBeforeCharge")
    payment = await desk.until_child(Kind.PAYMENT, order, lambda _: True)
    with pytest.raises(Forbidden, match="only the operator"):
        await forge_capture(desk.api, payment)


async def forge_capture(api: ApiClient, payment: Json) -> None:
    await api.put_status(
        Kind.PAYMENT, payment["metadata"]["namespace"], payment["metadata"]["name"],
        payment["metadata"]["resourceVersion"],
        {
            "phase": "Captured", "captured": payment["spec"]["amount"], "intentId": "pi_forged",
            "conditions": [{
                "type": "Captured", "status": "True", "reason": "PaymentCaptured", "message": "trust me",
                "observedGeneration": 1, "lastTransitionTime": "2030-01-01T00:00:00Z",
            }],
        },
    )  # fmt: skip


async def test_a_forged_capture_buys_no_label(desk: Desk) -> None:
    """Even with the operator's own rights: the ledger decides, not the resource."""
    order = await desk.place([(MUG, 1)], method="pm_card_authenticationRequired")
    await desk.sandbox("payments", "faults", {"mode": "hang", "seconds": 3, "share": 1.0})
    async with await as_operator(desk) as forger:
        payment = await desk.until_child(Kind.PAYMENT, order, lambda _: True)
        await forge_capture(forger, payment)
    ended = await desk.until(order, phase_is("Failed"))
    assert ended["status"]["reason"] == "AuthenticationRequired"
    assert await desk.labels(order) == []
    told = await desk.history(order)
    assert "payment.success" not in told
    assert "order.shipped" not in told
    assert [s async for s in desk.world.carrier.shipments() if s.reference == order["metadata"]["uid"]] == []
    assert await desk.stock(MUG) == (OPENING, 0)


async def test_no_finalizer_is_taken_off_by_hand(desk: Desk) -> None:
    order = await desk.place([(MUG, 1)])
    with pytest.raises(Forbidden, match="only the operator takes off finalizers"):
        await tear_off(desk.api, Kind.ORDER, desk.name, order["metadata"]["name"])


async def tear_off(api: ApiClient, kind: Kind, namespace: str, name: str) -> None:
    await api.merge_patch(kind, namespace, name, {"metadata": {"finalizers": None}})


@pytest.mark.parametrize("kind", [Kind.RESERVATION, Kind.PAYMENT])
async def test_a_child_torn_out_is_undone_once(desk: Desk, kind: Kind) -> None:
    """Its finalizer goes with the operator's rights, then it is deleted: its controller never sees it go."""
    order = await desk.place([(MUG, 1)], line1=SLOW_ADDRESS)
    await desk.until(order, phase_is("Paid"))
    name = child_name(order["metadata"]["name"], order["metadata"]["uid"])
    await desk.plane.supervisor.kill("operator")
    async with await as_operator(desk) as forger:
        await tear_off(forger, kind, desk.name, name)
        await forger.delete(kind, desk.name, name)
    ended = await desk.until(order, phase_is("Failed"))
    assert ended["status"]["reason"] in (f"{kind.value}Missing", f"{kind.value}Deleted")
    await is_undone_once(desk, order)
    # The carrier may have carried out a buy whose caller was killed; such a label is dead, too.
    assert VoidState.NONE not in {parcel.void for parcel in await desk.labels(order)}
    assert await desk.stock(MUG) == (OPENING, 0)


async def test_an_order_torn_out_is_undone_once(desk: Desk) -> None:
    order = await desk.place([(MUG, 1)], line1=SLOW_ADDRESS)
    await desk.until(order, phase_is("Paid"))
    async with await as_operator(desk) as forger:
        await tear_off(forger, Kind.ORDER, desk.name, order["metadata"]["name"])
        await forger.delete(Kind.ORDER, desk.name, order["metadata"]["name"])
    gate = await desk.until_sealed(order)
    assert gate["outcome"] in ("Failed", "Cancelled")
    await is_undone_once(desk, order)
    await desk.until_gone(order)
    assert await desk.stock(MUG) == (OPENING, 0)


async def test_two_eight_way_loads_over_overlapping_stock(desk: Desk) -> None:
    """Straight on the ledger, recounts in between: no deadlock, no partial hold, never more than there is."""
    stock = PostgresStock(desk.pool)
    await recount(desk.pool, desk.name, TEA, 300, note="few")
    await recount(desk.pool, desk.name, MUG, 300, note="few")
    later = datetime.now(UTC) + timedelta(hours=1)
    outcomes: list[StockState] = []

    async def load(first: str, second: str) -> None:
        for _ in range(25):
            holder = str(uuid4())
            entry = await stock.hold(
                desk.name, holder, order_uid=None, name=f"r-{holder[:8]}",
                items=[Item(sku=first, quantity=2), Item(sku=second, quantity=1), Item(sku=POT, quantity=1)],
                expires_at=later, traceparent=None,
            )  # fmt: skip
            outcomes.append(entry.state)
            if entry.state is StockState.HELD and len(outcomes) % 3 == 0:
                await stock.release(desk.name, holder)

    async def count_again() -> None:
        for number in range(20):
            await recount(desk.pool, desk.name, TEA if number % 2 else MUG, 200 + number, note="again")

    await asyncio.gather(
        *(load(TEA, MUG) for _ in range(8)), *(load(MUG, TEA) for _ in range(8)), count_again()
    )
    assert {StockState.HELD, StockState.REJECTED} <= set(outcomes)
    kept = await desk.rows(
        "SELECT l.sku, sum(l.quantity) AS quantity FROM reservations r JOIN reservation_lines l "
        "USING (merchant, holder) WHERE merchant = $1 AND state = 'Held' GROUP BY l.sku"
    )
    assert {row["sku"] for row in kept} == {TEA, MUG, POT}
    for row in kept:
        on_hand, reserved = await desk.stock(row["sku"])
        assert reserved == row["quantity"] <= on_hand
    # Each has all three of its lines moved, or none.
    torn = await desk.rows(
        "SELECT holder FROM movements WHERE merchant = $1 AND holder IS NOT NULL "
        "GROUP BY holder, kind HAVING count(*) <> 3"
    )
    assert torn == []
    for row in await desk.rows("SELECT holder FROM reservations WHERE merchant = $1 AND state = 'Held'"):
        await stock.release(desk.name, str(row["holder"]))


async def moved(desk: Desk) -> tuple[int, int, int]:
    """How many refunds, movements and history rows there are."""
    (row,) = await desk.rows(
        "SELECT (SELECT count(*) FROM refunds WHERE merchant = $1) AS refunds, "
        "(SELECT count(*) FROM movements WHERE merchant = $1) AS movements, "
        "(SELECT count(*) FROM history WHERE merchant = $1) AS history"
    )
    return row["refunds"], row["movements"], row["history"]


async def delete_namespace(desk: Desk) -> None:
    await desk.officially(lambda api: client.CoreV1Api(api).delete_namespace(desk.name))


async def until_namespace_gone(desk: Desk) -> None:
    def is_gone(api: client.ApiClient) -> bool:
        try:
            client.CoreV1Api(api).read_namespace(desk.name)
        except ApiException as problem:
            return bool(problem.status == 404)
        return False

    async with asyncio.timeout(120):
        while not await desk.officially(is_gone):  # noqa: ASYNC110 - nothing tells of it
            await asyncio.sleep(0.5)


@pytest.mark.timeout(300)
async def test_finished_orders_and_their_namespace_are_cleaned_up_without_a_trace(desk: Desk) -> None:
    orders = [await desk.place([(TEA, 1)]) for _ in range(100)]
    await desk.until_row(
        "SELECT 1 FROM orders WHERE merchant = $1 AND outcome = 'Delivered' HAVING count(*) = 100",
        seconds=120,
    )
    before, shelf = await moved(desk), await desk.stock(TEA)
    assert shelf == (OPENING - 100, 0)
    for order in orders[:50]:
        await desk.delete(order)
    for order in orders[:50]:
        await desk.until_gone(order)
    await delete_namespace(desk)
    await until_namespace_gone(desk)
    assert (await moved(desk), await desk.stock(TEA)) == (before, shelf)


async def test_a_running_order_deleted_in_the_foreground_is_undone_once(desk: Desk) -> None:
    order = await desk.place([(MUG, 1)])
    await desk.until(order, phase_is("Shipped"))
    await desk.officially(
        lambda api: client.CustomObjectsApi(api).delete_namespaced_custom_object(
            GROUP, VERSION, desk.name, "orders", order["metadata"]["name"], propagation_policy="Foreground"
        )
    )
    await desk.until_gone(order)
    gate = await desk.until_sealed(order)
    assert gate["outcome"] == "Cancelled"
    await is_undone_once(desk, order)
    assert "shipment.cancelled" in await desk.history(order)
    assert await desk.stock(MUG) == (OPENING, 0)


@pytest.mark.timeout(200)
async def test_a_namespace_with_running_orders_is_undone_once(desk: Desk) -> None:
    paid = [await desk.place([(MUG, 1)], line1=SLOW_ADDRESS) for _ in range(3)]
    for order in paid:
        await desk.until(order, phase_is("Paid"))
    fresh = [await desk.place([(MUG, 1)]) for _ in range(3)]
    await delete_namespace(desk)
    await until_namespace_gone(desk)
    for order in (*paid, *fresh):
        gate = await desk.until_sealed(order)
        if gate["outcome"] in ("Failed", "Cancelled"):
            await is_undone_once(desk, order)
        else:
            assert order in fresh
    for order in paid:
        assert await balance(desk, order) == 0


async def test_an_order_made_again_under_the_same_name_shares_nothing(desk: Desk) -> None:
    first = await desk.place([(MUG, 2)], name="again")
    await desk.until(first, phase_is("Shipped"))
    await desk.delete(first)
    await desk.until_gone(first)
    second = await desk.place([(POT, 1)], name="again")
    assert second["metadata"]["uid"] != first["metadata"]["uid"]
    ended = await desk.until(second, phase_is("Delivered"))
    assert "compensation" not in ended["status"] or ended["status"]["compensation"] == []
    await is_undone_once(desk, first)
    assert await balance(desk, second) == second["spec"]["quote"]["amounts"]["total"]
    assert (await desk.history(second))[0] == "order.created"
    # Events are told apart by uid, so that a description of the second shows nothing of the first.
    assert not {"Compensating", "RefundPaymentDone"} & await desk.events(second)
    assert await desk.stock(MUG) == (OPENING, 0)
    assert await desk.stock(POT) == (OPENING - 1, 0)


@pytest.fixture
async def front_door(running: Plane) -> Any:
    """The demo merchant's: the front door serves one."""
    async with open_world(running.env("admin")) as world:
        await seed(world.pool, MERCHANT)
    timeout = aiohttp.ClientTimeout(total=30)
    async with aiohttp.ClientSession(running.url("gateway"), timeout=timeout) as http:
        yield http


BODY = {
    "customer": "c-1001",
    "items": [{"sku": TEA, "quantity": 1}],
    "address": {
        "name": "Ada Example", "line1": "1 Canal Street", "city": "Rotterdam", "postalCode": "3011",
        "country": "NL",
    },
    "paymentMethod": "pm_card_visa",
}  # fmt: skip


async def post_order(http: aiohttp.ClientSession) -> str:
    headers = {"Idempotency-Key": secrets.token_hex(16)}
    async with http.post("/api/orders", json=BODY, headers=headers) as answer:
        assert answer.status == 202, await answer.text()
        location: str = answer.headers["Location"]
        return location


async def test_a_read_right_after_the_202_finds_it(front_door: aiohttp.ClientSession) -> None:
    async def place_and_read() -> int:
        location = await post_order(front_door)
        async with front_door.get(location) as answer:
            return answer.status

    for _ in range(5):
        assert set(await asyncio.gather(*(place_and_read() for _ in range(8)))) == {200}


async def test_too_late_to_cancel(desk: Desk, front_door: aiohttp.ClientSession) -> None:
    location, order = await post_order(front_door), await desk.place([(MUG, 1)])
    async with asyncio.timeout(60):
        while True:
            async with front_door.get(location) as answer:
                if (await answer.json())["phase"] == "Delivered":
                    break
            await asyncio.sleep(0.1)
    async with front_door.post(f"{location}/cancel") as answer:
        assert (answer.status, (await answer.json())["code"]) == (409, "too_late_to_cancel")
    # The same wish by kubectl cannot be answered with a number: the resource says it.
    await desk.until(order, phase_is("Delivered"))
    before = await moved(desk)
    await desk.cancel(order)
    told = await desk.until(
        order, lambda o: conditions_of(o).get("Cancelled") == ("False", "AlreadyInTransit")
    )
    assert told["status"]["phase"] == "Delivered"
    assert "TooLateToCancel" in await desk.events(order)
    assert await moved(desk) == before
    assert await balance(desk, order) == order["spec"]["quote"]["amounts"]["total"]
