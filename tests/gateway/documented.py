"""Responses compared with docs/openapi.json."""

import json
from pathlib import Path
from typing import Any

import httpx
from jsonschema import Draft202012Validator

DOCUMENT = json.loads((Path(__file__).parents[2] / "docs" / "openapi.json").read_text())


def check(response: httpx.Response, path: str, *, method: str = "get", status: int = 200) -> Any:
    """The status is the expected one, and the body is what docs/openapi.json says."""
    assert response.status_code == status, response.text
    documented = DOCUMENT["paths"][path][method]["responses"][str(status)]["content"]
    media_type, content = next(iter(documented.items()))
    assert response.headers["Content-Type"] == media_type
    schema = {**content["schema"], "components": DOCUMENT["components"]}
    Draft202012Validator(schema).validate(response.json())
    return response.json()
