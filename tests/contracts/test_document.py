"""Examples in docs/openapi.json are valid, and every problem is documented."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import pytest
from jsonschema import Draft202012Validator
from pydantic import TypeAdapter

from orderplane.client import responses as answers
from orderplane.crds.money import EXPONENTS
from orderplane.crds.order import CompensationStep, OrderPhase, RefundPhase
from orderplane.crds.reservation import ReservationPhase
from orderplane.gateway.http.problems import PROBLEM_TYPES
from orderplane.gateway.openapi import NoExample, example_of
from orderplane.gateway.principal import Role, Scope
from orderplane.ledgers.states import StockMovementKind
from orderplane.ledgers.webhook_endpoints import DeliveryState
from orderplane.workers.notifier.plan import State as MessageState

DOCUMENT = json.loads((Path(__file__).parents[2] / "docs" / "openapi.json").read_text())
SCHEMAS = DOCUMENT["components"]["schemas"]

CLOSED = {
    "CompensationStep": [*CompensationStep],
    "ConditionStatus": ["True", "False", "Unknown"],
    "Currency": sorted(EXPONENTS),
    "DeliveryState": [*DeliveryState],
    "MessageState": [*MessageState],
    "OrderPhase": [*OrderPhase],
    "RefundPhase": [*RefundPhase],
    "ReservationState": [*ReservationPhase],
    "Role": [*Role],
    "StockMovementKind": [*StockMovementKind],
}
NAMES_OF_SETS = {"currency", "kind", "phase", "role", "state", "status", "step"}
TIME = re.compile(r"\d{4}-\d\d-\d\dT")
ANSWERS_WITH = {
    "Cache-Control": {"200", "201", "202", "204", "304"},
    "Retry-After": {"429", "503"},
    "WWW-Authenticate": {"401", "403"},
}

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
        ("POST /api/quotes", answers.Quote),
        ("GET /api/price-rules", answers.PriceRuleList),
        ("GET /api/price-rules/{currency}", answers.PriceRule),
        ("PUT /api/price-rules/{currency}", answers.PriceRule),
        ("GET /api/price-rules/{currency}/versions", answers.PriceRuleVersionPage),
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


def properties() -> Iterator[tuple[str, str, dict[str, Any]]]:
    for schema, described in SCHEMAS.items():
        for name, member in described.get("properties", {}).items():
            yield schema, name, member


def test_every_time_is_a_date_time() -> None:
    times = [
        (schema, name, member.get("format"))
        for schema, name, member in properties()
        if any(TIME.match(str(example)) for example in member.get("examples", ()))
    ]
    assert len(times) >= 8
    assert {found for *_, found in times} == {"date-time"}, times


def test_closed_sets_are_one_schema_each() -> None:
    """Otherwise a generated client has a type of its own for each place, or plain text."""
    assert {name: SCHEMAS[name]["enum"] for name in CLOSED} == CLOSED
    places = {
        (schema, name): member.get("$ref", "").rpartition("/")[2]
        for schema, name, member in properties()
        if name in NAMES_OF_SETS and member.get("type") != "integer" and "anyOf" not in member
    }
    assert places.keys() >= {("OrderView", "phase"), ("PriceView", "currency"), ("UserView", "role")}
    assert {place: name for place, name in places.items() if name not in CLOSED} == {
        # What a caller asks for is checked by a pattern, whose refusal says more.
        ("ExpectedTotal", "currency"): "",
    }


def test_every_answer_declares_its_headers() -> None:
    known = DOCUMENT["components"]["headers"]
    for name, operation in operations():
        for status, answer in operation["responses"].items():
            declared = answer["headers"].keys()
            assert {"RateLimit", "RateLimit-Policy"} <= declared, (name, status)
            for header, needs in ANSWERS_WITH.items():
                assert status not in needs or header in declared, (name, status, header)
            assert "304" not in operation["responses"] or status not in ("200", "304") or "ETag" in declared
            for header in answer["headers"].values():
                assert header.get("description") or header["$ref"].rpartition("/")[2] in known


def test_every_route_says_which_scopes_it_needs() -> None:
    flows = DOCUMENT["components"]["securitySchemes"]["OAuth2"]["flows"]
    assert flows.keys() == {"password", "clientCredentials"}
    for flow in flows.values():
        assert "post" in DOCUMENT["paths"][flow["tokenUrl"]]
        assert flow["scopes"] == {scope.value: scope.meaning for scope in Scope}
    for name, operation in operations():
        if "401" not in operation["responses"] or name == "POST /api/auth/login":
            assert "security" not in operation, name
            continue
        by_oauth, by_bearer = operation["security"]
        assert set(by_oauth["OAuth2"]) <= set(Scope), name
        assert by_oauth["OAuth2"], name
        assert by_bearer == {"HTTPBearer": []}


def test_every_route_and_parameter_is_described() -> None:
    for name, operation in operations():
        assert operation["summary"], name
        assert operation["description"], name
        for parameter in operation.get("parameters", ()):
            assert parameter.get("description") or parameter["in"] == "path", (name, parameter["name"])


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
