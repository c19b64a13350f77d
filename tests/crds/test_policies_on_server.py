"""RBAC and admission policies on the real API server: every identity with every action."""

from collections.abc import Callable
from typing import Any

import pytest

from orderplane.adapters.kubernetes.client import ApiClient
from orderplane.crds.api_errors import ApiError, Forbidden, Invalid
from orderplane.crds.meta import Kind

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
    [("orderplane.dev/traceparent", "no"), ("orderplane.dev/retry", "x" * 65)],
)
async def test_our_annotations_are_bounded(
    as_: As, namespace: str, make: Make, annotation: str, value: str
) -> None:
    name = await make(Kind.ORDER)
    with pytest.raises(Invalid, match=annotation):
        await as_("merchant").merge_patch(
            Kind.ORDER, namespace, name, {"metadata": {"annotations": {annotation: value}}}
        )


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
