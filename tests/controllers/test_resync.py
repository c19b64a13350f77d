"""What the resync has looked at although nothing of it has changed, and when."""

from typing import Any, cast

import pytest

from orderplane.controllers.engine.cluster import Cluster
from orderplane.controllers.engine.queue import Key
from orderplane.crds.meta import RETRY_ANNOTATION, Kind, Resource
from orderplane.crds.order import Order
from orderplane.operator.resync import Resync
from orderplane.operator.wiring import Operator

from .builders import a_child, an_order

CHILDREN = {Kind.RESERVATION, Kind.PAYMENT, Kind.SHIPMENT}


class Page:
    """The only one."""

    resource_version, continue_token = 99, None

    def __init__(self, items: list[dict[str, Any]]) -> None:
        self.items = items


class Api:
    """Lists these resources."""

    def __init__(self, resources: dict[Kind, Resource]) -> None:
        self._resources = resources

    async def list_page(self, kind: Kind, **_: Any) -> Page:
        return Page([self._resources[kind].model_dump(mode="json", by_alias=True)])


class Ledgers:
    """Hold nothing that has no resource."""

    async def overdue(self, _: int) -> tuple[Key, ...]:
        return ()

    async def strays(self, _: int) -> tuple[Key, ...]:
        return ()

    async def unsettled(self, _: int) -> tuple[Key, ...]:
        return ()

    async def unsealed_page(self, *_: Any) -> tuple[Any, ...]:
        return ()


class Enqueued:
    """The controller of one kind."""

    def __init__(self) -> None:
        self.urgent: list[bool] = []

    def enqueue(self, _: Key, *, is_urgent: bool, hint: Any) -> None:
        self.urgent.append(is_urgent)


@pytest.mark.parametrize(
    ("phase", "deleting", "looked_at"),
    [
        ("Pending", (), set(Kind)),
        ("Paid", (), set(Kind)),
        ("Compensating", (), set(Kind)),
        ("Shipped", (), {Kind.ORDER}),
        ("Delivered", (), {Kind.ORDER}),
        ("Returned", (), {Kind.ORDER}),
        # An order that was undone has no children: those that are there were forgotten.
        ("Failed", (), set(Kind)),
        ("Cancelled", (), set(Kind)),
        ("Delivered", (Kind.PAYMENT,), {Kind.ORDER, Kind.PAYMENT}),
        ("Failed", tuple(CHILDREN), set(Kind)),
    ],
)
async def test_children_are_looked_at_again_until_their_order_is_at_rest(
    phase: str, deleting: tuple[Kind, ...], looked_at: set[Kind]
) -> None:
    resync, controllers = resync_of(an_order(status={"phase": phase}), deleting)
    await resync.resync()
    resync.enqueue_unchanged(10)
    for controller in controllers.values():
        controller.urgent.clear()
    await resync.resync()
    resync.enqueue_unchanged(10)
    assert {kind for kind in Kind if controllers[kind].urgent} == looked_at


@pytest.mark.parametrize(
    ("phase", "asked", "at_once", "later"),
    [
        ("Pending", {}, set(Kind), set()),
        ("Paid", {}, set(Kind), set()),
        ("Compensating", {}, set(Kind), set()),
        ("Shipped", {}, set(), {Kind.ORDER}),
        ("Delivered", {}, set(), {Kind.ORDER}),
        ("Returned", {}, set(), {Kind.ORDER}),
        ("Failed", {}, set(Kind), {Kind.ORDER}),
        ("Cancelled", {}, set(Kind), {Kind.ORDER}),
        # Something was asked while no operator was there.
        ("Shipped", {"deleting": True}, {Kind.ORDER}, set()),
        ("Shipped", {"observed_generation": 0}, {Kind.ORDER}, set()),
        ("Shipped", {"annotations": {RETRY_ANNOTATION: "now"}}, set(Kind), set()),
        ("Delivered", {"children_deleting": tuple(CHILDREN)}, set(Kind), {Kind.ORDER}),
    ],
)
async def test_a_start_looks_at_once_at_what_is_under_way(
    phase: str, asked: dict[str, Any], at_once: set[Kind], later: set[Kind]
) -> None:
    order = an_order(
        deleting=asked.get("deleting", False),
        annotations=asked.get("annotations"),
        status={"phase": phase, "observedGeneration": asked.get("observed_generation", 1)},
    )
    resync, controllers = resync_of(order, asked.get("children_deleting", ()))
    await resync.resync()
    assert {kind for kind in Kind if True in controllers[kind].urgent} == at_once
    for controller in controllers.values():
        controller.urgent.clear()
    resync.enqueue_unchanged(10)
    assert {kind for kind in Kind if controllers[kind].urgent == [False]} == later


def resync_of(order: Order, deleting: tuple[Kind, ...]) -> tuple[Resync, dict[Kind, Enqueued]]:
    """Over one order and its children, some of them being deleted; and the controllers of each kind."""
    resources: dict[Kind, Resource] = {
        Kind.ORDER: order,
        **{kind: a_child(kind, order=order, deleting=kind in deleting) for kind in CHILDREN},
    }
    api: Any = Api(resources)
    controllers = {kind: Enqueued() for kind in Kind}
    ledgers: Any = Ledgers()
    cluster = Cluster(api, lambda: 0.0, lambda *_: None)
    resync = Resync(Operator(cluster, *[ledgers] * 4, cast("Any", controllers), {}), api)
    return resync, controllers
