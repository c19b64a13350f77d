"""JSON answers, and what the document says about the ones that are problems."""

from collections.abc import Mapping, Sequence
from typing import Any

import orjson
from starlette.responses import Response

from orderplane.gateway.http import etags
from orderplane.gateway.http.problems import MEDIA_TYPE, TYPES

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


_EVERYWHERE = ("overloaded", "unavailable", "internal_error")
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
