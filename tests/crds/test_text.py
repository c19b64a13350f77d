"""What is a line of text and what is a country: REST and the webhook give the same answer."""

import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any
from unicodedata import category, normalize

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from orderplane.adapters.payments.stripe_currencies import charge_limits
from orderplane.crds.countries import COUNTRIES
from orderplane.crds.order import Order
from orderplane.crds.text import check_line, check_lines
from orderplane.gateway.http.body import read_body
from orderplane.gateway.http.problems import Problem, render
from orderplane.gateway.orders.requests import OrderRequest
from orderplane.ledgers.pricing import Prices, Product
from orderplane.webhook.review import Denied, review_order

from ..support.price_rules import flat, in_force
from .texts import failing, passing, unnormalized

ADDRESS = {"name": "Ada", "line1": "Weg 1", "city": "Berlin", "postalCode": "10115", "country": "DE"}


class Shelf:
    """A catalogue of one product."""

    async def prices(self, merchant: str, skus: Sequence[str]) -> Prices:
        return Prices({"TEA": Product("TEA", "Tea", "EUR", 650, 120)}, in_force(EUR=flat(490, 1900)))


def order_with(field: str, text: str) -> dict[str, Any]:
    return {
        "customer": "c-1001",
        "items": [{"sku": "TEA", "quantity": 2}],
        "address": {**ADDRESS, field: text},
        "paymentMethod": "pm_card_visa",
    }


async def by_webhook(spec: dict[str, Any]) -> None:
    body = {"metadata": {}, "spec": {**spec, "cancel": False}}
    await review_order("demo", body, Shelf(), charge_limits(), shard="5", traceparent=None)


@passing
async def test_text_passes_both_doors(field: str, text: str) -> None:
    spec = order_with(field, text)
    assert (
        read_body(orjson.dumps(spec), OrderRequest).request.address.model_dump(by_alias=True)[field] == text
    )
    await by_webhook(spec)


@failing
async def test_what_is_no_text_passes_neither_door(field: str, text: str) -> None:
    await assert_refused(field, text)


@unnormalized
async def test_text_that_is_not_normalized_passes_neither_door(field: str, text: str) -> None:
    await assert_refused(field, text)
    spec = order_with(field, normalize("NFC", text))
    read_body(orjson.dumps(spec), OrderRequest)
    await by_webhook(spec)


async def assert_refused(field: str, text: str) -> None:
    spec = order_with(field, text)
    with pytest.raises(Problem) as refused:
        read_body(orjson.dumps(spec), OrderRequest)
    assert [error["pointer"] for error in refused.value.errors] == [f"#/address/{field}"]
    if len(text) > 2:
        assert text.encode() not in render(refused.value)[0]
    with pytest.raises(Denied, match=f"spec.address.{field}: ") as denied:
        await by_webhook(spec)
    assert denied.value.code == 422


@failing
def test_an_order_that_was_stored_before_these_rules_is_still_read(field: str, text: str) -> None:
    if field == "country" and text not in ("ZZ", "UK", "EU", "XK"):
        return
    quote = {
        "currency": "EUR",
        "lines": [{"sku": "TEA", "quantity": 2, "unitAmount": 650, "weightGrams": 120}],
        "amounts": {"items": 1300, "shipping": 0, "tax": 0, "discount": 0, "total": 1300},
    }
    metadata = {
        "name": "o-1", "namespace": "demo", "uid": "u", "resourceVersion": "1",
        "creationTimestamp": "2026-01-01T00:00:00Z",
    }  # fmt: skip
    order = Order.model_validate({"metadata": metadata, "spec": {**order_with(field, text), "quote": quote}})
    assert order.spec.address.model_dump(by_alias=True)[field] == text


def test_the_countries_are_those_of_iso_3166_1() -> None:
    assert len(set(COUNTRIES)) == len(COUNTRIES) == 249
    assert list(COUNTRIES) == sorted(COUNTRIES)


IGNORABLE = (
    (0xAD, 0xAD), (0x34F, 0x34F), (0x61C, 0x61C), (0x115F, 0x1160), (0x17B4, 0x17B5), (0x180B, 0x180F),
    (0x200B, 0x200F), (0x202A, 0x202E), (0x2060, 0x206F), (0x3164, 0x3164), (0xFE00, 0xFE0F),
    (0xFEFF, 0xFEFF), (0xFFA0, 0xFFA0), (0xFFF0, 0xFFF8), (0x1BCA0, 0x1BCA3), (0x1D173, 0x1D17A),
    (0xE0000, 0xE0FFF),
)  # fmt: skip
"""Default_Ignorable_Code_Point in DerivedCoreProperties.txt of Unicode 15."""
JOINERS_AND_FORMS_OF_EMOJI = "\u200c\u200d\ufe0e\ufe0f"


def test_nothing_invisible_passes_between_letters() -> None:
    passed = set()
    for code in (code for first, last in IGNORABLE for code in range(first, last + 1)):
        with suppress(ValueError):
            check_line(f"A{chr(code)}B")
            passed.add(chr(code))
    assert passed == set(JOINERS_AND_FORMS_OF_EMOJI)


def test_what_is_not_assigned_does_not_pass() -> None:
    free = [character for character in map(chr, range(0x110000)) if category(character) == "Cn"]
    assert len(free) > 800_000
    for character in free[:: len(free) // 2_000]:
        with pytest.raises(ValueError, match=r"\.$"):
            check_line(f"A{character}B")


def test_lines_may_end_inside_but_not_outside() -> None:
    assert check_lines("Black tea.\n\nWith bergamot.") == "Black tea.\n\nWith bergamot."
    assert check_lines("") == ""
    for text in ("\n", "tea\n", "\ntea", "tea \n ", "a\tb", "a\r\nb", "a\u2028b", "a\u200bb"):
        with pytest.raises(ValueError, match=r"\.$"):
            check_lines(text)


@given(st.text(st.characters(codec="utf-8"), max_size=40))
def test_what_passes_is_visible_at_both_ends_and_normalized(text: str) -> None:
    try:
        check_line(text)
    except ValueError:
        return
    assert text == text.strip()
    assert normalize("NFC", text) == text
    assert "\n" not in text


@pytest.mark.parametrize("check", [check_line, check_lines])
@pytest.mark.parametrize("unit", ["\u0327\u0301", "a\u0327\u0301", " ", "\u200d", "가", "a"])
def test_a_long_text_costs_little(check: Callable[[str], str], unit: str) -> None:
    text = "a" + unit * (60_000 // len(unit)) + "a"
    started = time.process_time()
    with suppress(ValueError):
        check(text)
    assert time.process_time() - started < 0.05
