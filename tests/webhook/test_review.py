"""Defaults that a review adds and objects that it refuses, without Kopf or a server."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import pytest

from orderplane.adapters.payments.stripe_currencies import charge_limits
from orderplane.crds.defaults import customer_hash
from orderplane.crds.meta import (
    CANCELLED_BY_ANNOTATION,
    CUSTOMER_LABEL,
    RETRIED_BY_ANNOTATION,
    RETRY_ANNOTATION,
    SHARD_LABEL,
    TRACEPARENT_ANNOTATION,
)
from orderplane.ledgers.price_rules import CountryTax, PriceRule, ShippingZone, WeightStep
from orderplane.ledgers.pricing import Prices, Product
from orderplane.webhook.review import (
    Denied,
    MissingDefaults,
    actor_annotations,
    review_order,
    review_reservation,
)

from ..support.price_rules import flat, in_force

TRACEPARENT = "00-" + "a" * 32 + "-" + "b" * 16 + "-01"
QUOTE = {
    "currency": "EUR",
    "lines": [
        {"sku": "TEA", "quantity": 2, "unitAmount": 650, "weightGrams": 120},
        {"sku": "MUG", "quantity": 1, "unitAmount": 1490, "weightGrams": 400},
    ],
    "amounts": {"items": 2790, "shipping": 490, "tax": 623, "includedTax": 0, "discount": 0, "total": 3903},
    "priceRule": {"version": 1, "taxBasisPoints": 1900},
}
NOW = datetime(2026, 1, 1, tzinfo=UTC)
HOLD = {"items": [{"sku": "TEA", "quantity": 1}], "expiresAt": "2026-01-02T00:00:00Z"}
ADDRESS = {"name": "Ada Secret", "line1": "Weg 1", "city": "Berlin", "postalCode": "10115", "country": "DE"}
SPEC = {
    "customer": "c-1001",
    "items": [{"sku": "TEA", "quantity": 2}, {"sku": "MUG", "quantity": 1}],
    "address": ADDRESS,
    "paymentMethod": "pm_card_visa",
    "cancel": False,
}


class Shelf:
    """A catalogue of two products in euros and one in dollars."""

    async def prices(self, merchant: str, skus: Sequence[str]) -> Prices:
        known = {
            "TEA": Product("TEA", "Tea", "EUR", 650, 120, other_prices={"USD": 700, "CHF": 600}),
            "MUG": Product("MUG", "Mug", "EUR", 1490, 400, other_prices={"USD": 1600, "CHF": 1500}),
            "FRANC": Product("FRANC", "Franc", "CHF", 100, 1),
            "USD": Product("USD", "Dollar", "USD", 100, 1),
        }
        to_germany = PriceRule(
            shipping=(ShippingZone(countries=("DE",), by_weight=(WeightStep(amount=490),)),),
            tax_included=False,
            taxes=(CountryTax(countries=("DE",), basis_points=1900),),
        )
        rules = in_force(EUR=to_germany, USD=flat(490, 1900))
        return Prices({sku: known[sku] for sku in skus if sku in known}, rules)


async def review(spec: Any = None, **metadata: Any) -> MissingDefaults:
    body = {"metadata": metadata, "spec": {**SPEC, **(spec or {})}}
    return await review_order("demo", body, Shelf(), charge_limits(), shard="5", traceparent=TRACEPARENT)


async def test_an_order_is_quoted_and_preset() -> None:
    assert await review() == MissingDefaults(
        finalizers=["orderplane.dev/compensate"],
        labels={SHARD_LABEL: "5", CUSTOMER_LABEL: customer_hash("demo", "c-1001")},
        annotations={TRACEPARENT_ANNOTATION: TRACEPARENT},
        quote=QUOTE,
    )


async def test_what_is_there_stays() -> None:
    theirs = "00-" + "c" * 32 + "-" + "d" * 16 + "-00"
    additions = await review(
        finalizers=["example.org/mine"],
        labels={"mine": "yes", SHARD_LABEL: "63"},
        annotations={TRACEPARENT_ANNOTATION: theirs},
    )
    assert additions.finalizers == ["example.org/mine", "orderplane.dev/compensate"]
    assert additions.labels == {CUSTOMER_LABEL: customer_hash("demo", "c-1001")}
    assert additions.annotations == {}


async def test_a_finalizer_is_not_added_twice() -> None:
    assert (await review(finalizers=["orderplane.dev/compensate"])).finalizers == [
        "orderplane.dev/compensate"
    ]


async def test_the_right_quote_is_left_alone_in_any_order() -> None:
    given = {**QUOTE, "lines": QUOTE["lines"][::-1]}  # type: ignore[index]
    assert (await review({"quote": given})).quote is None


async def test_what_a_quote_was_priced_by_is_added() -> None:
    given: dict[str, Any] = {name: value for name, value in QUOTE.items() if name != "priceRule"}
    assert (await review({"quote": given})).quote == {"priceRule": QUOTE["priceRule"]}
    given["amounts"] = {name: value for name, value in given["amounts"].items() if name != "includedTax"}
    assert (await review({"quote": given})).quote == {
        "priceRule": QUOTE["priceRule"],
        "amounts": {"includedTax": 0},
    }


@pytest.mark.parametrize(
    "given",
    [
        {**QUOTE, "amounts": {**QUOTE["amounts"], "total": 1}},  # type: ignore[dict-item]
        {**QUOTE, "amounts": {**QUOTE["amounts"], "includedTax": 1}},  # type: ignore[dict-item]
        {**QUOTE, "priceRule": {"version": 2, "taxBasisPoints": 1900}},
        {**QUOTE, "priceRule": {"version": 1, "taxBasisPoints": 1800}},
        {**QUOTE, "lines": QUOTE["lines"][:1]},  # type: ignore[index]
    ],
)
async def test_another_quote_is_refused_with_the_right_total(given: dict[str, Any]) -> None:
    with pytest.raises(Denied, match=r"the total is 39\.03 EUR \(3903 in minor units\)"):
        await review({"quote": given})


DOLLARS = {
    "currency": "USD",
    "lines": [
        {"sku": "TEA", "quantity": 2, "unitAmount": 700, "weightGrams": 120},
        {"sku": "MUG", "quantity": 1, "unitAmount": 1600, "weightGrams": 400},
    ],
    "amounts": {"items": 3000, "shipping": 490, "tax": 663, "includedTax": 0, "discount": 0, "total": 4153},
    "priceRule": {"version": 1, "taxBasisPoints": 1900},
}


async def test_a_quote_that_is_but_a_currency_is_filled_in() -> None:
    assert (await review({"quote": {"currency": "USD"}})).quote == DOLLARS
    assert (await review({"quote": {"currency": "EUR"}})).quote == QUOTE


async def test_a_quote_in_another_currency_is_compared_in_that() -> None:
    assert (await review({"quote": DOLLARS})).quote is None
    with pytest.raises(Denied, match=r"the total is 41\.53 USD"):
        await review({"quote": {**QUOTE, "currency": "USD"}})


@pytest.mark.parametrize(
    ("spec", "reason", "says"),
    [
        ({"quote": {"currency": "JPY"}}, "no_price_in_currency", "TEA is not sold in JPY, only in CHF, EUR"),
        ({"quote": {"currency": "CHF"}}, "no_price_rule", "spec.quote.currency: the shop has no price rule"),
        ({"items": [{"sku": "FRANC", "quantity": 1}]}, "no_price_rule", "spec.items: the shop has no price"),
        ({"address": {**ADDRESS, "country": "US"}}, "unserved_country", "spec.address.country: the shop's"),
        ({"quote": {"currency": "XAU"}}, "unsupported_currency", "cannot be placed in this currency"),
        ({"quote": {**QUOTE, "currency": "XAU"}}, "unsupported_currency", "cannot be placed"),
        ({"quote": {"currency": "<script>"}}, "unsupported_currency", "cannot be placed in this currency"),
        ({"quote": {"currency": 978}}, "invalid", "spec.quote."),
        ({"quote": {"currency": "USD", "lines": []}}, "invalid", "spec.quote."),
        ({"quote": {}}, "invalid", "spec.quote."),
        ({"items": [{"sku": "NOPE", "quantity": 1}]}, "unknown_sku", "no product NOPE"),
        ({"items": [*SPEC["items"], {"sku": "USD", "quantity": 1}]}, "mixed_currency", "per currency"),  # type: ignore[misc]
        ({"items": [{"sku": "TEA", "quantity": 1}] * 2}, "duplicate_sku", "TEA is there twice"),
        ({"items": []}, "invalid", "spec.items: "),
        ({"items": [{"sku": "TEA", "quantity": 0}]}, "invalid", "spec.items[0].quantity: "),
        ({"items": [{"sku": "TEA", "quantity": -1}]}, "invalid", "spec.items[0].quantity: "),
        ({"items": [{"sku": "TEA", "quantity": 10**12}]}, "invalid", "spec.items[0].quantity: "),
        ({"items": [{"sku": "TEA", "quantity": "2"}]}, "invalid", "spec.items[0].quantity: "),
        ({"items": "TEA"}, "invalid", "spec.items: "),
        ({"items": None}, "invalid", "spec.items: "),
        ({"address": {}}, "invalid", "spec.address.name: field required"),
        ({"quote": None}, "invalid", "spec.quote: "),
        ({"paymentMethod": None}, "invalid", "spec.paymentMethod: "),
    ],
)
async def test_wrong_orders_are_refused(spec: dict[str, Any], reason: str, says: str) -> None:
    with pytest.raises(Denied) as denied:
        await review(spec)
    assert denied.value.reason == reason
    assert says in denied.value.message
    assert denied.value.code == 422


@pytest.mark.parametrize(
    "method", ["4242424242424242", 4242424242424242, "4242 4242 4242 4242", "pm_424242424242"]
)
async def test_a_card_number_is_refused_and_never_repeated(method: Any) -> None:
    with pytest.raises(Denied) as denied:
        await review({"paymentMethod": method})
    assert denied.value.reason == "card_number"
    assert "4242" not in denied.value.message


@pytest.mark.parametrize(
    ("spec", "secret"),
    [
        ({"paymentMethod": "secret-token"}, "secret-token"),
        ({"address": {**ADDRESS, "country": "Ada Secret's land"}}, "Ada Secret"),
        ({"address": {**ADDRESS, "name": "Ada Secret" * 20}}, "Ada Secret"),
        ({"customer": "ada@secret.example"}, "ada@"),
    ],
)
async def test_refusals_do_not_repeat_what_was_given(spec: dict[str, Any], secret: str) -> None:
    with pytest.raises(Denied) as denied:
        await review(spec)
    assert secret not in denied.value.message


@pytest.mark.parametrize("body", [{}, {"spec": None}, {"spec": "x"}, {"spec": []}])
async def test_no_spec_at_all(body: dict[str, Any]) -> None:
    with pytest.raises(Denied, match=r"spec\.customer: field required"):
        await review_order("demo", body, Shelf(), charge_limits(), shard="5", traceparent=None)


async def test_a_wrong_order_has_a_message_of_bearable_length() -> None:
    with pytest.raises(Denied) as denied:
        await review({"items": [{"sku": "!", "quantity": 0}] * 50})
    assert denied.value.message.endswith("; and 95 more")


@pytest.mark.parametrize(
    ("metadata", "reason"),
    [
        ({"labels": {SHARD_LABEL: "64"}}, "shard"),
        ({"labels": {CUSTOMER_LABEL: "somebody-else"}}, "customer_label"),
        ({"annotations": {TRACEPARENT_ANNOTATION: "x"}}, "traceparent"),
    ],
)
async def test_wrong_metadata_of_ours_is_refused(metadata: dict[str, Any], reason: str) -> None:
    with pytest.raises(Denied) as denied:
        await review(**metadata)
    assert denied.value.reason == reason


def test_a_reservation_is_preset() -> None:
    additions = review_reservation({"metadata": {}, "spec": HOLD}, NOW, shard="5", traceparent=TRACEPARENT)
    assert additions == MissingDefaults(
        ["orderplane.dev/release-stock"], {SHARD_LABEL: "5"}, {TRACEPARENT_ANNOTATION: TRACEPARENT}
    )


@pytest.mark.parametrize(
    "expires_at",
    [
        "soon", 1893456000, None, "", "2026-01-02", "2026-01-02T00:00:00", "2026-01-02t00:00:00z",
        "2026-01-02T00:00:00.5Z", "2026-01-02T00:00:00+00:00", "2026-01-02T00:00:60Z", "2026-02-30T00:00:00Z",
        "0001-01-01T00:00:00Z", "9999-12-31T23:59:59Z", " 2026-01-02T00:00:00Z", "2026-01-02T00:00:00Z\n",
        "2025-12-31T23:59:59Z",  # over
        "2026-01-01T00:00:00Z",
        "2026-01-08T00:00:01Z",  # by REST it is at most a week, too
    ],
)  # fmt: skip
def test_a_reservation_ends_within_a_week_and_says_so_in_one_form(expires_at: Any) -> None:
    with pytest.raises(Denied, match=r"spec\.expiresAt"):
        review_reservation({"spec": {**HOLD, "expiresAt": expires_at}}, NOW, shard="5", traceparent=None)


@pytest.mark.parametrize("expires_at", ["2026-01-01T00:00:01Z", "2026-01-08T00:00:00Z"])
def test_a_reservation_lasts_up_to_a_week(expires_at: str) -> None:
    review_reservation({"spec": {**HOLD, "expiresAt": expires_at}}, NOW, shard="5", traceparent=None)


def changed(*, cancel: bool = False, retry: str | None = None) -> dict[str, Any]:
    annotations = {RETRY_ANNOTATION: retry, RETRIED_BY_ANNOTATION: "kubernetes:mallory"} if retry else {}
    return {"metadata": {"annotations": annotations}, "spec": {**SPEC, "cancel": cancel}}


@pytest.mark.parametrize(
    ("before", "after", "noted"),
    [
        (changed(), changed(cancel=True), [CANCELLED_BY_ANNOTATION]),
        (changed(cancel=True), changed(cancel=True), []),
        (changed(), changed(retry="1"), [RETRIED_BY_ANNOTATION]),
        (changed(retry="1"), changed(retry="2"), [RETRIED_BY_ANNOTATION]),
        (changed(retry="1"), changed(), [RETRIED_BY_ANNOTATION]),
        (changed(retry="1"), changed(retry="1"), []),
        (changed(), changed(cancel=True, retry="1"), [CANCELLED_BY_ANNOTATION, RETRIED_BY_ANNOTATION]),
        ({"spec": SPEC}, {"spec": SPEC}, []),
    ],
)
def test_who_asks_is_noted_with_what_is_asked(
    before: dict[str, Any], after: dict[str, Any], noted: list[str]
) -> None:
    assert actor_annotations(before, after, "ada") == dict.fromkeys(noted, "kubernetes:ada")
