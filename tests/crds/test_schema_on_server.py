"""The CRD schemas on the real API server: limits, sums and immutable fields."""

import copy
from collections.abc import Callable
from typing import Any

import pytest

from orderplane.adapters.kubernetes.client import ApiClient
from orderplane.crds.api_errors import Invalid
from orderplane.crds.meta import Kind

pytestmark = pytest.mark.integration

ALONE = {"orderRef": None, "expiresAt": "2030-01-01T00:00:00Z"}

As = Callable[[str], ApiClient]
Make = Callable[..., Any]


async def test_an_order_starts_pending_whatever_status_it_was_sent_with(
    as_: As, namespace: str, a_body: Make
) -> None:
    body = a_body(Kind.ORDER)
    body["status"] = {"phase": "Delivered", "reason": "Forged"}
    made = await as_("gateway").create(Kind.ORDER, namespace, body)
    name = made["metadata"]["name"]
    read = await as_("merchant").get(Kind.ORDER, namespace, name)
    assert read["status"]["phase"] == "Pending"
    assert "reason" not in read["status"]
    page = await as_("merchant").list_page(Kind.ORDER, namespace, field_selector="status.phase=Pending")
    assert [item["metadata"]["name"] for item in page.items] == [name]
    page = await as_("merchant").list_page(Kind.ORDER, namespace, field_selector="status.phase=Delivered")
    assert page.items == []


async def test_the_operator_reports_and_the_phase_can_be_selected(
    as_: As, namespace: str, make: Make
) -> None:
    for kind, phase in (
        (Kind.ORDER, "Reserved"), (Kind.RESERVATION, "Held"), (Kind.PAYMENT, "Captured"),
        (Kind.SHIPMENT, "InTransit"),
    ):  # fmt: skip
        name = await make(kind)
        operator = as_("operator")
        read = await operator.get(kind, namespace, name)
        status = {
            "phase": phase,
            "conditions": [
                {
                    "type": "Reserved", "status": "True", "reason": "Held", "message": "",
                    "observedGeneration": 1, "lastTransitionTime": "2026-01-01T00:00:00Z",
                }
            ],
        }  # fmt: skip
        written = await operator.put_status(
            kind, namespace, name, read["metadata"]["resourceVersion"], status
        )
        assert written["status"]["phase"] == phase
        page = await operator.list_page(kind, namespace, field_selector=f"status.phase={phase}")
        assert [item["metadata"]["name"] for item in page.items] == [name]


QUOTE = {
    "currency": "EUR",
    "lines": [
        {"sku": "TEA", "quantity": 2, "unitAmount": 650, "weightGrams": 120},
        {"sku": "MUG", "quantity": 1, "unitAmount": 1490, "weightGrams": 400},
    ],
    "amounts": {"items": 2790, "shipping": 490, "tax": 623, "discount": 0, "total": 3903},
}


def quote_with(**changes: Any) -> dict[str, Any]:
    quote = copy.deepcopy(QUOTE)
    for path, value in changes.items():
        node: Any = quote
        *way, last = [int(part) if part.isdigit() else part for part in path.split("__")]
        for part in way:
            node = node[part]
        node[last] = value
    return quote


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"quote": quote_with(lines__0__quantity=3)}, "quote.lines must have the SKUs"),
        ({"quote": quote_with(lines__0__sku="OTHER")}, "quote.lines must have the SKUs"),
        ({"items": [{"sku": "TEA", "quantity": 2}]}, "quote.lines must have the SKUs"),
        ({"quote": quote_with(amounts__items=2789, amounts__total=3902)}, "amounts.items must be the sum"),
        ({"quote": quote_with(amounts__total=3902)}, "amounts.total must be items plus shipping"),
        ({"quote": quote_with(amounts__discount=4000, amounts__total=-97)}, "greater than or equal to 0"),
        ({"quote": quote_with(currency="XAU")}, "spec.quote.currency"),
        ({"items": []}, "spec.items"),
        ({"items": [{"sku": "TEA", "quantity": 2}, {"sku": "TEA", "quantity": 1}]}, "Duplicate value"),
        ({"items": [{"sku": "TEA", "quantity": 0}, {"sku": "MUG", "quantity": 1}]}, "spec.items[0].quantity"),
        ({"items": [{"sku": "TEA", "quantity": 10_001}]}, "spec.items[0].quantity"),
        ({"paymentMethod": "pm_4242_4242_4242_4242"}, "looks like a card number"),
        ({"paymentMethod": "card"}, "paymentMethod must be the payment provider's token"),
        ({"customer": "ada@example.org"}, "spec.customer"),
        ({"cancel": "yes"}, "spec.cancel"),
        ({"ttlSecondsAfterFinished": -1}, "spec.ttlSecondsAfterFinished"),
    ],
)  # fmt: skip
async def test_a_wrong_order_is_refused(
    as_: As, namespace: str, a_body: Make, changes: dict[str, Any], says: str
) -> None:
    with pytest.raises(Invalid) as refused:
        await as_("gateway").create(Kind.ORDER, namespace, a_body(Kind.ORDER, **changes))
    assert says in refused.value.message


async def test_a_full_order_stays_in_the_cost_budget(as_: As, namespace: str, a_body: Make) -> None:
    skus = [f"{number:03d}-{'x' * 59}" for number in range(50)]
    lines = [{"sku": s, "quantity": 10_000, "unitAmount": 1000, "weightGrams": 1} for s in skus]
    quote = {
        "currency": "EUR",
        "lines": lines,
        "amounts": {"items": 500_000_000, "shipping": 0, "tax": 0, "discount": 0, "total": 500_000_000},
    }
    items = [{"sku": sku, "quantity": 10_000} for sku in skus]
    body = a_body(Kind.ORDER, items=items, quote=quote)
    body["metadata"]["name"] = "n" * 50
    made = await as_("gateway").create(Kind.ORDER, namespace, body)
    name = made["metadata"]["name"]
    changed = await as_("merchant").merge_patch(Kind.ORDER, namespace, name, {"spec": {"cancel": True}})
    assert changed["spec"]["cancel"] is True


async def test_a_long_name_is_refused(as_: As, namespace: str, a_body: Make) -> None:
    body = a_body(Kind.ORDER)
    body["metadata"]["name"] = "n" * 51
    with pytest.raises(Invalid, match="at most 50 characters"):
        await as_("gateway").create(Kind.ORDER, namespace, body)


@pytest.mark.parametrize(
    ("kind", "start", "patch"),
    [
        (Kind.ORDER, {}, {"customer": "c-1002"}),
        (Kind.ORDER, {}, {"customer": None}),
        (Kind.ORDER, {}, {"items": None}),
        (Kind.ORDER, {}, {"items": [{"sku": "TEA", "quantity": 3}, {"sku": "MUG", "quantity": 1}]}),
        (Kind.ORDER, {}, {"items": [{"sku": "TEA", "quantity": 2}]}),
        # The same items in another order: children were planned from the first one.
        (Kind.ORDER, {}, {"items": [{"sku": "MUG", "quantity": 1}, {"sku": "TEA", "quantity": 2}]}),
        (Kind.ORDER, {}, {"quote": None}),
        (Kind.ORDER, {}, {"quote": quote_with(amounts__shipping=0, amounts__total=3413)}),
        (Kind.ORDER, {}, {"address": None}),
        (Kind.ORDER, {}, {"address": {"city": "Hamburg"}}),
        (Kind.ORDER, {}, {"address": {"line2": "c/o somebody"}}),
        (Kind.ORDER, {"address": {"line2": "3rd floor"}}, {"address": {"line2": None}}),
        (Kind.ORDER, {"address": {"line2": "3rd floor"}}, {"address": {"line2": "4th floor"}}),
        (Kind.ORDER, {}, {"address": {"region": "BE"}}),
        (Kind.ORDER, {}, {"paymentMethod": "pm_card_mastercard"}),
        (Kind.ORDER, {}, {"paymentMethod": None}),
        (Kind.ORDER, {}, {"reservation": "r-1"}),
        (Kind.ORDER, {"reservation": "r-1"}, {"reservation": None}),
        (Kind.ORDER, {}, {"reference": "2"}),
        (Kind.ORDER, {"reference": "1"}, {"reference": "2"}),
        (Kind.ORDER, {"reference": "1"}, {"reference": None}),
        (Kind.ORDER, {}, {"metadata": {}}),
        (Kind.ORDER, {"metadata": {"a": "1"}}, {"metadata": {"a": "2"}}),
        (Kind.ORDER, {"metadata": {"a": "1"}}, {"metadata": {"b": "2"}}),
        (Kind.ORDER, {"metadata": {"a": "1"}}, {"metadata": None}),
        (Kind.RESERVATION, {}, {"expiresAt": "2031-01-01T00:00:00Z"}),
        (Kind.RESERVATION, {}, {"expiresAt": None}),
        (Kind.RESERVATION, ALONE, {"expiresAt": "2031-01-01T00:00:00Z"}),
        (Kind.RESERVATION, ALONE, {"expiresAt": None}),
        (Kind.RESERVATION, ALONE, {"expiresAt": None, "orderRef": {"name": "x", "uid": "y"}}),
        (Kind.RESERVATION, {}, {"orderRef": None}),
        (Kind.RESERVATION, {}, {"items": [{"sku": "TEA", "quantity": 1}]}),
        (Kind.RESERVATION, ALONE, {"orderRef": {"name": "x", "uid": "y"}}),
        (Kind.PAYMENT, {}, {"amount": 99}),
        (Kind.PAYMENT, {}, {"currency": "USD"}),
        (Kind.PAYMENT, {}, {"method": "pm_other"}),
        (Kind.PAYMENT, {}, {"orderRef": {"uid": "y"}}),
        (Kind.SHIPMENT, {}, {"address": {"line2": "c/o somebody"}}),
        (Kind.SHIPMENT, {}, {"parcels": None}),
        (Kind.SHIPMENT, {}, {"service": "Express"}),
    ],
)  # fmt: skip
async def test_what_may_not_change_cannot_be_set_or_unset(
    as_: As, namespace: str, make: Make, kind: Kind, start: dict[str, Any], patch: dict[str, Any]
) -> None:
    if "address" in start:
        start = {"address": {**ADDRESS, **start["address"]}}
    changes = {name: value for name, value in start.items() if value is not None}
    if None in start.values():
        changes["orderRef"] = None
    name = await make(kind, **changes)
    before = await as_("operator").get(kind, namespace, name)
    # The operator's is the strongest identity in daily use; what it cannot change nobody can.
    with pytest.raises(Invalid):
        await as_("operator").merge_patch(kind, namespace, name, {"spec": patch})
    after = await as_("operator").get(kind, namespace, name)
    assert after["spec"] == before["spec"]
    assert after["metadata"]["resourceVersion"] == before["metadata"]["resourceVersion"]


ADDRESS = {
    "name": "Ada Example", "line1": "Musterweg 1", "city": "Berlin", "postalCode": "10115", "country": "DE",
}  # fmt: skip


@pytest.mark.parametrize("method", ["4242424242424242", "pm_4242424242424242", 4242424242424242])
async def test_a_card_number_is_not_repeated_where_no_webhook_stands_before(
    as_: As, namespace: str, a_body: Make, make: Make, method: Any
) -> None:
    with pytest.raises(Invalid) as refused:
        await as_("gateway").create(Kind.ORDER, namespace, a_body(Kind.ORDER, paymentMethod=method))
    assert "4242" not in refused.value.message
    name, patch = await make(Kind.ORDER), {"spec": {"paymentMethod": method}}
    with pytest.raises(Invalid) as refused:
        await as_("merchant").merge_patch(Kind.ORDER, namespace, name, patch)
    assert "4242" not in refused.value.message


async def test_cancel_goes_from_false_to_true_and_never_back(as_: As, namespace: str, make: Make) -> None:
    name = await make(Kind.ORDER)
    merchant = as_("merchant")
    await merchant.merge_patch(Kind.ORDER, namespace, name, {"spec": {"cancel": True}})
    with pytest.raises(Invalid, match="cancel cannot be taken back"):
        await merchant.merge_patch(Kind.ORDER, namespace, name, {"spec": {"cancel": False}})
    # Unset means the default, which is false.
    with pytest.raises(Invalid, match="cancel cannot be taken back"):
        await merchant.merge_patch(Kind.ORDER, namespace, name, {"spec": {"cancel": None}})


async def test_the_time_to_live_may_change_freely(as_: As, namespace: str, make: Make) -> None:
    name = await make(Kind.ORDER)
    for seconds in (60, None, 0, 31_536_000):
        patch = {"spec": {"ttlSecondsAfterFinished": seconds}}
        changed = await as_("merchant").merge_patch(Kind.ORDER, namespace, name, patch)
        assert changed["spec"].get("ttlSecondsAfterFinished") == seconds
