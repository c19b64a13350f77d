"""The YAML of the CRDs and the models agree; a failure names the difference."""

import copy
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, get_args

import pytest
import yaml
from pydantic import BaseModel

from orderplane.crds.countries import COUNTRIES, check_country
from orderplane.crds.meta import Kind
from orderplane.crds.money import EXPONENTS
from orderplane.crds.order import NewOrderSpec, OrderStatus
from orderplane.crds.payment import PaymentSpec, PaymentStatus
from orderplane.crds.reservation import NewReservationSpec, ReservationStatus
from orderplane.crds.shipment import ShipmentSpec, ShipmentStatus
from orderplane.crds.text import cel_rule, check_line

Schema = dict[str, Any]

MODELS: dict[Kind, tuple[type[BaseModel], type[BaseModel]]] = {
    Kind.ORDER: (NewOrderSpec, OrderStatus),
    Kind.RESERVATION: (NewReservationSpec, ReservationStatus),
    Kind.PAYMENT: (PaymentSpec, PaymentStatus),
    Kind.SHIPMENT: (ShipmentSpec, ShipmentStatus),
}
BOUNDS = (
    "type", "minimum", "maximum", "minLength", "maxLength", "pattern", "minItems", "maxItems",
    "maxProperties", "default",
)  # fmt: skip
# The table of exponents is stricter than the models' pattern: what a customer pays in must be in it.
TABLED_CURRENCIES = ((Kind.ORDER, "spec.quote.currency"), (Kind.PAYMENT, "spec.currency"))
# Required although it has a default: a rule about a field that can be absent is walked around by unset, set.
REQUIRED_WITH_DEFAULT = ((Kind.ORDER, "spec", "cancel"),)


def load(kind: Kind) -> Schema:
    text = (Path(__file__).parents[2] / "crds" / f"{kind.value.lower()}.yaml").read_text()
    document: Schema = yaml.safe_load(text)
    return document


def root_of(crd: Schema) -> Schema:
    schema: Schema = crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    return schema


def written(kind: Kind, crd: Schema) -> dict[str, Schema]:
    properties = root_of(crd)["properties"]
    spec, status = from_yaml(properties["spec"]), from_yaml(properties["status"])
    for rule in properties["spec"].get("x-kubernetes-validations", []):
        # A pattern can be written as a rule, whose refusal does not repeat the value.
        if found := re.fullmatch(r"self\.(\w+)\.matches\('(.*)'\)", rule["rule"]):
            spec["properties"][found[1]]["pattern"] = found[2]
    return {"spec": spec, "status": status}


def modelled(kind: Kind) -> dict[str, Schema]:
    found = {}
    for name, model in zip(("spec", "status"), MODELS[kind], strict=True):
        schema = model.model_json_schema(by_alias=True)
        found[name] = from_model(schema, schema.get("$defs", {}))
    for owner, path in TABLED_CURRENCIES:
        if owner == kind:
            parent, name = at(found, path)
            parent["properties"][name] = {"type": "string", "enum": sorted(EXPONENTS)}
    if kind is Kind.ORDER:
        # The YAML has the list of countries instead.
        parent, name = at(found, "spec.address.country")
        del parent["properties"][name]["pattern"]
    for owner, path, name in REQUIRED_WITH_DEFAULT:
        if owner == kind:
            found[path]["required"] = sorted([*found[path]["required"], name])
    found["status"]["default"] = {}
    return found


def at(tree: dict[str, Schema], path: str) -> tuple[Schema, str]:
    first, *middle, last = path.split(".")
    node = tree[first]
    for part in middle:
        node = node["properties"][part]
    return node, last


def from_model(schema: Schema, definitions: dict[str, Schema]) -> Schema:
    schema = dict(schema)
    if "$ref" in schema:
        schema |= definitions[schema.pop("$ref").rsplit("/", 1)[1]] | schema
    if "anyOf" in schema:
        (given,) = [part for part in schema.pop("anyOf") if part.get("type") != "null"]
        return from_model(given | schema, definitions)
    if "const" in schema:
        schema["enum"] = [schema["const"]]
    if schema.get("default") in (None, []):
        schema.pop("default", None)
    return narrowed(schema, lambda part: from_model(part, definitions))


def from_yaml(schema: Schema) -> Schema:
    return narrowed(schema, from_yaml)


def narrowed(schema: Schema, deeper: Callable[[Schema], Schema]) -> Schema:
    kept = {name: schema[name] for name in BOUNDS if name in schema}
    if "enum" in schema:
        kept["enum"] = sorted(schema["enum"])
    if schema.get("format") == "date-time":
        kept["format"] = "date-time"
    if "properties" in schema:
        kept["properties"] = {name: deeper(part) for name, part in schema["properties"].items()}
        kept["required"] = sorted(schema.get("required", []))
    if "items" in schema:
        kept["items"] = deeper(schema["items"])
    return kept


def differences(model: Any, yaml_: Any, path: str = "") -> Iterator[str]:
    if isinstance(model, dict) and isinstance(yaml_, dict):
        for name in sorted(model.keys() | yaml_.keys()):
            here = f"{path}.{name}".lstrip(".")
            if name not in yaml_:
                yield f"{here}: in the model, not in the YAML"
            elif name not in model:
                yield f"{here}: in the YAML, not in the model"
            else:
                yield from differences(model[name], yaml_[name], here)
    elif model != yaml_:
        yield f"{path}: {model!r} in the model, {yaml_!r} in the YAML"


def checked_by(check: Callable[..., Any], model: type[BaseModel], path: str = "") -> Iterator[str]:
    """The fields of the model whose values pass through `check`."""
    for field in model.model_fields.values():
        here = f"{path}.{field.alias}"
        parts = [field.annotation, *get_args(field.annotation)]
        metadata = [*field.metadata, *(part for each in parts for part in get_args(each))]
        if any(getattr(part, "func", None) is check for part in metadata):
            yield here
        for part in parts:
            if isinstance(part, type) and issubclass(part, BaseModel):
                yield from checked_by(check, part, here)


def test_lines_and_countries_have_their_rules() -> None:
    lines = [path for path in checked_by(check_line, NewOrderSpec) if path.startswith(".address.")]
    assert len(lines) == 6
    assert list(checked_by(check_country, NewOrderSpec)) == [".address.country"]
    address = _spec(load(Kind.ORDER))["properties"]["address"]
    names = [path.removeprefix(".address.") for path in lines]
    of_policy = [f"variables.address.{name}" for name in names]
    shown = [
        field if name in address["required"] else f"has({field}) ? {field} : ''"
        for name, field in zip(names, of_policy, strict=True)
    ]
    rules = new_order_rules()
    assert f"[{', '.join(shown)}].all(l, {cel_rule('l')})" in rules
    assert f"variables.address.country in {list(COUNTRIES)}" in rules


def test_the_schema_of_an_order_has_no_rule_that_a_status_write_need_not_repeat() -> None:
    """The API server evaluates them at every write of a status, over the whole object."""
    rules = list(rules_in(root_of(load(Kind.ORDER))))
    assert [rule for rule in rules if "oldSelf" not in rule and "paymentMethod" not in rule] == []


def rules_in(node: Any) -> Iterator[str]:
    if isinstance(node, dict):
        yield from (rule["rule"] for rule in node.get("x-kubernetes-validations", ()))
    for child in node.values() if isinstance(node, dict) else node if isinstance(node, list) else ():
        yield from rules_in(child)


def new_order_rules() -> list[str]:
    text = (Path(__file__).parents[2] / "manifests" / "30-policy.yaml").read_text()
    (policy,) = [
        document
        for document in yaml.safe_load_all(text)
        if document["metadata"]["name"] == "orderplane-new-orders" and "validations" in document["spec"]
    ]
    return [validation["expression"] for validation in policy["spec"]["validations"]]


@pytest.mark.parametrize("kind", Kind)
def test_yaml_and_model_agree(kind: Kind) -> None:
    assert list(differences(modelled(kind), written(kind, load(kind)))) == []


def _spec(crd: Schema) -> Schema:
    spec: Schema = root_of(crd)["properties"]["spec"]
    return spec


def _status(crd: Schema) -> Schema:
    status: Schema = root_of(crd)["properties"]["status"]
    return status


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (lambda crd: _spec(crd)["required"].remove("customer"), "spec.required"),
        (lambda crd: _spec(crd)["required"].remove("cancel"), "spec.required"),
        (lambda crd: _spec(crd)["properties"]["customer"].update(maxLength=64), "customer.maxLength"),
        (lambda crd: _spec(crd)["properties"]["customer"].pop("pattern"), "spec.properties.customer.pattern"),
        (lambda crd: _spec(crd)["properties"].update(gift={"type": "boolean"}), "spec.properties.gift"),
        (lambda crd: _spec(crd)["properties"].pop("address"), "spec.properties.address"),
        (lambda crd: _spec(crd)["properties"]["items"].update(maxItems=51), "spec.properties.items.maxItems"),
        (lambda crd: _spec(crd)["properties"]["cancel"].update(default=True), "cancel.default"),
        (lambda crd: _spec(crd).pop("x-kubernetes-validations"), "paymentMethod.pattern"),
        (lambda crd: _status(crd).pop("default"), "status.default"),
        (lambda crd: _status(crd)["properties"]["phase"]["enum"].pop(), "status.properties.phase.enum"),
        (lambda crd: _status(crd)["properties"]["finishedAt"].update(type="integer"), "finishedAt.type"),
        (
            lambda crd: _spec(crd)["properties"]["quote"]["properties"]["currency"]["enum"].append("XXX"),
            "quote.properties.currency.enum",
        ),
        (
            lambda crd: _spec(crd)["properties"]["items"]["items"]["properties"]["quantity"].pop("minimum"),
            "quantity.minimum",
        ),
    ],
)  # fmt: skip
def test_a_difference_is_named(change: Callable[[Schema], object], named: str) -> None:
    crd = copy.deepcopy(load(Kind.ORDER))
    change(crd)
    found = list(differences(modelled(Kind.ORDER), written(Kind.ORDER, crd)))
    assert len(found) == 1
    assert named in found[0]


def walk(schema: Schema, path: str) -> Iterator[tuple[str, Schema]]:
    yield path, schema
    for name, part in schema.get("properties", {}).items():
        yield from walk(part, f"{path}.{name}")
    if "items" in schema:
        yield from walk(schema["items"], f"{path}[]")
    if "additionalProperties" in schema:
        yield from walk(schema["additionalProperties"], f"{path}{{}}")


@pytest.mark.parametrize("kind", Kind)
def test_everything_is_described_and_bounded(kind: Kind) -> None:
    for path, schema in walk(root_of(load(kind)), kind.value):
        assert schema.get("description"), f"{path}: kubectl explain would say nothing"
        if schema["type"] == "string":
            assert {"maxLength", "enum", "format"} & schema.keys(), f"{path}: a string without a bound"
        if schema["type"] == "array":
            assert "maxItems" in schema, f"{path}: a list without a bound"
        if "additionalProperties" in schema:
            assert "maxProperties" in schema, f"{path}: a map without a bound"


@pytest.mark.parametrize("kind", Kind)
def test_names_and_columns(kind: Kind) -> None:
    crd = load(kind)
    assert crd["metadata"]["name"] == f"{kind.plural}.orderplane.dev"
    assert crd["spec"]["names"]["categories"] == ["orderplane"]
    (version,) = crd["spec"]["versions"]
    more = [{"jsonPath": ".spec.reference"}] if kind is Kind.ORDER else []
    assert version["selectableFields"] == [
        {"jsonPath": ".status.phase"}, {"jsonPath": ".status.stalled"}, *more
    ]  # fmt: skip
    first = [column["jsonPath"] for column in version["additionalPrinterColumns"][:3]]
    assert first == [".status.phase", ".status.reason", ".status.stalled"]
