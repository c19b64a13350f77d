"""The body of a new order: valid and invalid ones, and its manifest."""

import copy
from functools import partial
from typing import Any

import orjson
import pytest

from orderplane.crds.order import NewOrderSpec
from orderplane.gateway.http.body import (
    MAX_DEPTH,
    MAX_VALUES,
    has_more_values_than,
    is_deeper_than,
    json_pointer,
)
from orderplane.gateway.http.body import read_body as read_any_body
from orderplane.gateway.http.problems import Problem, render
from orderplane.gateway.orders.requests import OrderRequest

read_body = partial(read_any_body, model=OrderRequest)

GOOD: dict[str, Any] = {
    "customer": "c-1001",
    "items": [{"sku": "TEA", "quantity": 2}, {"sku": "MUG", "quantity": 1}],
    "address": {
        "name": "Ada Example",
        "line1": "1 Sample Street",
        "city": "Berlin",
        "postalCode": "10115",
        "country": "DE",
    },
    "paymentMethod": "pm_card_visa",
}


def changed(path: str, value: Any) -> dict[str, Any]:
    document = copy.deepcopy(GOOD)
    *parents, last = path.split("/")
    place: Any = document
    for part in parents:
        place = place[int(part)] if part.isdigit() else place[part]
    place[int(last) if last.isdigit() else last] = value
    return document


def refusal_of(document: Any) -> Problem:
    with pytest.raises(Problem) as refusal:
        read_body(document if isinstance(document, bytes) else orjson.dumps(document))
    return refusal.value


def test_a_good_body_is_read() -> None:
    body = read_body(orjson.dumps(GOOD))
    assert body.document == GOOD
    assert body.request.items[0].quantity == 2
    assert body.request.address.postal_code == "10115"


def test_all_that_may_be_given_is_read() -> None:
    more = {**GOOD, "expectedTotal": {"amount": 100, "currency": "EUR"}, "ttlSecondsAfterFinished": 60}
    request = read_body(orjson.dumps(more)).request
    assert request.expected_total is not None
    assert request.expected_total.amount == 100
    assert request.ttl_seconds_after_finished == 60


@pytest.mark.parametrize(
    ("path", "value", "pointer"),
    [
        ("items", [], "#/items"),
        ("items", [{"sku": "TEA", "quantity": 1}] * 51, "#/items"),
        ("items/0/quantity", 0, "#/items/0/quantity"),
        ("items/0/quantity", -1, "#/items/0/quantity"),
        ("items/0/quantity", 10_001, "#/items/0/quantity"),
        ("items/0/quantity", "2", "#/items/0/quantity"),
        ("items/0/quantity", 2.5, "#/items/0/quantity"),
        ("items/0/quantity", 2.0, "#/items/0/quantity"),
        ("items/0/quantity", True, "#/items/0/quantity"),
        ("items/1/sku", "no spaces", "#/items/1/sku"),
        ("items/1/unitAmount", 1, "#/items/1/unitAmount"),
        ("quote", {}, "#/quote"),
        ("customer", "ada@example.com", "#/customer"),
        ("address/country", "Germany", "#/address/country"),
        ("address/name", "", "#/address/name"),
        ("address/name", "a\u0000b", "#/address/name"),
        ("address/line1", "a\nb", "#/address/line1"),
        ("paymentMethod", "tok_visa", "#/paymentMethod"),
        ("expectedTotal", {"amount": 1.5, "currency": "EUR"}, "#/expectedTotal/amount"),
        ("expectedTotal", {"amount": 1, "currency": "euro"}, "#/expectedTotal/currency"),
        ("ttlSecondsAfterFinished", -1, "#/ttlSecondsAfterFinished"),
        ("cancel", True, "#/cancel"),
    ],
)
def test_a_wrong_field_is_named(path: str, value: Any, pointer: str) -> None:
    problem = refusal_of(changed(path, value))
    assert problem.type.code == "validation_failed"
    assert [error["pointer"] for error in problem.errors] == [pointer]
    assert all(error["detail"] for error in problem.errors)


def test_a_list_of_one_wrong_item_is_not_also_too_short() -> None:
    problem = refusal_of(changed("items", [{"sku": "TEA", "quantity": 0}]))
    assert [error["pointer"] for error in problem.errors] == ["#/items/0/quantity"]


def test_a_huge_quantity_beyond_any_integer_is_refused() -> None:
    raw = orjson.dumps(GOOD).replace(b'"quantity":2', b'"quantity":1' + b"0" * 40)
    assert refusal_of(raw).errors[0]["pointer"] == "#/items/0/quantity"


@pytest.mark.parametrize(
    "token",
    [
        "4242424242424242",
        "pm_4242424242424242",
        "pm_4242_4242_4242_4242",
        "4242 4242 4242 4242",
        "pm_4000-0000-0000-0002",
    ],
)
def test_a_card_number_is_refused_and_never_repeated(token: str) -> None:
    problem = refusal_of(changed("paymentMethod", token))
    body, _ = render(problem)
    assert b"4242" not in body
    assert b"4000" not in body
    assert problem.errors[0]["pointer"] == "#/paymentMethod"


@pytest.mark.parametrize("name", ["4242424242424242", "Ada Example", "x" * 60, "a/b", "<script>"])
def test_the_name_of_an_unknown_field_is_repeated_only_if_it_is_a_field_name(name: str) -> None:
    problem = refusal_of({**GOOD, name: 1})
    assert problem.errors[0]["pointer"] == "#"
    assert name.encode() not in render(problem)[0]


def test_no_value_is_ever_repeated() -> None:
    secret = "Zyzzyva-Planted-1234"
    for path in ("customer", "paymentMethod", "items/0/sku", "items/0/quantity", "address/country", "items"):
        body, _ = render(refusal_of(changed(path, f"{secret} {secret}")))
        assert secret.encode() not in body, path


@pytest.mark.parametrize(
    "raw", [b"", b"{", b"{bad}", b"NaN", b'{"a":1,}', b"\xff\xfe", b'"\\ud800"', b"[" * 2000 + b"]" * 2000]
)
def test_what_is_no_json_is_refused(raw: bytes) -> None:
    assert refusal_of(raw).type.code == "invalid_json"


@pytest.mark.parametrize("document", [[], "text", 1, None])
def test_json_that_is_no_object_is_refused(document: Any) -> None:
    assert refusal_of(document).type.code == "validation_failed"


def test_depth_is_bounded() -> None:
    nested: Any = 1
    for _ in range(MAX_DEPTH):
        nested = [nested]
    assert not is_deeper_than(MAX_DEPTH, nested)
    assert is_deeper_than(MAX_DEPTH, {"a": nested})
    assert refusal_of({**GOOD, "x": [nested]}).type.code == "invalid_json"


def test_the_number_of_values_is_bounded() -> None:
    for document in ([1, [2, {"a": 3}]], {"a": [1, 2], "b": {"c": 4}}):
        size = 6
        assert not has_more_values_than(size, document)
        assert has_more_values_than(size - 1, document)
    assert not has_more_values_than(1, 7)
    assert not has_more_values_than(1, [])
    items = [{"sku": f"A-{number}", "quantity": 1} for number in range(50)]
    assert len(read_body(orjson.dumps({**GOOD, "items": items})).request.items) == 50
    assert refusal_of({**GOOD, "items": [{}] * MAX_VALUES}).type.code == "invalid_json"


def test_a_member_that_is_sent_twice_has_one_value_for_all_readers() -> None:
    twice = orjson.dumps(GOOD).removesuffix(b"}") + b', "paymentMethod": "pm_last"}'
    body = read_body(twice)
    assert body.request.payment_method == body.document["paymentMethod"] == "pm_last"


def test_a_byte_order_mark_is_named() -> None:
    with pytest.raises(Problem, match="byte order mark"):
        read_body(b"\xef\xbb\xbf" + orjson.dumps(GOOD))


def test_many_errors_are_cut_short() -> None:
    document = changed("items", [{"sku": "TEA", "quantity": 0}] * 50)
    assert len(refusal_of(document).errors) == 20


def test_a_pointer_stops_at_a_strange_name() -> None:
    assert json_pointer(("items", 0, "sku")) == "#/items/0/sku"
    assert json_pointer(("address", "a b", "c")) == "#/address"


def test_what_is_accepted_here_the_resource_accepts_too() -> None:
    # The spec minus what only the server side sets.
    ours = set(type(read_body(orjson.dumps(GOOD)).request).model_fields) - {"expected_total", "currency"}
    assert ours == set(NewOrderSpec.model_fields) - {"quote", "cancel", "refunds"}
