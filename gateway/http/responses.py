"""JSON answers, and what the document says about the ones that are problems."""

from collections.abc import Mapping, Sequence
from typing import Any

import orjson
from starlette.responses import Response

from orderplane.gateway.http import etags
from orderplane.gateway.http.problems import MEDIA_TYPE, TYPES
from orderplane.ledgers.postgres.idempotency import Answered

_JSON = "application/json"


def json_response(content: Any, *, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """An answer that nobody keeps."""
    headers = {"Cache-Control": "no-store", **(headers or {})}
    return Response(orjson.dumps(content), status, headers, _JSON)


def tagged_response(if_none_match: str | None, content: Any, tag: str | None = None) -> Response:
    """An answer with an entity tag, or 304 where the client has it; without `tag` the content gives it."""
    body = b"" if tag else orjson.dumps(content)
    tag = tag or etags.tag_of_body(body)
    headers = {"ETag": tag, "Cache-Control": "private, no-cache"}
    if etags.is_match(if_none_match, tag):
        return Response(None, 304, headers)
    return Response(body or orjson.dumps(content), 200, headers, _JSON)


def answered_response(answered: Answered, location: str | None = None) -> Response:
    """The answer that a key has for good, which may be a problem; `location` is of what was made."""
    headers = {"Cache-Control": "no-store"}
    is_problem = answered.answer.status >= 400
    if location and not is_problem:
        headers["Location"] = location
    if answered.is_replayed:
        headers["Idempotent-Replayed"] = "true"
    media_type = MEDIA_TYPE if is_problem else _JSON
    return Response(answered.answer.body, answered.answer.status, headers, media_type)


_IDEMPOTENCY_KEY = {
    "name": "Idempotency-Key",
    "in": "header",
    "required": True,
    "description": "1 to 255 visible ASCII characters, as a structured-field string or bare. What was asked "
    "for with a key is done once, however often it is asked for.",
    "schema": {"type": "string"},
    "example": '"8e03978e-40d5-43e8-bc93-6894a57f9324"',
}
ANSWERED_HEADERS: dict[str, Any] = {
    "Idempotent-Replayed": {
        "description": "`true` where this is the stored answer to an earlier request with the same key.",
        "schema": {"type": "string"},
    },
}

BODY_PROBLEMS = (
    "invalid_json", "request_timeout", "body_too_large", "unsupported_media_type", "validation_failed",
)  # fmt: skip
"""What can be wrong with a body, whatever it is about."""
KEY_PROBLEMS = ("idempotency_key_missing", "idempotency_key_invalid", "idempotency_key_reused")


def body_doc(model: str, *media_types: str) -> dict[str, Any]:
    """What OpenAPI is told of a body that its route reads itself."""
    schema = {"schema": {"$ref": f"#/components/schemas/{model}"}}
    content = dict.fromkeys(media_types or (_JSON,), schema)
    return {"requestBody": {"required": True, "content": content}}


def keyed_doc(model: str) -> dict[str, Any]:
    """The same for a route that takes an Idempotency-Key."""
    return {**body_doc(model), "parameters": [_IDEMPOTENCY_KEY]}


_EVERYWHERE = ("rate_limited", "overloaded", "unavailable", "internal_error")
_WITH_TOKEN = ("unauthenticated", "invalid_token", "insufficient_scope")


def problem_docs(*codes: str) -> dict[int | str, dict[str, Any]]:
    """OpenAPI `responses` for the problems of a route, and for those that every route has."""
    return _docs((*codes, *_EVERYWHERE))


def guarded_docs(*codes: str) -> dict[int | str, dict[str, Any]]:
    """The same for a route that needs a token."""
    return _docs((*codes, *_WITH_TOKEN, *_EVERYWHERE))


def _docs(codes: Sequence[str]) -> dict[int | str, dict[str, Any]]:
    by_status: dict[int, list[str]] = {}
    for code in codes:
        by_status.setdefault(TYPES[code].status, []).append(code)
    return {status: _problem_doc(codes_of_status) for status, codes_of_status in sorted(by_status.items())}


def _problem_doc(codes: list[str]) -> dict[str, Any]:
    return {
        "description": "; ".join(f"`{code}`: {TYPES[code].title}" for code in codes),
        "content": {
            MEDIA_TYPE: {
                "schema": {"$ref": "#/components/schemas/ProblemView"},
                "examples": {
                    code: {
                        "value": {
                            "type": TYPES[code].uri,
                            "title": TYPES[code].title,
                            "status": TYPES[code].status,
                            "detail": "What happened here, to what, and what to do about it.",
                            "code": code,
                        }
                    }
                    for code in codes
                },
            }
        },
    }
