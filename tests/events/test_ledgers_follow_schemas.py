"""What the PostgreSQL ledgers append is valid by the schemas, for every type."""

import json
from collections import defaultdict
from importlib import resources

import pytest
from jsonschema import Draft202012Validator
from referencing import Registry, Resource

from orderplane.events.types import EventType

from .ledgers import open_ledgers

pytestmark = pytest.mark.integration


async def test_each_event_of_the_ledgers_is_valid(plane):
    async with open_ledgers(plane.postgres_dsn) as ledgers:
        rows = await ledgers.live()
    schemas = {
        file.name.removesuffix(".json"): json.loads(file.read_text(encoding="utf-8"))
        for file in (resources.files("orderplane.events") / "schemas").iterdir()
        if file.name.endswith(".json")
    }
    registry = Registry().with_resources((s["$id"], Resource.from_contents(s)) for s in schemas.values())
    seen, actors = defaultdict(set), defaultdict(set)
    for row in rows:
        Draft202012Validator(
            schemas[row["type"]], registry=registry, format_checker=Draft202012Validator.FORMAT_CHECKER
        ).validate(row["data"])
        seen[row["type"]].add(row["data"].get("reason"))
        actors[row["type"]].add(row["data"].get("actor"))
    assert seen.keys() == {type_.value for type_ in EventType}
    assert seen["inventory.released"] == {"Released", "Expired", "Lost", "Returned"}
    assert actors["order.cancelled"] == {"user:u-1"}
    assert actors["order.failed"] == {None}
    assert actors["order.retried"] == {"kubernetes:ada"}
    (_, by) = sorted(actors["inventory.released"], key=str)
    assert by.startswith("database:")
