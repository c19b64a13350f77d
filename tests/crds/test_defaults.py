"""Defaults that an Order gets at its creation."""

import pytest

from orderplane.crds.defaults import (
    customer_hash,
    draw_shard,
    is_shard,
    looks_like_card_number,
    order_defaults,
    order_manifest,
    reservation_defaults,
)
from orderplane.crds.meta import SHARDS
from orderplane.crds.order import Order
from orderplane.ledgers.pricing import Prices, Product, quote

from ..support.price_rules import flat, in_force

TRACEPARENT = "00-" + "a" * 32 + "-" + "b" * 16 + "-01"
SPEC = {
    "customer": "c-1",
    "items": [{"sku": "TEA", "quantity": 2}],
    "address": {"name": "Ada", "line1": "Weg 1", "city": "Berlin", "postalCode": "10115", "country": "DE"},
    "paymentMethod": "pm_card_visa",
}


def test_every_drawn_shard_is_valid_and_all_are_drawn() -> None:
    assert {draw_shard(lambda n, k=k: k) for k in range(SHARDS)} == {str(k) for k in range(SHARDS)}
    assert all(is_shard(draw_shard()) for _ in range(200))


@pytest.mark.parametrize("text", ["", "-1", "64", "07", "1.0", " 1", "٣"])
def test_other_texts_are_no_shards(text: str) -> None:
    assert not is_shard(text)


def test_customers_are_told_apart_by_merchant_too() -> None:
    assert customer_hash("demo", "c-1") == customer_hash("demo", "c-1")
    hashes = {customer_hash("demo", "c-1"), customer_hash("demo", "c-2"), customer_hash("other", "c-1")}
    assert len(hashes) == 3
    assert all(len(text) == 32 for text in hashes)


@pytest.mark.parametrize(
    "text",
    ["4242424242424242", "pm_4242424242424242", "4242 4242 4242 4242", "4242-4242-4242-4242",
     "pm_4242_4242_4242_4242", "pm_x123456789012y"],
)  # fmt: skip
def test_card_numbers_are_seen(text: str) -> None:
    assert looks_like_card_number(text)


@pytest.mark.parametrize("text", ["pm_card_visa", "pm_1MqLiJLkdIwHu7ixUEgbFdYL", "pm_12345678901", ""])
def test_tokens_are_not_card_numbers(text: str) -> None:
    assert not looks_like_card_number(text)


def test_presets() -> None:
    defaults = order_defaults("demo", "c-1", "5", TRACEPARENT)
    assert defaults.finalizer == "orderplane.dev/compensate"
    assert defaults.labels == {
        "orderplane.dev/shard": "5",
        "orderplane.dev/customer": customer_hash("demo", "c-1"),
    }
    assert defaults.annotations == {"orderplane.dev/traceparent": TRACEPARENT}
    defaults = reservation_defaults("5", None)
    assert defaults.finalizer == "orderplane.dev/release-stock"
    assert (defaults.labels, defaults.annotations) == ({"orderplane.dev/shard": "5"}, {})


def test_the_manifest_is_a_whole_order() -> None:
    products = {"TEA": Product("TEA", "Tea", "EUR", 650, 120)}
    spec = {**SPEC, "ttlSecondsAfterFinished": 60}
    order = Order.model_validate({
        "spec": spec | {"quote": {"currency": "EUR", "lines": [
            {"sku": "TEA", "quantity": 2, "unitAmount": 650, "weightGrams": 120}
        ], "amounts": {"items": 1300, "shipping": 0, "tax": 0, "includedTax": 0, "discount": 0,
                       "total": 1300},
           "priceRule": {"version": 1, "taxBasisPoints": 0}}},
        "metadata": {"name": "o-1", "namespace": "demo", "uid": "u", "resourceVersion": "1",
                     "creationTimestamp": "2026-01-01T00:00:00Z"},
    })  # fmt: skip
    priced = quote(order.spec.items, Prices(products, in_force(EUR=flat())), "DE")
    manifest = order_manifest("demo", "o-1", spec, priced, TRACEPARENT, "5")
    assert manifest["metadata"] == {
        "name": "o-1",
        "namespace": "demo",
        "finalizers": ["orderplane.dev/compensate"],
        "labels": {
            "orderplane.dev/shard": "5",
            "orderplane.dev/customer": customer_hash("demo", "c-1"),
        },
        "annotations": {"orderplane.dev/traceparent": TRACEPARENT},
    }
    assert manifest["spec"]["cancel"] is False
    server_side = {"uid": "u", "resourceVersion": "1", "creationTimestamp": "2026-01-01T00:00:00Z"}
    read = Order.model_validate({**manifest, "metadata": {**manifest["metadata"], **server_side}})
    assert read.spec == order.spec
