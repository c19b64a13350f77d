"""JSON responses and their entity tags (RFC 9110, 8.8.3 and 13.1.2)."""

import hashlib
from collections.abc import Mapping

import orjson
from starlette.responses import Response

from orderplane.gateway.http.problems import MEDIA_TYPE
from orderplane.ledgers.postgres.idempotency import IdempotentResponse

_JSON = "application/json"


def json_response(
    content: Mapping[str, object], *, status: int = 200, headers: Mapping[str, str] | None = None
) -> Response:
    """A response that must not be cached."""
    headers = {"Cache-Control": "no-store", **(headers or {})}
    return Response(orjson.dumps(content), status, headers, _JSON)


def tagged_response(
    if_none_match: str | None, content: Mapping[str, object], etag: str | None = None
) -> Response:
    """A response with an entity tag, or 304 if the client has this version.

    Args:
        etag: Of a version that changes with the content; without it, a hash of the content is used.
    """
    body = b"" if etag else orjson.dumps(content)
    etag = etag or etag_of_body(body)
    if etag_matches(if_none_match, etag):
        return written_response(if_none_match, b"", etag)
    return written_response(if_none_match, body or orjson.dumps(content), etag)


def written_response(if_none_match: str | None, body: bytes, etag: str) -> Response:
    """A JSON document of the caller's that is written already, or 304 if the client has this version."""
    headers = {"ETag": etag, "Cache-Control": "private, no-cache"}
    if etag_matches(if_none_match, etag):
        return Response(None, 304, headers)
    return Response(body, 200, headers, _JSON)


def document_response(if_none_match: str | None, body: bytes, etag: str) -> Response:
    """A JSON document that is the same for everybody, or 304 if the client has this version."""
    headers = {"ETag": etag, "Cache-Control": "public, no-cache"}
    if etag_matches(if_none_match, etag):
        return Response(None, 304, headers)
    return Response(body, 200, headers, _JSON)


def idempotent_response(outcome: IdempotentResponse, location: str | None = None) -> Response:
    """The response stored for an idempotency key, which may be a problem.

    Args:
        location: Of the resource that was created.
    """
    headers = {"Cache-Control": "no-store"}
    is_problem = outcome.response.status >= 400
    if location and not is_problem:
        headers["Location"] = location
    if outcome.is_replayed:
        headers["Idempotent-Replayed"] = "true"
    media_type = MEDIA_TYPE if is_problem else _JSON
    return Response(outcome.response.body, outcome.response.status, headers, media_type)


def weak_etag(version: str) -> str:
    """A weak entity tag for a version that changes with the content."""
    return f'W/"{version}"'


def etag_of_body(body: bytes) -> str:
    """A weak entity tag for content that has no version of its own."""
    return weak_etag(hashlib.sha256(body).hexdigest()[:32])


def parse_etags(header: str) -> list[str]:
    """The entity tags, or `*`, in the value of If-Match or If-None-Match."""
    return [part.strip() for part in header.split(",")]


def etag_matches(if_none_match: str | None, etag: str) -> bool:
    """Whether If-None-Match names this version, by weak comparison as RFC 9110 asks for that header."""
    if if_none_match is None:
        return False
    opaque = etag.removeprefix("W/")
    return any(part == "*" or part.removeprefix("W/") == opaque for part in parse_etags(if_none_match))
