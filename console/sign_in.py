"""Sign in and out: by the accounts of the API, or at a provider of OpenID Connect."""

import secrets
from collections.abc import Awaitable, Callable
from contextlib import suppress

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from orderplane.client.accounts import Password, get_profile
from orderplane.client.client import Client
from orderplane.client.transport import ApiProblem
from orderplane.console.context import Console, console_of, failure, form_of, transport_for
from orderplane.console.forms import BadForm, Form, read_form
from orderplane.console.oidc import Attempt, ProviderTokens, SignInRefused
from orderplane.console.security import is_from_own_page, own_path
from orderplane.console.sessions import Session

_FORM_COOKIE = "orderplane-sign-in"
_ATTEMPT_COOKIE = "orderplane-provider"
_ATTEMPT_SECONDS = 600


async def show(request: Request) -> Response:
    """The page to sign in."""
    return _page(request, own_path(request.query_params.get("next")))


def _page(
    request: Request, following: str, *, problem: str = "", email: str = "", status: int = 200
) -> Response:
    console = console_of(request)
    # The form is bound to this browser by a cookie that it repeats: nobody is signed in by another's form.
    token = request.cookies.get(_FORM_COOKIE) or secrets.token_urlsafe(32)
    page = console.page(
        request, None, "page/sign-in.html", status=status, following=following, problem=problem, email=email,
        token=token, provider=console.provider.issuer if console.provider else None,
    )  # fmt: skip
    console.set_cookie(page, _FORM_COOKIE, token, strict=True)
    return page


async def by_password(request: Request) -> Response:
    """Sign in with an address and a password."""
    console = console_of(request)
    try:
        form = await read_form(request)
    except BadForm as problem:
        return _page(request, "/console/", problem=str(problem), status=422)
    following, email = own_path(form.text("next")), form.text("email")
    known = request.cookies.get(_FORM_COOKIE, "")
    if console.provider is not None or not (
        is_from_own_page(request.headers)
        and known
        and secrets.compare_digest(known.encode(), form.text("token").encode())
    ):
        return _page(request, following, problem="Try again: the form was too old.", email=email, status=403)
    client = Client(
        transport_for(request, console),
        Password(email, form.block("password"), form.text("merchant") or None),
    )
    try:
        await client.login.log_in()
        profile = await get_profile(client.caller)
        # From here on only the refresh token counts: the password is not kept.
        client = Client(transport_for(request, console), token_store=client.login.token_store)
        return await _begin(request, client, client.login.log_out, profile["email"], following)
    except ApiProblem as problem:
        status = problem.status if 400 <= problem.status < 500 else 502
        return _page(request, following, problem=problem.detail, email=email, status=status)


async def begin_at_provider(request: Request) -> Response:
    """Lead to the provider."""
    console = console_of(request)
    if console.provider is None:
        return RedirectResponse("/console/sign-in", 303)
    attempt = Attempt.begin(own_path(request.query_params.get("next")))
    try:
        response = RedirectResponse(await console.provider.address(attempt), 303)
    except SignInRefused as problem:
        return _page(request, attempt.next, problem=str(problem), status=502)
    console.set_cookie(response, _ATTEMPT_COOKIE, attempt.written(), seconds=_ATTEMPT_SECONDS)
    return response


async def back_from_provider(request: Request) -> Response:
    """The browser is back with a code, or with a reason why there is none."""
    console, query = console_of(request), request.query_params
    attempt = Attempt.read(request.cookies.get(_ATTEMPT_COOKIE))
    provider = console.provider
    if provider is None or attempt is None:
        return _page(request, "/console/", problem="Sign in again: that took too long.", status=403)
    is_answer = secrets.compare_digest(query.get("state", "").encode(), attempt.state.encode())
    is_from_it = query.get("iss", provider.issuer).rstrip("/") == provider.issuer
    response: Response
    if not (is_answer and is_from_it):
        response = _page(
            request, attempt.next, problem="Sign in again: the answer was for another attempt.", status=403
        )
    elif "code" not in query:
        response = _page(request, attempt.next, problem="The provider did not sign you in.", status=403)
    else:
        try:
            signed = await provider.redeem(query["code"], attempt)
            tokens = ProviderTokens(provider, signed.tokens)
            client = Client(transport_for(request, console), tokens=tokens)
            response = await _begin(request, client, _nothing, signed.user, attempt.next)
        except SignInRefused as problem:
            response = _page(request, attempt.next, problem=str(problem), status=403)
        except ApiProblem as problem:
            response = _page(request, attempt.next, problem=problem.detail, status=403)
    console.drop_cookie(response, _ATTEMPT_COOKIE)
    return response


async def _begin(
    request: Request,
    client: Client,
    log_out: Callable[[], Awaitable[None]],
    user: str,
    following: str,
) -> Response:
    """Begin a session for somebody who may use the console.

    Raises:
        ApiProblem: they may not.
    """
    console = console_of(request)
    try:
        overview = await client.operations.overview()
    except ApiProblem as problem:
        if problem.code == "insufficient_scope":
            with suppress(ApiProblem):
                await log_out()
            raise ApiProblem(403, problem.code, "This account is not one of the shop's staff.") from None
        raise
    is_admin = await _is_admin(client)
    await _end(request, console)
    identifier = console.sessions.begin(
        client, log_out, user=user, merchant=overview["merchant"], is_admin=is_admin
    )
    response = RedirectResponse(following, 303)
    console.set_cookie(response, console.cookie, identifier)
    console.drop_cookie(response, _FORM_COOKIE)
    return response


async def _is_admin(client: Client) -> bool:
    try:
        await client.staff.services(limit=1)
    except ApiProblem as problem:
        if problem.code in ("insufficient_scope", "route_not_found"):
            return False
        raise
    return True


async def sign_out(request: Request, _: Session, __: Form) -> Response:
    """End the session and its login."""
    console = console_of(request)
    await _end(request, console)
    response = RedirectResponse("/console/sign-in", 303)
    console.drop_cookie(response, console.cookie)
    return response


async def _end(request: Request, console: Console) -> None:
    session = console.sessions.end(request.cookies.get(console.cookie))
    if session is not None:
        with suppress(ApiProblem):
            await session.log_out()


async def _nothing() -> None:
    """An access token of another issuer ends by itself."""


async def not_found(request: Request, _: Exception) -> Response:
    """The page for an address that is none."""
    console = console_of(request)
    session = console.sessions.find(request.cookies.get(console.cookie))
    return failure(request, session, 404, "There is no such page.")


ROUTES = [
    Route("/console/sign-in", show, methods=["GET"]),
    Route("/console/sign-in", by_password, methods=["POST"]),
    Route("/console/sign-in/start", begin_at_provider, methods=["GET"]),
    Route("/console/sign-in/callback", back_from_provider, methods=["GET"]),
    Route("/console/sign-out", form_of(sign_out), methods=["POST"]),
]
