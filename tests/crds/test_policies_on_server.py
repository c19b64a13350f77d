"""RBAC and admission policies on the real API server: every identity with every action."""

import asyncio
import secrets
from collections.abc import Callable
from typing import Any

import pytest

from orderplane.adapters.kubernetes.client import ApiClient
from orderplane.adapters.kubernetes.install import install
from orderplane.adapters.kubernetes.new_orders import allow_new_orders, stop_new_orders
from orderplane.crds.api_errors import ApiError, Forbidden, Invalid
from orderplane.crds.meta import CANCELLED_BY_ANNOTATION, RETRIED_BY_ANNOTATION, RETRY_ANNOTATION, Kind
from orderplane.dev.localplane.plane import Plane

pytestmark = pytest.mark.integration

As = Callable[[str], ApiClient]
Make = Callable[..., Any]

EVERYBODY_ELSE = ("admin", "gateway", "webhook", "audit", "merchant")
CHILDREN = (Kind.RESERVATION, Kind.PAYMENT, Kind.SHIPMENT)


@pytest.mark.parametrize("kind", [Kind.PAYMENT, Kind.SHIPMENT])
@pytest.mark.parametrize("identity", EVERYBODY_ELSE)
async def test_only_the_operator_creates_payments_and_shipments(
    as_: As, namespace: str, a_body: Make, kind: Kind, identity: str
) -> None:
    with pytest.raises(Forbidden):
        await as_(identity).create(kind, namespace, a_body(kind))
    await as_("operator").create(kind, namespace, a_body(kind))


@pytest.mark.parametrize("kind", Kind)
@pytest.mark.parametrize("identity", EVERYBODY_ELSE)
async def test_only_the_operator_writes_a_status(
    as_: As, namespace: str, make: Make, kind: Kind, identity: str
) -> None:
    name = await make(kind)
    read = await as_("operator").get(kind, namespace, name)
    version = read["metadata"]["resourceVersion"]
    with pytest.raises(Forbidden):
        await as_(identity).put_status(
            kind, namespace, name, version, {"phase": "Pending", "reason": "Tried"}
        )
    await as_("operator").put_status(kind, namespace, name, version, {"phase": "Pending", "reason": "Tried"})


@pytest.mark.parametrize("kind", Kind)
@pytest.mark.parametrize("identity", EVERYBODY_ELSE)
async def test_only_the_operator_takes_finalizers_off(
    as_: As, namespace: str, make: Make, kind: Kind, identity: str
) -> None:
    name = await make(kind)
    await as_("admin").delete(kind, namespace, name)
    let_go = {"metadata": {"finalizers": None}}
    with pytest.raises(Forbidden):
        await as_(identity).merge_patch(kind, namespace, name, let_go)
    read = await as_("operator").get(kind, namespace, name)
    assert read["metadata"]["deletionTimestamp"]
    await as_("operator").merge_patch(kind, namespace, name, let_go)
    with pytest.raises(ApiError) as gone:
        await as_("operator").get(kind, namespace, name)
    assert gone.value.status == 404


async def test_a_finalizer_of_somebody_else_comes_and_goes(as_: As, namespace: str, make: Make) -> None:
    name = await make(Kind.ORDER)
    both = ["orderplane.dev/compensate", "example.org/backup"]
    for finalizers in (both, both[:1]):
        patch = {"metadata": {"finalizers": finalizers}}
        changed = await as_("merchant").merge_patch(Kind.ORDER, namespace, name, patch)
        assert changed["metadata"]["finalizers"] == finalizers


@pytest.mark.parametrize("kind", Kind)
async def test_nothing_is_created_without_its_finalizer(
    as_: As, namespace: str, a_body: Make, kind: Kind
) -> None:
    body = a_body(kind)
    finalizers = body["metadata"].pop("finalizers")
    body["metadata"] = {**body["metadata"], "finalizers": ["orderplane.dev/other"]}
    author = as_("gateway" if kind is Kind.ORDER else "operator")
    with pytest.raises(Invalid, match=f"must be created with the finalizer {finalizers[0]}"):
        await author.create(kind, namespace, body)


@pytest.mark.parametrize("kind", Kind)
@pytest.mark.parametrize("finalizer", ["orderplane.dev/zombie", "orderplane.dev/foregroundDeletion"])
async def test_nobody_invents_a_finalizer_in_our_name(
    as_: As, namespace: str, a_body: Make, make: Make, kind: Kind, finalizer: str
) -> None:
    """Nobody would take it off, so the object would stay for ever."""
    body = a_body(kind)
    ours = body["metadata"]["finalizers"]
    body["metadata"] = {**body["metadata"], "finalizers": [*ours, finalizer]}
    author = as_("gateway" if kind is Kind.ORDER else "operator")
    with pytest.raises(Invalid, match=f"the only finalizer of orderplane.dev on {kind.plural} is {ours[0]}"):
        await author.create(kind, namespace, body)
    patch = {"metadata": {"finalizers": [*ours, finalizer]}}
    with pytest.raises(Invalid, match="the only finalizer"):
        await as_("admin").merge_patch(kind, namespace, await make(kind), patch)


async def test_a_child_has_no_finalizer_of_another_kind(as_: As, namespace: str, a_body: Make) -> None:
    body = a_body(Kind.ORDER)
    body["metadata"]["finalizers"].append("orderplane.dev/release-stock")
    with pytest.raises(Invalid, match="the only finalizer"):
        await as_("gateway").create(Kind.ORDER, namespace, body)


async def test_who_made_a_reservation_takes_its_own_finalizer_off(
    as_: As, namespace: str, a_body: Make
) -> None:
    body = a_body(Kind.RESERVATION)
    del body["spec"]["orderRef"]
    ours = body["metadata"]["finalizers"]
    body["metadata"] = {**body["metadata"], "finalizers": [*ours, "example.org/mine"]}
    # As the webhook would pass it on.
    made = await as_("gateway").create(Kind.RESERVATION, namespace, body)
    name, merchant = made["metadata"]["name"], as_("merchant")
    await merchant.delete(Kind.RESERVATION, namespace, name)
    patch = {"metadata": {"finalizers": ["example.org/mine"]}}
    with pytest.raises(Forbidden, match="only the operator takes off the finalizer"):
        await merchant.merge_patch(Kind.RESERVATION, namespace, name, patch)
    await merchant.merge_patch(Kind.RESERVATION, namespace, name, {"metadata": {"finalizers": ours}})
    with pytest.raises(Invalid, match="a reservation cannot be changed"):
        patch = {"spec": {"items": [{"sku": "TEA", "quantity": 1}]}}
        await merchant.merge_patch(Kind.RESERVATION, namespace, name, patch)


@pytest.mark.parametrize("kind", Kind)
async def test_nobody_invents_a_label_in_our_name(
    as_: As, namespace: str, a_body: Make, make: Make, kind: Kind
) -> None:
    patch = {"metadata": {"labels": {"orderplane.dev/mine": "yes"}}}
    with pytest.raises(Invalid, match="name your own after a domain of yours"):
        await as_("admin").merge_patch(kind, namespace, await make(kind), patch)
    if kind is Kind.ORDER:
        body = a_body(kind)
        body["metadata"]["labels"]["orderplane.dev/order"] = "another-order"
        with pytest.raises(Invalid, match="name your own after a domain of yours"):
            await as_("gateway").create(kind, namespace, body)


CANCELLED_BY, RETRIED_BY = CANCELLED_BY_ANNOTATION, RETRIED_BY_ANNOTATION


def noting(*, cancel: bool = False, **annotations: str | None) -> dict[str, Any]:
    """A change of an Order: `retry`, `retried_by` and `cancelled_by` are its annotations."""
    names = {"retry": RETRY_ANNOTATION, "retried_by": RETRIED_BY, "cancelled_by": CANCELLED_BY}
    patch = {"metadata": {"annotations": {names[name]: value for name, value in annotations.items()}}}
    return {**patch, "spec": {"cancel": True}} if cancel else patch


@pytest.mark.parametrize(
    "patch",
    [
        noting(cancel=True, cancelled_by="kubernetes:admin"),
        noting(cancel=True, cancelled_by="user:u-1"),
        noting(cancelled_by="kubernetes:merchant-demo"),
        noting(retry="1", retried_by="kubernetes:admin"),
        noting(retry="1", retried_by="service:c-1"),
        noting(retried_by="kubernetes:merchant-demo"),
    ],
)
async def test_nobody_notes_another_one_as_who_asked(
    as_: As, namespace: str, make: Make, patch: dict[str, Any]
) -> None:
    name, merchant = await make(Kind.ORDER), as_("merchant")
    with pytest.raises(Invalid, match="says who set"):
        await merchant.merge_patch(Kind.ORDER, namespace, name, patch)


async def test_who_asked_is_noted_and_stays(as_: As, namespace: str, make: Make) -> None:
    name, merchant, admin = await make(Kind.ORDER), as_("merchant"), as_("admin")
    mine = {"cancelled_by": "kubernetes:merchant-demo", "retried_by": "kubernetes:merchant-demo"}
    await merchant.merge_patch(Kind.ORDER, namespace, name, noting(cancel=True, retry="1", **mine))
    for patch in (
        noting(cancelled_by="kubernetes:admin"),
        noting(cancelled_by=None),
        noting(retried_by=None),
        noting(retry="2"),  # it would be told as the retry of who asked before
        noting(retry=None),
    ):
        with pytest.raises(Invalid, match="says who set"):
            await admin.merge_patch(Kind.ORDER, namespace, name, patch)
    for patch in (
        noting(retry="2", retried_by="kubernetes:admin"),
        noting(retry="3", retried_by=None),
        {"metadata": {"annotations": {"example.org/mine": "yes"}}},
    ):
        await admin.merge_patch(Kind.ORDER, namespace, name, patch)
    finalizers = {"metadata": {"finalizers": ["orderplane.dev/compensate", "example.org/backup"]}}
    await as_("operator").merge_patch(Kind.ORDER, namespace, name, finalizers)


async def test_the_gateway_notes_whom_it_has_authenticated(
    as_: As, namespace: str, a_body: Make, make: Make
) -> None:
    gateway, name = as_("gateway"), await make(Kind.ORDER)
    with pytest.raises(Invalid, match="says who set"):
        patch = noting(cancel=True, cancelled_by="kubernetes:admin")
        await gateway.merge_patch(Kind.ORDER, namespace, name, patch)
    await gateway.merge_patch(Kind.ORDER, namespace, name, noting(cancel=True, cancelled_by="user:u-1"))
    body = a_body(Kind.ORDER)
    body["metadata"]["annotations"] = {CANCELLED_BY: "user:u-1"}
    with pytest.raises(Invalid, match="leave it as it is, or out of a new order"):
        await gateway.create(Kind.ORDER, namespace, body)


async def test_while_it_is_drained_nothing_new_is_taken_and_running_orders_go_on(
    as_: As, namespace: str, a_body: Make
) -> None:
    """The API server knows of a binding, and of its end, a moment later."""
    alone = a_body(Kind.RESERVATION)
    del alone["spec"]["orderRef"]
    gateway = as_("gateway")

    async def is_refused(kind: Kind, body: Any) -> bool:
        body["metadata"]["name"] = f"drained-{secrets.token_hex(4)}"
        try:
            await gateway.create(kind, namespace, body)
        except Forbidden as problem:
            assert "orderplane drain --undo" in problem.message
            return True
        return False

    async def until_orders_are(*, refused: bool) -> None:
        async with asyncio.timeout(30):
            while await is_refused(Kind.ORDER, a_body(Kind.ORDER)) is not refused:  # noqa: ASYNC110
                await asyncio.sleep(0.1)

    await stop_new_orders(as_("admin"))
    try:
        await until_orders_are(refused=True)
        assert await is_refused(Kind.RESERVATION, alone)
        for kind in CHILDREN:
            await as_("operator").create(kind, namespace, a_body(kind))
        # Twice is as good as once.
        await stop_new_orders(as_("admin"))
    finally:
        await allow_new_orders(as_("admin"))
    await until_orders_are(refused=False)
    await allow_new_orders(as_("admin"))


async def test_a_merchants_staff_sees_its_own_namespace_only(
    as_: As, plane: Plane, namespace: str, a_body: Make
) -> None:
    other = f"{namespace}-other"
    await install([], kubeconfig=plane.kubeconfig("admin"), namespaces=[other])
    merchant, body = as_("merchant"), a_body(Kind.ORDER)
    body["metadata"]["namespace"] = other
    made = await as_("gateway").create(Kind.ORDER, other, body)
    name = made["metadata"]["name"]
    for kind in Kind:
        assert (await merchant.list_page(kind, namespace)).items == []
        for scope in (other, None):
            with pytest.raises(Forbidden):
                await merchant.list_page(kind, scope)
    with pytest.raises(Forbidden):
        await merchant.get(Kind.ORDER, other, name)
    with pytest.raises(Forbidden):
        await merchant.merge_patch(Kind.ORDER, other, name, {"spec": {"cancel": True}})
    with pytest.raises(Forbidden):
        await merchant.delete(Kind.ORDER, other, name)


@pytest.mark.parametrize("kind", Kind)
@pytest.mark.parametrize("shard", [None, "64", "-1", "07", "", "x"])
async def test_nothing_is_created_without_a_valid_shard(
    as_: As, namespace: str, a_body: Make, kind: Kind, shard: str | None
) -> None:
    body = a_body(kind)
    labels = {} if shard is None else {"orderplane.dev/shard": shard}
    body["metadata"] = {**body["metadata"], "labels": labels}
    author = as_("gateway" if kind is Kind.ORDER else "operator")
    with pytest.raises(Invalid):
        await author.create(kind, namespace, body)


@pytest.mark.parametrize("identity", ["admin", "operator", "merchant", "gateway"])
@pytest.mark.parametrize("label", ["orderplane.dev/shard", "orderplane.dev/customer"])
@pytest.mark.parametrize("value", ["8", None])
async def test_our_labels_never_change(
    as_: As, namespace: str, make: Make, identity: str, label: str, value: str | None
) -> None:
    name = await make(Kind.ORDER)
    with pytest.raises(Invalid, match="cannot be changed"):
        await as_(identity).merge_patch(Kind.ORDER, namespace, name, {"metadata": {"labels": {label: value}}})
    await as_(identity).merge_patch(Kind.ORDER, namespace, name, {"metadata": {"labels": {"mine": "yes"}}})


@pytest.mark.parametrize(
    ("annotation", "value"),
    [
        ("orderplane.dev/traceparent", "no"),
        ("orderplane.dev/retry", "x" * 65),
        ("orderplane.dev/retry", "now\u200b"),
        ("orderplane.dev/retry", "\u0007"),
        ("orderplane.dev/retry", ""),
    ],
)
async def test_our_annotations_are_bounded(
    as_: As, namespace: str, make: Make, annotation: str, value: str
) -> None:
    name = await make(Kind.ORDER)
    with pytest.raises(Invalid, match=annotation):
        await as_("merchant").merge_patch(
            Kind.ORDER, namespace, name, {"metadata": {"annotations": {annotation: value}}}
        )


async def test_what_many_apply_leaves_room_to_delete_the_object(as_: As, namespace: str, make: Make) -> None:
    """Each name of a field manager has an entry as large as what was applied under it."""
    name, merchant = await make(Kind.ORDER), as_("merchant")
    long = f"{'x' * 63}.example.org/"
    annotations = {f"{long}{number:063d}": "" for number in range(64)}
    await merchant.merge_patch(Kind.ORDER, namespace, name, {"metadata": {"annotations": annotations}})
    metadata = (await merchant.get(Kind.ORDER, namespace, name))["metadata"]
    (mine,) = (
        each for each in metadata["managedFields"] if "f:annotations" in each["fieldsV1"]["f:metadata"]
    )
    more = [{**mine, "manager": f"mine-{number}", "operation": "Apply"} for number in range(20)]
    for managers, is_taken in ((more[:5], True), (more, False)):
        patch = {"metadata": {"managedFields": [*metadata["managedFields"], *managers]}}
        if is_taken:
            await merchant.merge_patch(Kind.ORDER, namespace, name, patch)
        else:
            with pytest.raises(Invalid, match="apply fewer annotations"):
                await merchant.merge_patch(Kind.ORDER, namespace, name, patch)
    with pytest.raises(Invalid, match="at most 65536 characters together"):
        patch = {"metadata": {"annotations": {f"{long}{0:063d}": "y" * 65_536}}}
        await merchant.merge_patch(Kind.ORDER, namespace, name, patch)
    with pytest.raises(Invalid, match="generateName has at most 253 characters"):
        patch = {"metadata": {"generateName": "x" * 254}}
        await merchant.merge_patch(Kind.ORDER, namespace, name, patch)
    await merchant.delete(Kind.ORDER, namespace, name)


async def test_merchants_order_and_cancel_but_do_not_touch_the_rest(
    as_: As, namespace: str, make: Make
) -> None:
    merchant = as_("merchant")
    order = await make(Kind.ORDER)
    await merchant.merge_patch(Kind.ORDER, namespace, order, {"spec": {"cancel": True}})
    await merchant.delete(Kind.ORDER, namespace, order)
    for kind in CHILDREN:
        name = await make(kind)
        assert (await merchant.get(kind, namespace, name))["metadata"]["name"] == name
        if kind is not Kind.RESERVATION:
            patch = {"metadata": {"labels": {"mine": "yes"}}}
            with pytest.raises(Forbidden):
                await merchant.merge_patch(kind, namespace, name, patch)
    for kind in (Kind.PAYMENT, Kind.SHIPMENT):
        with pytest.raises(Forbidden):
            await merchant.delete(kind, namespace, await make(kind))


async def test_the_auditor_only_reads(as_: As, namespace: str, make: Make) -> None:
    audit = as_("audit")
    for kind in Kind:
        name = await make(kind)
        assert (await audit.list_page(kind)).items
        with pytest.raises(Forbidden):
            await audit.delete(kind, namespace, name)
        with pytest.raises(Forbidden):
            await audit.merge_patch(kind, namespace, name, {"metadata": {"labels": {"mine": "yes"}}})


async def test_the_webhook_sees_no_order(as_: As, namespace: str) -> None:
    with pytest.raises(Forbidden):
        await as_("webhook").list_page(Kind.ORDER, namespace)


async def test_the_gateway_does_not_delete(as_: As, namespace: str, make: Make) -> None:
    with pytest.raises(Forbidden):
        await as_("gateway").delete(Kind.ORDER, namespace, await make(Kind.ORDER))
