"""What every page works with, and what every request passes."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

import structlog
from prometheus_client import Histogram
from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response

from orderplane.client.transport import NO_ANSWER, ApiProblem, Transport
from orderplane.console.forms import BadForm, Form, read_form
from orderplane.console.oidc import Provider
from orderplane.console.rendering import Pages, StaticFiles
from orderplane.console.security import HEADERS, is_from_own_page
from orderplane.console.sessions import Notice, Session, Sessions

log = structlog.get_logger(__name__)

DURATION = Histogram(
    "orderplane_console_request_duration_seconds",
    "From the request to the end of the page; of a stream, to its begin.",
    ["page", "code"],
    buckets=(0.01, 0.025, 0.05, 0.1, 0.2, 0.3, 0.5, 1.0, 2.5, 5.0, 10.0),
)

_ENDED = frozenset({"unauthenticated", "invalid_token", "invalid_grant"})
"""Problems of the API that say that the login has ended."""


@dataclass(frozen=True, slots=True)
class Console:
    """Opened once, shared by all requests.

    Args:
        is_secure: Whether browsers reach the console over TLS only.
        open_breakers: Which providers are given a rest now; None where Prometheus is not set or not there.
    """

    sessions: Sessions
    transport: Transport
    provider: Provider | None
    static: StaticFiles
    pages: Pages
    is_secure: bool
    stopping: asyncio.Event
    open_breakers: Callable[[], Awaitable[list[str] | None]]

    @property
    def cookie(self) -> str:
        """The name of the session's cookie. `__Host-` keeps other hosts of the domain from setting it
        (RFC 6265bis, 4.1.3.2)."""
        return "__Host-orderplane" if self.is_secure else "orderplane"

    def set_cookie(
        self, response: Response, name: str, value: str, *, seconds: int | None = None, strict: bool = False
    ) -> None:
        """Give the browser a cookie that no script can read."""
        response.set_cookie(
            name, value, max_age=seconds, path="/", secure=self.is_secure, httponly=True,
            samesite="strict" if strict else "lax",
        )  # fmt: skip

    def drop_cookie(self, response: Response, name: str) -> None:
        """Take a cookie away."""
        response.delete_cookie(name, path="/", secure=self.is_secure, httponly=True, samesite="lax")

    def page(
        self, request: Request, session: Session | None, template: str, *, status: int = 200, **values: Any
    ) -> HTMLResponse:
        """A page, or a part of one, for somebody."""
        notices = []
        # A part that is loaded into a page has no place for them.
        if session is not None and template.startswith("page/"):
            notices = list(session.notices)
            session.notices.clear()
        text = self.pages.render(template, session=session, here=request.url.path, notices=notices, **values)
        return HTMLResponse(text, status, {"Cache-Control": "no-store"})


Handler = Callable[[Request], Awaitable[Response]]
PageHandler = Callable[[Request, Session], Awaitable[Response]]
FormHandler = Callable[[Request, Session, Form], Awaitable[Response]]


def console_of(request: Request) -> Console:
    """The console that a request came to."""
    console: Console = request.app.state.console
    return console


def transport_for(request: Request, console: Console) -> Transport:
    """Connections to the API that say whose browser asks: failed sign-ins are counted by address."""
    peer = request.client.host if request.client else ""
    chain = ", ".join(filter(None, [request.headers.get("x-forwarded-for", ""), peer]))
    return console.transport.with_headers({"X-Forwarded-For": chain})


def signed_in(handler: PageHandler) -> Handler:
    """A page for those who are signed in; the others are led to the sign-in."""

    async def page(request: Request) -> Response:
        console = console_of(request)
        session = console.sessions.find(request.cookies.get(console.cookie))
        if session is None:
            return to_sign_in(request)
        try:
            return await handler(request, session)
        except ApiProblem as problem:
            return refused(request, session, problem)

    return page


def form_of(handler: FormHandler) -> Handler:
    """A form of a page: sent by a page of ours, in the session that it was made for."""

    async def submitted(request: Request, session: Session) -> Response:
        try:
            form = await read_form(request)
            if not (is_from_own_page(request.headers) and session.is_own_form(form.text("csrf"))):
                return failure(
                    request, session, 403, "This form is not from your session. Load the page again."
                )
            return await handler(request, session, form)
        except BadForm as problem:
            return failure(request, session, 422, str(problem))

    return signed_in(submitted)


def done(session: Session, text: str, path: str) -> Response:
    """Go on to a page, which says what was done."""
    session.notices.append(Notice(text))
    return RedirectResponse(path, 303)


def to_sign_in(request: Request) -> Response:
    """Lead to the sign-in; a script that asked is told to."""
    asked = f"{request.url.path}{'?' + request.url.query if request.url.query else ''}"
    if "text/event-stream" in request.headers.get("accept", ""):
        return Response(None, 204)  # an EventSource does not come back after this
    if request.headers.get("hx-request"):
        return Response(None, 401, {"HX-Redirect": "/console/sign-in"})
    following = f"?next={quote(asked)}" if request.method == "GET" and asked != "/console/" else ""
    return RedirectResponse(f"/console/sign-in{following}", 303)


def refused(request: Request, session: Session, problem: ApiProblem) -> Response:
    """The page for what the API has refused."""
    console = console_of(request)
    if problem.code in _ENDED:
        console.sessions.end(request.cookies.get(console.cookie))
        return to_sign_in(request)
    status = problem.status if 400 <= problem.status < 500 else 502
    if problem.code == NO_ANSWER or status == 502:
        log.warning("the API did not answer", code=problem.code, page=request.url.path)
    return failure(request, session, status, *problem_lines(problem), code=problem.code)


def problem_lines(problem: ApiProblem) -> list[str]:
    """What the API said, for people: the whole, and each wrong place."""
    places = [
        f"{str(place.get('pointer') or place.get('parameter', '')).lstrip('#/')}: {place.get('detail', '')}"
        for place in problem.errors
    ]
    return [problem.detail, *places]


def failure(request: Request, session: Session | None, status: int, *lines: str, code: str = "") -> Response:
    """A page that says what is wrong and what to do."""
    page = console_of(request).page(
        request, session, "page/failure.html", status=status, lines=lines, code=code, status_code=status
    )
    page.status_code = status
    return page


class Observed:
    """ASGI middleware: the headers of every answer, its time, and a page for what nobody expected."""

    def __init__(self, app: Any) -> None:
        self._app = app

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started, is_begun = time.perf_counter(), False

        async def send_with_headers(message: Any) -> None:
            nonlocal is_begun
            if message["type"] == "http.response.start":
                is_begun = True
                known = {name for name, _ in message["headers"]}
                message["headers"] += [
                    (name.lower().encode(), value.encode())
                    for name, value in HEADERS.items()
                    if name.lower().encode() not in known
                ]
                route = scope.get("route")
                page = getattr(route, "path", "none")
                DURATION.labels(page, str(message["status"])).observe(time.perf_counter() - started)
            await send(message)

        try:
            await self._app(scope, receive, send_with_headers)
        except Exception:
            log.exception("page failed", path=scope["path"])
            if is_begun:
                raise
            text = "Something went wrong here. It was logged."
            await Response(text, 500, media_type="text/plain")(scope, receive, send_with_headers)
