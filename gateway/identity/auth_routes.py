"""Routes to register, to log in and out, and for the keys that verify access tokens."""

import base64
from typing import Annotated, Any
from urllib.parse import unquote_plus

from fastapi import APIRouter, Depends, Request
from starlette.responses import Response

from orderplane.gateway.http.body import check_media_type, read_body
from orderplane.gateway.http.client_address import client_address
from orderplane.gateway.http.documentation import BODY_PROBLEMS, FORM_PROBLEMS, body_doc, problem_docs
from orderplane.gateway.http.forms import FORM, read_form
from orderplane.gateway.http.problems import Problem
from orderplane.gateway.http.responses import json_response
from orderplane.gateway.identity.grants import AccountServices, GrantedTokens, GrantRefused
from orderplane.gateway.identity.requests import LoginForm, LogoutForm, RegisterRequest
from orderplane.gateway.identity.views import KeySetView, RegisteredView, TokenView, token_view
from orderplane.gateway.services import ServicesDep

router = APIRouter(tags=["identity"])


async def own_accounts(services: ServicesDep) -> AccountServices:
    """The services for our own accounts.

    Raises:
        Problem: `route_not_found`: an OpenID Connect issuer has the accounts.
    """
    if services.identity is None:
        raise Problem("route_not_found", "Accounts are kept by the issuer of the tokens, not here.")
    return services.identity


AccountsDep = Annotated[AccountServices, Depends(own_accounts)]


@router.post(
    "/api/auth/register",
    status_code=202,
    summary="Register a customer",
    responses={
        202: {
            "model": RegisteredView,
            "description": "Follow the link in the mail. The answer, and its time, are the same for an "
            "address that has an account.",
        },
        **problem_docs(*BODY_PROBLEMS, "route_not_found"),
    },
    openapi_extra=body_doc("RegisterRequest"),
)  # fmt: skip
async def register(request: Request, identity: AccountsDep) -> Response:
    """Ask for a customer's account. It is made as soon as the address is confirmed.

    The answer does not tell whether the address has an account; the mail to its owner does. A phone number
    gets a code by SMS once the account is made.
    """
    check_media_type(request.headers.get("Content-Type"))
    wanted = read_body(await request.body(), RegisterRequest).request
    identity.check_mailable(wanted.email)
    with identity.passwords.place() as place:
        await identity.message_limits.count_stranger(client_address(request, identity.trusted_proxies))
        password_hash = await place.hash(wanted.password)
    await identity.confirmations.register(
        wanted.merchant or identity.merchant, wanted.email, password_hash=password_hash, name=wanted.name,
        phone=wanted.phone,
    )  # fmt: skip
    return json_response({"detail": "Follow the link in the mail, then log in."}, status=202)


@router.post(
    "/api/auth/login",
    summary="Get an access token",
    responses={
        200: {"model": TokenView},
        **problem_docs(
            "invalid_request", "invalid_grant", "invalid_client", "unsupported_grant_type",
            "too_many_logins", *FORM_PROBLEMS, "route_not_found",
        ),
    },
    # Nothing works without, but the released document has it so, and a client need not know more.
    openapi_extra=body_doc("LoginForm", FORM, is_required=False),
)  # fmt: skip
async def log_in(request: Request, identity: AccountsDep) -> Response:
    """The token endpoint of OAuth 2.0 (RFC 6749), with three grants.

    Users send `password`, later `refresh_token`; each refresh token can be used once. Services send
    `client_credentials`. An access token is valid for 15 minutes and one merchant.
    """
    form = read_form(request.headers.get("Content-Type"), await request.body(), LoginForm)
    address = client_address(request, identity.trusted_proxies)
    try:
        merchant = _required(form.merchant or identity.merchant, "merchant")
        match _required(form.grant_type, "grant_type"):
            case "password":
                tokens = await identity.grants.password(
                    merchant, _required(form.username, "username"), _required(form.password, "password"),
                    scope=form.scope, address=address,
                )  # fmt: skip
            case "refresh_token":
                tokens = await identity.grants.refresh(_required(form.refresh_token, "refresh_token"))
            case "client_credentials":
                client_id, secret = _basic(request.headers.get("Authorization")) or (
                    form.client_id,
                    form.client_secret,
                )
                tokens = await identity.grants.client_credentials(
                    merchant, _required(client_id, "client_id"), _required(secret, "client_secret"),
                    scope=form.scope,
                )  # fmt: skip
            case _:
                raise GrantRefused(
                    "unsupported_grant_type", "Use password, refresh_token or client_credentials."
                )
    except GrantRefused as refusal:
        raise _refused(refusal) from refusal
    return _token_response(tokens)


@router.post(
    "/api/auth/logout",
    status_code=204,
    summary="Log out",
    responses={
        204: {"description": "All tokens of the login are invalid."},
        **problem_docs("invalid_request", *FORM_PROBLEMS, "route_not_found"),
    },
    openapi_extra=body_doc("LogoutForm", FORM),
)
async def log_out(request: Request, identity: AccountsDep) -> Response:
    """End a login by its refresh token (as RFC 7009); an unknown token is not an error.

    Its access tokens end, too.
    """
    form = read_form(request.headers.get("Content-Type"), await request.body(), LogoutForm)
    await identity.grants.log_out(form.refresh_token)
    return Response(None, 204, {"Cache-Control": "no-store"})


@router.get(
    "/.well-known/jwks.json",
    summary="The keys that sign access tokens",
    responses={
        200: {"model": KeySetView, "description": "A JSON Web Key Set (RFC 7517)."},
        **problem_docs("route_not_found"),
    },
)
async def key_set(identity: AccountsDep) -> Response:
    """The public keys. Cache them for a minute, and fetch them again for an unknown `kid`."""
    return json_response(identity.ring.public(), headers={"Cache-Control": "public, max-age=60"})


def _token_response(tokens: GrantedTokens) -> Response:
    return json_response(token_view(tokens), headers={"Pragma": "no-cache"})


def _required(value: str | None, name: str) -> str:
    if not value:
        raise GrantRefused("invalid_request", f"This grant needs the field {name}.")
    if "\0" in value:
        raise GrantRefused("invalid_request", f"The field {name} may have no zero bytes.")
    return value


def _refused(refusal: GrantRefused) -> Problem:
    extra: dict[str, Any] = {"error": refusal.error, "error_description": refusal.message}
    headers = {"Cache-Control": "no-store"}
    if refusal.error == "invalid_client":
        headers["WWW-Authenticate"] = 'Basic realm="orderplane"'
    return Problem(refusal.error, refusal.message, extra=extra, headers=headers)


def _basic(header: str | None) -> tuple[str, str] | None:
    """HTTP Basic credentials of a client, whose two parts are form-encoded (RFC 6749, 2.3.1)."""
    kind, _, text = (header or "").partition(" ")
    if kind.lower() != "basic":
        return None
    try:
        name, colon, secret = base64.b64decode(text.strip(), validate=True).decode().partition(":")
    except ValueError:  # not base64, or not UTF-8
        raise GrantRefused("invalid_client", "The Basic credentials cannot be read.") from None
    return (unquote_plus(name), unquote_plus(secret)) if colon else None
