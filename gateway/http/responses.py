"""JSON responses and their entity tags (RFC 9110, 8.8.3 and 13.1.2)."""

import hashlib
from collections.abc import Mapping
from typing import Any

import orjson
from starlette.responses import Response

from orderplane.gateway.http.problems import MEDIA_TYPE
from orderplane.ledgers.postgres.idempotency import IdempotentResponse

_JSON = "application/json"


def json_response(content: Any, *, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """An answer that nobody keeps."""
    headers = {"Cache-Control": "no-store", **(headers or {})}
    return Response(orjson.dumps(content), status, headers, _JSON)


def tagged_response(if_none_match: str | None, content: Any, tag: str | None = None) -> Response:
    """An answer with an entity tag, or 304 where the client has it; without `tag` the content gives it."""
    body = b"" if tag else orjson.dumps(content)
    tag = tag or tag_of_body(body)
    headers = {"ETag": tag, "Cache-Control": "private, no-cache"}
    if is_match(if_none_match, tag):
        return Response(None, 304, headers)
    return Response(body or orjson.dumps(content), 200, headers, _JSON)


def answered_response(answered: IdempotentResponse, location: str | None = None) -> Response:
    """The answer that a key has for good, which may be a problem; `location` is of what was made."""
    headers = {"Cache-Control": "no-store"}
    is_problem = answered.response.status >= 400
    if location and not is_problem:
        headers["Location"] = location
    if answered.is_replayed:
        headers["Idempotent-Replayed"] = "true"
    media_type = MEDIA_TYPE if is_problem else _JSON
    return Response(answered.response.body, answered.response.status, headers, media_type)


def tag_of(version: str) -> str:
    """A weak tag from a version that changes with the content."""
    return f'W/"{version}"'


def tag_of_body(body: bytes) -> str:
    """A weak tag from the content itself, where nothing else tells its version."""
    return tag_of(hashlib.sha256(body).hexdigest()[:32])


def tags_in(header: str) -> list[str]:
    """The entity tags, or the asterisk, of an If-Match or If-None-Match."""
    return [part.strip() for part in header.split(",")]


def is_match(if_none_match: str | None, tag: str) -> bool:
    """Whether the client has this version already; compared weakly, as If-None-Match is."""
    if if_none_match is None:
        return False
    wanted = tag.removeprefix("W/")
    return any(part == "*" or part.removeprefix("W/") == wanted for part in tags_in(if_none_match))
