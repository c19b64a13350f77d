"""Parts of the OpenAPI document that several routes share."""

from collections.abc import Iterable, Sequence
from typing import Annotated, Any

from fastapi import Header, Query
from pydantic import Field

from orderplane.crds.money import EXPONENTS
from orderplane.crds.order import OrderPhase
from orderplane.gateway.http.cursors import MAX_CURSOR
from orderplane.gateway.http.problems import MEDIA_TYPE, PROBLEM_TYPES

_JSON = "application/json"

Sku = Annotated[str, Field(examples=["TEA-EARL-GREY-100"])]
Count = Annotated[int, Field(examples=[2])]
Time = Annotated[
    str,
    Field(
        description="RFC 3339, UTC.",
        examples=["2026-03-01T12:15:00Z"],
        json_schema_extra={"format": "date-time"},
    ),
]
IfNoneMatch = Annotated[
    str | None,
    Header(description="The `ETag` of the version that the client has; 304 if it is still the newest."),
]
Cursor = Annotated[str | None, Query(max_length=MAX_CURSOR, description="`next` of the last page.")]
Next = Annotated[
    str | None, Field(description="The `cursor` of the following page; null on the last.", examples=[None])
]
Actor = Annotated[
    str | None,
    Field(
        description="Who did it: `user:` or `service:` and the id of the account, `kubernetes:` and the name "
        "that the API server has checked, `database:` and a role of PostgreSQL. In place of a name that is "
        "personal data, such as an e-mail address, it has `sub-` and 128 bits of its SHA-256. Null if nobody "
        "did, or if it is not known.",
        examples=["user:u-3k9x2m7qpl5v8r4t"],
    ),
]


CLOSED = "x-closed"
"""Marks a closed set until the document is put together."""


def closed(name: str, values: Iterable[str]) -> dict[str, Any]:
    """`json_schema_extra` of a string with a closed set of values, which the document shows as the schema
    `name`. A set that grows (reasons, types of events, codes of problems) has examples instead: a generated
    client refuses a value that its enum lacks."""
    return {CLOSED: name, "enum": list(values)}


Phase = Annotated[str, Field(examples=["Shipped"], json_schema_extra=closed("OrderPhase", OrderPhase))]
Currency = Annotated[
    str,
    Field(description="ISO 4217.", examples=["EUR"], json_schema_extra=closed("Currency", sorted(EXPONENTS))),
]

_IDEMPOTENCY_KEY = {
    "name": "Idempotency-Key",
    "in": "header",
    "required": True,
    "description": "1 to 255 visible ASCII characters, quoted as a structured-field string or bare. "
    "A request is carried out once per key, however often it is repeated.",
    "schema": {"type": "string"},
    "example": '"8e03978e-40d5-43e8-bc93-6894a57f9324"',
}
REPLAYED_HEADER: dict[str, Any] = {
    "Idempotent-Replayed": {
        "description": "`true` if this is the stored answer to an earlier request with the same key.",
        "schema": {"type": "string"},
    },
}

BODY_PROBLEMS = (
    "invalid_json", "request_timeout", "body_too_large", "unsupported_media_type", "validation_failed",
)  # fmt: skip
"""Problems that every route with a JSON body can answer with."""
FORM_PROBLEMS = ("request_timeout", "body_too_large", "unsupported_media_type", "validation_failed")
"""Problems that every route with a form can answer with."""
KEY_PROBLEMS = ("idempotency_key_missing", "idempotency_key_invalid", "idempotency_key_reused")

_ALWAYS = (
    "target_too_long", "validation_failed", "rate_limited", "header_too_large", "overloaded", "unavailable",
    "internal_error",
)  # fmt: skip
_WITH_TOKEN = ("unauthenticated", "invalid_token", "insufficient_scope")


def body_doc(model: str, *media_types: str, is_required: bool = True) -> dict[str, Any]:
    """OpenAPI extras for a route that reads its body itself, so that FastAPI does not see the model."""
    schema = {"schema": {"$ref": f"#/components/schemas/{model}"}}
    content = dict.fromkeys(media_types or (_JSON,), schema)
    return {"requestBody": {"required": is_required, "content": content}}


def keyed_doc(model: str | None = None) -> dict[str, Any]:
    """As `body_doc`, for a route that needs an Idempotency-Key, and perhaps no body."""
    body = {} if model is None else body_doc(model)
    return {**body, "parameters": [_IDEMPOTENCY_KEY]}


def problem_docs(*codes: str) -> dict[int | str, dict[str, Any]]:
    """OpenAPI `responses` for the problems of a route and those that every route has."""
    return _docs((*codes, *_ALWAYS))


def protected_docs(*codes: str) -> dict[int | str, dict[str, Any]]:
    """As `problem_docs`, for a route that needs an access token."""
    return _docs((*codes, *_WITH_TOKEN, *_ALWAYS))


def _docs(codes: Sequence[str]) -> dict[int | str, dict[str, Any]]:
    by_status: dict[int, list[str]] = {}
    for code in dict.fromkeys(codes):
        by_status.setdefault(PROBLEM_TYPES[code].status, []).append(code)
    return {status: _problem_doc(codes_of_status) for status, codes_of_status in sorted(by_status.items())}


def _problem_doc(codes: list[str]) -> dict[str, Any]:
    return {
        "description": "; ".join(f"`{code}`: {PROBLEM_TYPES[code].title}" for code in codes),
        "content": {
            MEDIA_TYPE: {
                "schema": {"$ref": "#/components/schemas/ProblemView"},
                "examples": {
                    code: {
                        "value": {
                            "type": PROBLEM_TYPES[code].uri,
                            "title": PROBLEM_TYPES[code].title,
                            "status": PROBLEM_TYPES[code].status,
                            "detail": "What happened, to what, and what to do.",
                            "code": code,
                        }
                    }
                    for code in codes
                },
            }
        },
    }
