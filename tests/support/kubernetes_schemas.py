"""JSON schemas by which kubeconform checks manifests, from the sources of Kubernetes and from CRDs.

kubeconform fetches schemas from a web site by default. The OpenAPI document of each release says the same.
"""

import json
from collections.abc import Iterable, Iterator, Mapping
from copy import deepcopy
from pathlib import Path
from typing import Any

import yaml

Json = dict[str, Any]

NAMES = "{{.ResourceKind}}{{.KindSuffix}}.json"
"""How kubeconform asks for a schema in a folder, for `-schema-location`."""

_TEXT_OR_NUMBER = {
    "io.k8s.apimachinery.pkg.api.resource.Quantity",
    "io.k8s.apimachinery.pkg.util.intstr.IntOrString",
}
"""The document says string; the API server takes numbers, too."""


def write_schemas(folder: Path, openapi: Path, crds: Iterable[Path]) -> None:
    """Write a schema for every kind of an OpenAPI document and of some CRDs, which are a file each."""
    document = json.loads(openapi.read_text(encoding="utf-8"))
    kinds = [*_of_kubernetes(document["definitions"]), *_of_crds(crds)]
    for name, schema in kinds:
        (folder / name).write_text(json.dumps(schema), encoding="utf-8")


def _of_kubernetes(definitions: Mapping[str, Json]) -> Iterator[tuple[str, Json]]:
    strict = {name: _strict(name, definition) for name, definition in definitions.items()}
    for name, definition in definitions.items():
        for kind in definition.get("x-kubernetes-group-version-kind", ()):
            needed = _closure(name, strict)
            schema = {"$ref": f"#/definitions/{name}", "definitions": {each: strict[each] for each in needed}}
            yield _file(kind["kind"], kind["group"], kind["version"]), schema


def _of_crds(files: Iterable[Path]) -> Iterator[tuple[str, Json]]:
    for path in files:
        crd = yaml.load(path.read_bytes(), Loader=yaml.CSafeLoader)["spec"]
        for version in crd["versions"]:
            schema = deepcopy(version["schema"]["openAPIV3Schema"])
            _forbid_others(schema)
            yield _file(crd["names"]["kind"], crd["group"], version["name"]), schema


def _file(kind: str, group: str, version: str) -> str:
    """kubeconform knows a group by its first part, and the core group by nothing."""
    return "-".join(filter(None, [kind, group.partition(".")[0], version])).lower() + ".json"


def _strict(name: str, definition: Json) -> Json:
    if name in _TEXT_OR_NUMBER:
        return {"type": ["string", "number"]}
    return {**definition, "additionalProperties": False} if "properties" in definition else definition


def _forbid_others(schema: Any) -> None:
    """Objects of a CRD have no members but those that are named, except where it keeps unknown ones."""
    if isinstance(schema, list):
        for each in schema:
            _forbid_others(each)
    elif isinstance(schema, dict):
        for each in schema.values():
            _forbid_others(each)
        is_open = schema.get("x-kubernetes-preserve-unknown-fields") or "additionalProperties" in schema
        # A property may itself be called "properties"; then it is no schema, and has no type.
        if isinstance(schema.get("properties"), dict) and schema.get("type") == "object" and not is_open:
            schema["additionalProperties"] = False


def _closure(name: str, definitions: Mapping[str, Json]) -> set[str]:
    """The definitions that `name` needs, and itself: kubeconform follows no reference to another file."""
    found, new = {name}, [name]
    while new:
        for each in _references(definitions[new.pop()]):
            if each not in found:
                found.add(each)
                new.append(each)
    return found


def _references(schema: Any) -> Iterator[str]:
    if isinstance(schema, dict):
        if isinstance(schema.get("$ref"), str):
            yield schema["$ref"].removeprefix("#/definitions/")
        for each in schema.values():
            yield from _references(each)
    elif isinstance(schema, list):
        for each in schema:
            yield from _references(each)
