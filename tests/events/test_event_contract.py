"""The types, their schemas and the AsyncAPI document say the same."""

import json
from importlib import resources

import pytest
import yaml
from jsonschema import Draft202012Validator
from referencing import Registry, Resource

from orderplane.adapters.kafka.topics import PARTITIONS
from orderplane.events.dead_letters import DEAD_LETTER_TOPIC
from orderplane.events.types import EventType

FOLDER = resources.files("orderplane.events")
SCHEMAS = {
    file.name.removesuffix(".json"): json.loads(file.read_text(encoding="utf-8"))
    for file in (FOLDER / "schemas").iterdir()
    if file.name.endswith(".json")
}
REGISTRY = Registry().with_resources(
    (schema["$id"], Resource.from_contents(schema)) for schema in SCHEMAS.values()
)
DOCUMENT = yaml.safe_load((FOLDER / "asyncapi.yaml").read_text(encoding="utf-8"))
NAMES = sorted(type_.value for type_ in EventType)


def validator(name):
    return Draft202012Validator(
        SCHEMAS[name], registry=REGISTRY, format_checker=Draft202012Validator.FORMAT_CHECKER
    )


def resolved(reference):
    assert reference.startswith("#/")
    found = DOCUMENT
    for step in reference.removeprefix("#/").split("/"):
        found = found[step]
    return found


def objects_in(schema):
    if isinstance(schema, dict):
        if schema.get("type") == "object":
            yield schema
        for value in schema.values():
            yield from objects_in(value)
    elif isinstance(schema, list):
        for value in schema:
            yield from objects_in(value)


def test_each_type_has_a_schema_and_no_other_has():
    assert sorted(SCHEMAS.keys() - {"common"}) == NAMES


@pytest.mark.parametrize("name", [*NAMES, "common"])
def test_schemas_are_valid_and_strict(name):
    Draft202012Validator.check_schema(SCHEMAS[name])
    assert all(each["additionalProperties"] is False for each in objects_in(SCHEMAS[name]))


@pytest.mark.parametrize("name", NAMES)
def test_examples_are_valid(name):
    assert SCHEMAS[name]["examples"]
    for example in SCHEMAS[name]["examples"]:
        validator(name).validate(example)


@pytest.mark.parametrize("name", NAMES)
def test_nothing_may_be_missing_or_added(name):
    check = validator(name)
    example = SCHEMAS[name]["examples"][0]
    for field in SCHEMAS[name]["required"]:
        assert not check.is_valid({key: value for key, value in example.items() if key != field}), field
    assert not check.is_valid({**example, "email": "ada@example.org"})


@pytest.mark.parametrize("name", NAMES)
def test_only_reservations_do_without_an_order(name):
    assert ("order" in SCHEMAS[name]["required"]) is not name.startswith("inventory.")


def test_channels_operations_and_messages_are_the_types():
    channels = {key: c for key, c in DOCUMENT["channels"].items() if c["address"] != DEAD_LETTER_TOPIC}
    assert sorted(channel["address"] for channel in channels.values()) == NAMES
    told = {operation["channel"]["$ref"] for operation in DOCUMENT["operations"].values()}
    assert told == {f"#/channels/{key}" for key in DOCUMENT["channels"]}
    for channel in channels.values():
        ((_, reference),) = channel["messages"].items()
        message = resolved(reference["$ref"])
        assert message["name"] == channel["address"]
        assert message["title"] == SCHEMAS[message["name"]]["title"]
        assert message["payload"]["schema"]["$ref"] == f"schemas/{message['name']}.json"
        assert resolved(channel["bindings"]["$ref"])["kafka"]["partitions"] == PARTITIONS
