"""Examples in docs/openapi.json are valid, and every problem is documented."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import pytest
from jsonschema import Draft202012Validator
from pydantic import TypeAdapter

from orderplane.client import responses as answers
from orderplane.gateway.http.problems import PROBLEM_TYPES
from orderplane.gateway.openapi import NoExample, example_of

DOCUMENT = json.loads((Path(__file__).parents[2] / "docs" / "openapi.json").read_text())
SCHEMAS = DOCUMENT["components"]["schemas"]

EVERYWHERE = {"bad_request", "method_not_allowed", "route_not_found"}
"""What is answered where the document has nothing."""


def operations() -> Iterator[tuple[str, dict[str, Any]]]:
    for path, methods in DOCUMENT["paths"].items():
        for method, operation in methods.items():
            yield f"{method.upper()} {path}", operation


def contents() -> Iterator[tuple[str, dict[str, Any]]]:
    """Every body that is sent or answered."""
    for name, operation in operations():
        for part in (operation.get("requestBody", {}), *operation["responses"].values()):
            for content in part.get("content", {}).values():
                yield name, content


def test_every_body_and_every_answer_has_examples_that_fit() -> None:
    for name, content in contents():
        if "examples" in content:
            examples = [example["value"] for example in content["examples"].values()]
        else:
            # Says which field has none.
            examples = [content.get("example") or example_of(content["schema"], SCHEMAS)]
        assert examples, name
        for example in examples:
            Draft202012Validator({**content["schema"], "components": DOCUMENT["components"]}).validate(
                example
            )


def test_every_problem_is_documented() -> None:
    shown = {code for _, content in contents() for code in content.get("examples", {})}
    assert shown | EVERYWHERE == set(PROBLEM_TYPES)
    assert set(SCHEMAS["ProblemView"]["properties"]["code"]["examples"]) == set(PROBLEM_TYPES)


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("POST /api/orders", answers.Accepted),
        ("GET /api/orders", answers.OrderPage),
        ("GET /api/orders/{order_id}", answers.Order),
        ("POST /api/orders/{order_id}/cancel", answers.Order),
        ("GET /api/orders/{order_id}/timeline", answers.Timeline),
        ("GET /api/products", answers.ProductPage),
        ("GET /api/products/{sku}", answers.Product),
        ("GET /api/inventory/{sku}", answers.StockLevel),
        ("POST /api/inventory/reserve", answers.Reservation),
        ("GET /api/inventory/reservations/{reservation_id}", answers.Reservation),
        ("POST /api/inventory/release", answers.Reservation),
        ("GET /api/users/me", answers.Profile),
    ],
)
def test_the_client_reads_what_is_answered(name: str, kind: Any) -> None:
    good = [answer for status, answer in dict(operations())[name]["responses"].items() if int(status) < 300]
    for answer in good:
        TypeAdapter(kind).validate_python(answer["content"]["application/json"]["example"])


def test_an_example_is_put_together_from_its_fields() -> None:
    schemas: dict[str, dict[str, Any]] = {
        "Line": {
            "type": "object",
            "properties": {"sku": {"type": "string", "examples": ["TEA"]}, "is_gift": {"type": "boolean"}},
            "required": ["sku", "is_gift"],
        }
    }
    order: dict[str, Any] = {
        "type": "object",
        "properties": {
            "lines": {"type": "array", "items": {"$ref": "#/components/schemas/Line"}},
            "note": {"anyOf": [{"type": "string", "examples": ["x"]}, {"type": "null"}]},
            "state": {"enum": ["Open", "Closed"]},
            "colour": {"type": "string"},
        },
        "required": ["lines"],
    }
    made = {"lines": [{"sku": "TEA", "is_gift": False}], "note": "x", "state": "Open"}
    assert example_of(order, schemas) == made
    assert example_of({**order, "examples": [{"lines": []}]}, schemas) == {"lines": []}
    del cast("dict[str, Any]", schemas["Line"]["properties"]["sku"])["examples"]
    with pytest.raises(NoExample, match="#/lines/0/sku"):
        example_of(order, schemas)
