"""Requests and responses over HTTP, the problems among them, and which requests are sent again."""

import random
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import aiohttp
import orjson
import stamina

NO_ANSWER = "no_answer"
"""The code if there was no answer: it is not known whether the request had an effect."""


class ApiProblem(Exception):  # noqa: N818
    """A problem document (RFC 9457), or the lack of an answer. Decide by `code`.

    Args:
        status: Of the answer; 0 if there was none.
        code: The last part of the document's `type`; `NO_ANSWER`; or `unknown` for an answer without a
            problem document, as from a proxy.
        detail: What happened and what to do, for people.
        errors: `{pointer | parameter, detail}` for each wrong place in the request.
        retry_after: Seconds after which the request may be sent again, if the gateway said so.
        document: The whole document.
    """

    def __init__(
        self,
        status: int,
        code: str,
        detail: str,
        *,
        errors: Sequence[Mapping[str, str]] = (),
        retry_after: float | None = None,
        document: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(f"{detail} ({code})")
        self.status = status
        self.code = code
        self.detail = detail
        self.errors = errors
        self.retry_after = retry_after
        self.document = document or {}


def problem_of(status: int, document: Any, retry_after: str | None) -> ApiProblem:
    """The problem of an answer.

    Args:
        document: The body as JSON; None if it is not JSON.
        retry_after: The header in seconds; the gateway never sends a date.
    """
    seconds = float(retry_after) if retry_after is not None and retry_after.isdecimal() else None
    if not isinstance(document, dict) or "code" not in document:
        detail = f"The answer was {status}, and nothing that says why."
        return ApiProblem(status, "unknown", detail, retry_after=seconds)
    return ApiProblem(
        status,
        str(document["code"]),
        str(document.get("detail", document.get("title", ""))),
        errors=document.get("errors", ()),
        retry_after=seconds,
        document=document,
    )


TIMEOUT_SECONDS = 15.0
"""Timeout of one attempt."""

RETRY_SECONDS = 30.0
"""How long a request is retried."""

SILENCE_SECONDS = 45.0
"""A stream in which nothing came for so long is dead: the gateway sends a comment every 15 seconds."""

_CONNECTIONS = 32
_FIRST_PAUSE, _MAX_PAUSE, _JITTER = 0.2, 5.0, 0.5
_IDEMPOTENT = frozenset({"GET", "PUT", "DELETE"})  # RFC 9110, 9.2.2
_PROXY_ERRORS = frozenset({502, 504})
"""Status codes of a proxy that got no answer."""


@dataclass(frozen=True, slots=True)
class Request:
    """One request.

    Args:
        query: None is left out; booleans are sent as `true` or `false`.
        is_idempotent: Repeating it has no further effect, although neither the method nor a key shows that.
    """

    method: str
    path: str
    query: Mapping[str, str | int | None] = field(default_factory=dict)
    json: Any = None
    form: Mapping[str, str] | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    is_idempotent: bool = False

    @property
    def is_repeatable(self) -> bool:
        """Whether it may be sent again if its outcome is unknown."""
        return self.is_idempotent or self.method in _IDEMPOTENT or "Idempotency-Key" in self.headers


@dataclass(frozen=True, slots=True)
class Response:
    """A successful response; the document is None if there is no body."""

    status: int
    headers: Mapping[str, str]
    document: Any


class Transport:
    """Connections to one gateway, shared by any number of callers.

    Args:
        retry_seconds: How long a request is retried, if that is safe.
        headers: Sent with each request.
    """

    def __init__(
        self,
        http: aiohttp.ClientSession,
        *,
        retry_seconds: float = RETRY_SECONDS,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        self._http = http
        self._retry_seconds = retry_seconds
        self._headers = headers or {}

    def with_headers(self, headers: Mapping[str, str]) -> "Transport":
        """The same connections, with these headers in each request."""
        return Transport(self._http, retry_seconds=self._retry_seconds, headers=headers)

    async def send(self, request: Request) -> Response:
        """Send a request, and retry it if that is safe and may help.

        Raises:
            ApiProblem: it was refused, or not answered within `retry_seconds`.
        """

        def pause_after(problem: Exception) -> bool | float:
            if not isinstance(problem, ApiProblem) or not request.is_repeatable:
                return False
            if problem.retry_after is not None:
                # A longer wait is left to the caller. The jitter keeps clients from returning all at once.
                is_soon = problem.retry_after <= self._retry_seconds
                return problem.retry_after + random.uniform(0, _JITTER) if is_soon else False
            return problem.code == NO_ANSWER or problem.status in _PROXY_ERRORS

        async for attempt in stamina.retry_context(
            on=pause_after,
            attempts=None,
            timeout=self._retry_seconds,
            wait_initial=_FIRST_PAUSE,
            wait_max=_MAX_PAUSE,
        ):
            with attempt:
                return await self._once(request)
        raise AssertionError("stamina ends with an answer or an exception")

    @asynccontextmanager
    async def stream(self, request: Request) -> AsyncIterator[AsyncIterator[bytes]]:
        """An answer that goes on; it is asked for once, without a body.

        Raises:
            ApiProblem: it was refused, not answered, or cut, also while it is read.
        """
        try:
            async with self._http.request(
                request.method,
                request.path,
                params=_parameters(request.query),
                headers={**self._headers, **request.headers},
                allow_redirects=False,
                timeout=aiohttp.ClientTimeout(total=None, connect=TIMEOUT_SECONDS, sock_read=SILENCE_SECONDS),
            ) as answer:
                if answer.status >= 300:
                    document = _json_of(await answer.read())
                    raise problem_of(answer.status, document, answer.headers.get("Retry-After"))
                yield answer.content.iter_any()
        except (aiohttp.ClientError, TimeoutError) as problem:
            raise _no_answer(problem) from problem

    async def _once(self, request: Request) -> Response:
        # Encoded here: aiohttp would make a str of it first.
        body = None if request.json is None else orjson.dumps(request.json)
        headers = {**self._headers, **request.headers}
        if body is not None:
            headers["Content-Type"] = "application/json"
        try:
            async with self._http.request(
                request.method,
                request.path,
                params=_parameters(request.query),
                data=body if body is not None else request.form,
                headers=headers,
                # A redirect would send the access token to another host.
                allow_redirects=False,
            ) as answer:
                content = await answer.read()
                status, received = answer.status, answer.headers
        except (aiohttp.ClientError, TimeoutError) as problem:
            raise _no_answer(problem) from problem
        document = _json_of(content)
        if status >= 300 and status != 304:
            raise problem_of(status, document, received.get("Retry-After"))
        return Response(status, received, document)


@asynccontextmanager
async def connect(
    url: str,
    *,
    seconds: float = TIMEOUT_SECONDS,
    retry_seconds: float = RETRY_SECONDS,
    connections: int = _CONNECTIONS,
) -> AsyncIterator[Transport]:
    """Connect to the gateway at `url`; the connections are closed after the block."""
    async with aiohttp.ClientSession(
        url,
        timeout=aiohttp.ClientTimeout(total=seconds, connect=seconds),
        connector=aiohttp.TCPConnector(limit=connections),
        headers={"User-Agent": "orderplane-client", "Accept": "application/json"},
        cookie_jar=aiohttp.DummyCookieJar(),
    ) as http:
        yield Transport(http, retry_seconds=retry_seconds)


def _no_answer(problem: Exception) -> ApiProblem:
    return ApiProblem(0, NO_ANSWER, f"The gateway did not answer ({type(problem).__name__}).")


def _parameters(query: Mapping[str, str | int | None]) -> dict[str, str]:
    return {
        name: str(value).lower() if isinstance(value, bool) else str(value)
        for name, value in query.items()
        if value is not None
    }


def _json_of(content: bytes) -> Any:
    try:
        return orjson.loads(content) if content else None
    except orjson.JSONDecodeError:
        return None
