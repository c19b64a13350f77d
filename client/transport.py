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
"""The code where nobody answered: whether anything was done is not known."""


class ApiProblem(Exception):  # noqa: N818
    """A problem document (RFC 9457), or that there was no answer at all. Decide by `code`.

    Args:
        status: Of the answer; 0 where there was none.
        code: The last part of the document's `type`; `NO_ANSWER`, or `unknown` where it was no problem
            document, as from a proxy.
        detail: What happened and what to do, for people.
        errors: `{pointer | parameter, detail}` for each place that is wrong.
        retry_after: Seconds after which the request may be sent again, where the front door said so.
        document: All of it.
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
    """The problem that an answer tells of.

    Args:
        document: The body as JSON; None where it was none.
        retry_after: The header; only seconds are read, a date never comes from our front door.
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


SECONDS = 15.0
"""The most that one request may take."""

PATIENCE = 30.0
"""For how many seconds one request is sent again."""

_CONNECTIONS = 32
_FIRST_PAUSE, _LONGEST_PAUSE, _SPREAD = 0.2, 5.0, 0.5
_IDEMPOTENT = frozenset({"GET", "PUT", "DELETE"})  # RFC 9110, 9.2.2
_BETWEEN = frozenset({502, 504})
"""What a proxy says that got no answer."""


@dataclass(frozen=True, slots=True)
class Request:
    """One request.

    Args:
        query: What is None is left out, and a truth is `true` or `false`.
        is_idempotent: Sending it twice does no more than once, although neither its method nor a key says so.
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
        """It may be sent again when nobody knows what became of it."""
        return self.is_idempotent or self.method in _IDEMPOTENT or "Idempotency-Key" in self.headers


@dataclass(frozen=True, slots=True)
class Response:
    """One answer that is no problem; the document is None where there is no body."""

    status: int
    headers: Mapping[str, str]
    document: Any


class Transport:
    """Connections to one front door, shared by any number of callers.

    Args:
        patience: For how many seconds a request is sent again, where that is safe.
    """

    def __init__(self, http: aiohttp.ClientSession, *, patience: float = PATIENCE) -> None:
        self._http = http
        self._patience = patience

    async def send(self, request: Request) -> Response:
        """Send it, and again where that is safe and promises something.

        Raises:
            ApiProblem: it was refused, or there was no answer for as long as patience lasts.
        """

        def pause_after(problem: Exception) -> bool | float:
            if not isinstance(problem, ApiProblem) or not request.is_repeatable:
                return False
            if problem.retry_after is not None:
                # What takes longer is for the caller to wait for. Those who wait do not all return at once.
                is_soon = problem.retry_after <= self._patience
                return problem.retry_after + random.uniform(0, _SPREAD) if is_soon else False
            return problem.code == NO_ANSWER or problem.status in _BETWEEN

        async for attempt in stamina.retry_context(
            on=pause_after,
            attempts=None,
            timeout=self._patience,
            wait_initial=_FIRST_PAUSE,
            wait_max=_LONGEST_PAUSE,
        ):
            with attempt:
                return await self._once(request)
        raise AssertionError("stamina ends with an answer or an exception")

    async def _once(self, request: Request) -> Response:
        # Encoded here, for aiohttp makes text of it first.
        body = None if request.json is None else orjson.dumps(request.json)
        headers = dict(request.headers)
        if body is not None:
            headers["Content-Type"] = "application/json"
        try:
            async with self._http.request(
                request.method,
                request.path,
                params=_parameters(request.query),
                data=body if body is not None else request.form,
                headers=headers,
                # A token goes to whom it is meant for, and to nobody they send us to.
                allow_redirects=False,
            ) as answer:
                content = await answer.read()
                status, told = answer.status, answer.headers
        except (aiohttp.ClientError, TimeoutError) as problem:
            why = type(problem).__name__
            raise ApiProblem(0, NO_ANSWER, f"The front door did not answer ({why}).") from problem
        document = _json_of(content)
        if status >= 300 and status != 304:
            raise problem_of(status, document, told.get("Retry-After"))
        return Response(status, told, document)


@asynccontextmanager
async def connect(
    url: str, *, seconds: float = SECONDS, patience: float = PATIENCE, connections: int = _CONNECTIONS
) -> AsyncIterator[Transport]:
    """Connect to the front door at `url`, and close the connections after the block."""
    async with aiohttp.ClientSession(
        url,
        timeout=aiohttp.ClientTimeout(total=seconds, connect=seconds),
        connector=aiohttp.TCPConnector(limit=connections),
        headers={"User-Agent": "orderplane-client", "Accept": "application/json"},
        cookie_jar=aiohttp.DummyCookieJar(),
    ) as http:
        yield Transport(http, patience=patience)


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
