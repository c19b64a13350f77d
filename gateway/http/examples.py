"""Examples of whole documents, put together from the examples of their fields. Pure."""

from collections.abc import Mapping
from typing import Any

Json = dict[str, Any]

_REF = "#/components/schemas/"


class NoExample(Exception):  # noqa: N818
    """A field says neither by an example nor by its type what it looks like; the message is its place."""


def example_of(schema: Json, schemas: Mapping[str, Json], place: str = "#") -> Any:
    """One document that fits `schema`.

    An example of the whole comes before those of its parts. Members that may be missing, and for which there
    is no example, are missing.

    Raises:
        NoExample: a required field has none.
    """
    if "examples" in schema:
        return schema["examples"][0]
    if "$ref" in schema:
        return example_of(schemas[schema["$ref"].removeprefix(_REF)], schemas, place)
    if "enum" in schema:
        return schema["enum"][0]
    if "anyOf" in schema:
        return example_of(schema["anyOf"][0], schemas, place)
    match schema.get("type"):
        case "object":
            return _members(schema, schemas, place)
        case "array":
            return [example_of(schema["items"], schemas, f"{place}/0")]
        case "boolean":
            return False
    raise NoExample(place)


def _members(schema: Json, schemas: Mapping[str, Json], place: str) -> Json:
    required = schema.get("required", ())
    members = {}
    for name, member in schema.get("properties", {}).items():
        try:
            members[name] = example_of(member, schemas, f"{place}/{name}")
        except NoExample:
            if name in required:
                raise
    return members
