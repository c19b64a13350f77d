"""Clients of the API server for each identity of the plane."""

import asyncio
import copy
import secrets
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from orderplane.adapters.kubernetes.client import ApiClient
from orderplane.crds.defaults import order_manifest
from orderplane.crds.meta import API_VERSION, Kind
from orderplane.crds.order import Quote
from orderplane.dev.localplane.plane import Plane

As = Callable[[str], ApiClient]
IDENTITIES = ("admin", "operator", "gateway", "webhook", "audit", "merchant")
METADATA: dict[Kind, dict[str, Any]] = {
    kind: {"labels": {"orderplane.dev/shard": "7"}, "finalizers": [f"orderplane.dev/{finalizer}"]}
    for kind, finalizer in (
        (Kind.RESERVATION, "release-stock"),
        (Kind.PAYMENT, "refund-payment"),
        (Kind.SHIPMENT, "cancel-shipment"),
    )
}
REFERENCE = {"name": "some-order", "uid": "00000000-0000-0000-0000-000000000000"}
ADDRESS = {
    "name": "Ada Example", "line1": "Musterweg 1", "city": "Berlin", "postalCode": "10115", "country": "DE",
}  # fmt: skip
SPECS: dict[Kind, dict[str, Any]] = {
    Kind.RESERVATION: {
        "orderRef": REFERENCE,
        "items": [{"sku": "TEA", "quantity": 2}, {"sku": "MUG", "quantity": 1}],
        "expiresAt": "2030-01-01T00:00:00Z",
    },
    Kind.PAYMENT: {"orderRef": REFERENCE, "amount": 100, "currency": "EUR", "method": "pm_card_visa"},
    Kind.SHIPMENT: {
        "orderRef": REFERENCE,
        "address": ADDRESS,
        "parcels": [
            {"weightGrams": 500, "lengthMillimetres": 400, "widthMillimetres": 300, "heightMillimetres": 200}
        ],
    },
}


@pytest.fixture(scope="session")
async def as_(plane: Plane) -> AsyncIterator[As]:
    """`as_("merchant")` is a client with that token."""
    clients = {
        name: await ApiClient.connect(
            user_agent="tests", kubeconfig=str(plane.kubeconfig(name)), timeout_seconds=15
        )
        for name in IDENTITIES
    }
    yield clients.__getitem__
    await asyncio.gather(*(each.close() for each in clients.values()))


def order_body(namespace: str, **changes: Any) -> dict[str, Any]:
    quote = Quote.model_validate({
        "currency": "EUR",
        "lines": [
            {"sku": "TEA", "quantity": 2, "unitAmount": 650, "weightGrams": 120},
            {"sku": "MUG", "quantity": 1, "unitAmount": 1490, "weightGrams": 400},
        ],
        "amounts": {"items": 2790, "shipping": 490, "tax": 623, "discount": 0, "total": 3903},
    })  # fmt: skip
    spec = {
        "customer": "c-1001",
        "items": [{"sku": "TEA", "quantity": 2}, {"sku": "MUG", "quantity": 1}],
        "address": ADDRESS,
        "paymentMethod": "pm_card_visa",
    }
    body = order_manifest(namespace, f"order-{secrets.token_hex(4)}", spec, quote, None, "7")
    body["spec"].update(changes)
    return body


def child_body(kind: Kind, namespace: str, **changes: Any) -> dict[str, Any]:
    return {
        "apiVersion": API_VERSION,
        "kind": kind.value,
        "metadata": {
            "name": f"child-{secrets.token_hex(4)}",
            "namespace": namespace,
            **copy.deepcopy(METADATA[kind]),
        },
        "spec": {**SPECS[kind], **changes},
    }


@pytest.fixture
def a_body(namespace: str) -> Callable[..., dict[str, Any]]:
    """`a_body(kind, **spec)` is a valid object of that kind, not created yet."""

    def make(kind: Kind, **changes: Any) -> dict[str, Any]:
        if kind is Kind.ORDER:
            return order_body(namespace, **changes)
        return child_body(kind, namespace, **changes)

    return make


@pytest.fixture
def make(as_: As, namespace: str, a_body: Callable[..., dict[str, Any]]) -> Callable[..., Any]:
    """`await make(kind, **spec)` creates one as its proper author, and answers its name."""

    async def create(kind: Kind, **changes: Any) -> str:
        author = as_("gateway" if kind is Kind.ORDER else "operator")
        made = await author.create(kind, namespace, a_body(kind, **changes))
        name: str = made["metadata"]["name"]
        return name

    return create
