"""Routes by which addresses are confirmed, changed, and used to set a new password."""

from fastapi import APIRouter, Request
from starlette.responses import Response

from orderplane.events.account_messages import AccountMessageKind
from orderplane.gateway.http.body import check_media_type, read_body
from orderplane.gateway.http.client_address import client_address
from orderplane.gateway.http.documentation import BODY_PROBLEMS, body_doc, problem_docs, protected_docs
from orderplane.gateway.http.problems import Problem
from orderplane.gateway.http.responses import json_response
from orderplane.gateway.identity.account_messages import Proof
from orderplane.gateway.identity.auth_routes import AccountsDep
from orderplane.gateway.identity.requests import (
    ConfirmEmailRequest,
    ConfirmPhoneRequest,
    ConfirmRegistrationRequest,
    EmailRequest,
    NewPasswordRequest,
    PasswordResetRequest,
)
from orderplane.gateway.identity.user_routes import MeDep, check_password, wrong_password
from orderplane.gateway.identity.user_store import new_user_id
from orderplane.gateway.identity.views import AskedView

router = APIRouter(tags=["identity"])


@router.post(
    "/api/auth/register/confirm",
    status_code=204,
    summary="Confirm a registration",
    responses={
        204: {"description": "The account is made; log in."},
        **problem_docs("invalid_confirmation", "wrong_password", *BODY_PROBLEMS, "route_not_found"),
    },
    openapi_extra=body_doc("ConfirmRegistrationRequest"),
)
async def confirm_registration(request: Request, identity: AccountsDep) -> Response:
    """Create the account of a registration.

    The link shows who reads the mailbox, the password who registered: whoever registers a stranger's address
    gets no account, and does not get one by the stranger's following the link either.
    """
    check_media_type(request.headers.get("Content-Type"))
    wanted = read_body(await request.body(), ConfirmRegistrationRequest).request
    with identity.passwords.place() as place:
        proof = await identity.messages.open_link(AccountMessageKind.REGISTRATION, wanted.token)
        known = await identity.confirmations.registered_password(proof.message) if proof else None
        if proof is None or known is None:
            raise _not_valid()
        is_right = await place.matches(wanted.password, known)
    if not is_right:
        raise Problem("wrong_password", "This is not the password of the registration. No account was made.")
    if not await identity.confirmations.create_account(proof, new_user_id()):
        raise _not_valid()
    return Response(None, 204)


@router.post(
    "/api/auth/password-reset",
    status_code=202,
    summary="Ask for a new password",
    responses={
        202: {
            "model": AskedView,
            "description": "The answer, and its time, are the same for an address without an account.",
        },
        **problem_docs(*BODY_PROBLEMS, "route_not_found"),
    },
    openapi_extra=body_doc("PasswordResetRequest"),
)
async def request_reset(request: Request, identity: AccountsDep) -> Response:
    """Send a link by which the owner of the address can set a new password within an hour."""
    check_media_type(request.headers.get("Content-Type"))
    wanted = read_body(await request.body(), PasswordResetRequest).request
    await identity.message_limits.count_stranger(client_address(request, identity.trusted_proxies))
    await identity.confirmations.request_reset(wanted.merchant or identity.merchant, wanted.email)
    return _asked("If the address has an account, a link is on its way to it.")


@router.post(
    "/api/auth/password-reset/confirm",
    status_code=204,
    summary="Set a new password",
    responses={
        204: {"description": "All logins have ended; log in with the new password."},
        **problem_docs("invalid_confirmation", *BODY_PROBLEMS, "route_not_found"),
    },
    openapi_extra=body_doc("NewPasswordRequest"),
)
async def reset_password(request: Request, identity: AccountsDep) -> Response:
    """Set a new password by the link in the mail. All logins and access tokens end."""
    check_media_type(request.headers.get("Content-Type"))
    wanted = read_body(await request.body(), NewPasswordRequest).request
    with identity.passwords.place() as place:
        proof = await identity.messages.open_link(AccountMessageKind.PASSWORD_RESET, wanted.token)
        if proof is None or proof.user_id is None:
            raise _not_valid()
        password_hash = await place.hash(wanted.new_password)
    if not await identity.confirmations.reset_password(proof, password_hash):
        raise _not_valid()
    identity.accounts.forget(proof.merchant, proof.user_id)
    # Whoever guesses at the account may not keep its owner out now.
    address = client_address(request, identity.trusted_proxies)
    await identity.throttle.succeeded(proof.merchant, proof.user_id, address)
    return Response(None, 204)


@router.put(
    "/api/users/me/email",
    status_code=202,
    summary="Change my address",
    responses={
        202: {
            "model": AskedView,
            "description": "The answer is the same for an address that has an account.",
        },
        **protected_docs("wrong_password", "too_many_logins", *BODY_PROBLEMS, "route_not_found"),
    },
    openapi_extra=body_doc("EmailRequest"),
)
async def change_email(request: Request, caller: MeDep, identity: AccountsDep) -> Response:
    """Send a link to the new address.

    Once the link was used, it takes the place of the present address, which is told. With the present
    address, if it is not confirmed yet, the link is sent again.
    """
    check_media_type(request.headers.get("Content-Type"))
    wanted = read_body(await request.body(), EmailRequest).request
    identity.check_mailable(wanted.email)
    checked = await check_password(request, caller, identity, wanted.current_password)
    await identity.message_limits.count_user(caller.merchant, caller.name)
    if not await identity.confirmations.propose_email(
        caller.merchant, caller.name, wanted.email, checked=checked
    ):
        raise wrong_password()
    return _asked("Follow the link in the mail.")


@router.post(
    "/api/users/me/email/confirm",
    status_code=204,
    summary="Confirm my address",
    responses={
        204: {"description": "The address is the account's."},
        **protected_docs("invalid_confirmation", *BODY_PROBLEMS, "route_not_found"),
    },
    openapi_extra=body_doc("ConfirmEmailRequest"),
)
async def confirm_email(request: Request, caller: MeDep, identity: AccountsDep) -> Response:
    """Confirm an address by the link in the mail, as the user who has named it.

    A stranger who follows the link confirms nothing: the address was perhaps mistyped.
    """
    check_media_type(request.headers.get("Content-Type"))
    wanted = read_body(await request.body(), ConfirmEmailRequest).request
    proof = await identity.messages.open_link(AccountMessageKind.NEW_EMAIL, wanted.token)
    is_own = proof is not None and (proof.merchant, proof.user_id) == (caller.merchant, caller.name)
    if proof is None or not is_own or not await identity.confirmations.confirm_email(proof, caller.login):
        raise _not_valid()
    return Response(None, 204)


@router.post(
    "/api/users/me/phone/confirm",
    status_code=204,
    summary="Confirm my phone number",
    responses={
        204: {"description": "The number is the account's."},
        **protected_docs("invalid_confirmation", *BODY_PROBLEMS, "route_not_found"),
    },
    openapi_extra=body_doc("ConfirmPhoneRequest"),
)
async def confirm_phone(request: Request, caller: MeDep, identity: AccountsDep) -> Response:
    """Confirm a number by the code in the newest SMS. A code can be tried five times, for ten minutes."""
    check_media_type(request.headers.get("Content-Type"))
    wanted = read_body(await request.body(), ConfirmPhoneRequest).request
    proof: Proof | None = await identity.messages.open_code(
        AccountMessageKind.NEW_PHONE, caller.merchant, caller.name, wanted.code
    )
    if proof is None or not await identity.confirmations.confirm_phone(proof, caller.login):
        raise _not_valid()
    return Response(None, 204)


def _asked(detail: str) -> Response:
    answer: AskedView = {"detail": detail}
    return json_response(answer, status=202)


def _not_valid() -> Problem:
    return Problem(
        "invalid_confirmation",
        "The link or code is wrong, was used or tried too often, or has expired. Ask for another one.",
    )
