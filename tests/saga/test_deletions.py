"""Deletions: a running order is compensated once, a finished one is cleaned up without a trace."""

import asyncio

import pytest
from kubernetes import client
from kubernetes.client.exceptions import ApiException

from orderplane.crds.meta import GROUP, VERSION, Kind

from .conftest import MUG, OPENING, POT, TEA, Desk, compensation_steps, phase_is
from .proofs import SLOW_ADDRESS, balance, is_compensated_once, moved

pytestmark = pytest.mark.integration


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


async def test_an_order_that_others_hold_goes_when_they_let_it_go(desk: Desk) -> None:
    order = await desk.place([(TEA, 1)])
    await desk.until(order, phase_is("Delivered"))
    name, theirs = order["metadata"]["name"], "example.org/archive"
    ours = order["metadata"]["finalizers"]
    await desk.api.merge_patch(Kind.ORDER, desk.name, name, {"metadata": {"finalizers": [*ours, theirs]}})
    await desk.delete(order)
    await desk.until(order, lambda found: found["metadata"]["finalizers"] == [theirs])
    await desk.api.merge_patch(Kind.ORDER, desk.name, name, {"metadata": {"finalizers": None}})
    await desk.until_gone(order)


async def test_a_running_order_deleted_in_the_foreground_is_compensated_once(desk: Desk) -> None:
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
    await is_compensated_once(desk, order)
    assert "shipment.cancelled" in await desk.history(order)
    assert await desk.stock(MUG) == (OPENING, 0)


@pytest.mark.timeout(200)
async def test_a_namespace_with_running_orders_is_compensated_once(desk: Desk) -> None:
    paid = [await desk.place([(MUG, 1)], line1=SLOW_ADDRESS) for _ in range(3)]
    for order in paid:
        await desk.until(order, phase_is("Paid"))
    fresh = [await desk.place([(MUG, 1)]) for _ in range(3)]
    await delete_namespace(desk)
    await until_namespace_gone(desk)
    for order in (*paid, *fresh):
        gate = await desk.until_sealed(order)
        if gate["outcome"] in ("Failed", "Cancelled"):
            await is_compensated_once(desk, order)
        else:
            assert order in fresh
    for order in paid:
        assert await balance(desk, order) == 0


@pytest.mark.usefixtures("parcels_at_home")
async def test_an_order_in_a_namespace_that_is_being_deleted_tells_how_far_it_is(desk: Desk) -> None:
    """Its status was written no more, because no Event can be created there."""
    order = await desk.place([(MUG, 1)])
    await desk.until(order, phase_is("Shipped"))
    name, theirs = order["metadata"]["name"], "example.org/archive"
    finalizers = [*order["metadata"]["finalizers"], theirs]
    await desk.api.merge_patch(Kind.ORDER, desk.name, name, {"metadata": {"finalizers": finalizers}})
    await delete_namespace(desk)
    # Whichever was deleted first is the reason: the order, or a child of it.
    is_ended = phase_is("Cancelled", "Failed")
    ended = await desk.until(
        order, lambda found: is_ended(found) and found["metadata"]["finalizers"] == [theirs]
    )
    assert compensation_steps(ended) == ["CancelShipment", "RefundPayment", "ReleaseStock"]
    await desk.api.merge_patch(Kind.ORDER, desk.name, name, {"metadata": {"finalizers": None}})
    await until_namespace_gone(desk)


async def test_an_order_made_again_under_the_same_name_shares_nothing(desk: Desk) -> None:
    first = await desk.place([(MUG, 2)], name="again")
    await desk.until(first, phase_is("Shipped"))
    await desk.delete(first)
    await desk.until_gone(first)
    second = await desk.place([(POT, 1)], name="again")
    assert second["metadata"]["uid"] != first["metadata"]["uid"]
    ended = await desk.until(second, phase_is("Delivered"))
    assert "compensation" not in ended["status"] or ended["status"]["compensation"] == []
    await is_compensated_once(desk, first)
    assert await balance(desk, second) == second["spec"]["quote"]["amounts"]["total"]
    assert (await desk.history(second))[0] == "order.created"
    # Kubernetes Events are matched by uid, so that a description of the second shows nothing of the first.
    assert not {"Compensating", "RefundPaymentDone"} & set(await desk.events(second))
    assert await desk.stock(MUG) == (OPENING, 0)
    assert await desk.stock(POT) == (OPENING - 1, 0)
