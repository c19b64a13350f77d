"""Routes for accounts: a user's own profile, and for admins the users of their merchant."""

import re
import time
from typing import Annotated

from fastapi import APIRouter, Depends, Query, Request
from starlette.responses import Response

from orderplane.gateway.http.body import check_media_type, read_body
from orderplane.gateway.http.client_address import client_address
from orderplane.gateway.http.cursors import cut_page, read_after
from orderplane.gateway.http.documentation import BODY_PROBLEMS, Cursor, body_doc, protected_docs
from orderplane.gateway.http.problems import Problem
from orderplane.gateway.http.responses import json_response
from orderplane.gateway.identity.auth_routes import AccountsDep
from orderplane.gateway.identity.grants import AccountServices
from orderplane.gateway.identity.login_throttle import Attempt
from orderplane.gateway.identity.requests import PasswordRequest, ProfileRequest, UserRequest
from orderplane.gateway.identity.user_store import EmailTaken, new_user_id
from orderplane.gateway.identity.views import UserListView, UserView, user_view
from orderplane.gateway.principal import Principal, Role, Scope, allowed, check_recent_login, invalid_token

router = APIRouter(tags=["identity"])

_CURSOR = "users"
_PROFILE_PROBLEMS = (*BODY_PROBLEMS, "user_not_found", "route_not_found")
_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,62}")
MeDep = Annotated[Principal, Depends(allowed(Scope.PROFILE))]
_Admin = Annotated[Principal, Depends(allowed(Scope.USERS_ADMIN))]


@router.get(
    "/api/users/me",
    summary="Read my profile",
    responses={200: {"model": UserView}, **protected_docs("user_not_found", "route_not_found")},
)
async def read_profile(caller: MeDep, identity: AccountsDep) -> Response:
    """The account of the token."""
    user = await identity.users.find(caller.merchant, caller.name)
    if user is None:
        raise user_not_found()
    return json_response(user_view(caller.merchant, user))


@router.patch(
    "/api/users/me",
    summary="Change my profile",
    responses={
        200: {"model": UserView},
        **protected_docs(*_PROFILE_PROBLEMS),
    },
    openapi_extra=body_doc("ProfileRequest"),
)
async def change_profile(request: Request, caller: MeDep, identity: AccountsDep) -> Response:
    """Change name, phone number and notification channels. The role and the merchant stay.

    Another phone number gets a code by SMS, to be sent to `/api/users/me/phone/confirm`.
    """
    check_media_type(request.headers.get("Content-Type"))
    wanted = read_body(await request.body(), ProfileRequest).request
    changes = wanted.model_dump(mode="json", exclude_unset=True)
    if changes.get("name", "") is None:
        changes["name"] = ""
    changes["preferences"] = {
        name: value for name, value in (changes.get("preferences") or {}).items() if value is not None
    }
    user = await identity.users.find(caller.merchant, caller.name)
    phone = changes.get("phone")
    if user is not None and phone is not None:
        changes.pop("phone")
        if phone != user.phone:
            await identity.message_limits.count_user(caller.merchant, caller.name)
            await identity.confirmations.propose_phone(caller.merchant, caller.name, phone)
    user = await identity.users.change(caller.merchant, caller.name, changes)
    if user is None:
        raise user_not_found()
    return json_response(user_view(caller.merchant, user))


@router.delete(
    "/api/users/me",
    status_code=204,
    summary="Delete my account",
    responses={
        204: {"description": "Deleted; all tokens of the user are invalid."},
        **protected_docs("login_too_old", "route_not_found"),
    },
)
async def delete_profile(caller: MeDep, identity: AccountsDep) -> Response:
    """Erase my personal data. My orders go on and cannot be traced to me any more.

    Needs a login of the last ten minutes: a stolen access token must not be enough.
    """
    check_recent_login(caller, time.time())
    if not await identity.users.delete(caller.merchant, caller.name, login=caller.login, actor=caller.actor):
        raise invalid_token("The login of this token has ended. Log in again.")
    identity.accounts.forget(caller.merchant, caller.name)
    return Response(None, 204)


@router.put(
    "/api/users/me/password",
    status_code=204,
    summary="Change my password",
    responses={
        204: {"description": "All logins have ended; log in with the new password."},
        **protected_docs("wrong_password", "too_many_logins", *_PROFILE_PROBLEMS),
    },
    openapi_extra=body_doc("PasswordRequest"),
)
async def change_password(request: Request, caller: MeDep, identity: AccountsDep) -> Response:
    """Needs the current password: a stolen access token must not be enough to take over an account."""
    check_media_type(request.headers.get("Content-Type"))
    wanted = read_body(await request.body(), PasswordRequest).request
    checked = await check_password(request, caller, identity, wanted.current_password)
    password_hash = await identity.passwords.hash(wanted.new_password)
    if not await identity.confirmations.change_password(
        caller.merchant, caller.name, password_hash, checked=checked
    ):
        raise wrong_password()
    identity.accounts.forget(caller.merchant, caller.name)
    return Response(None, 204)


@router.delete(
    "/api/users/me/logins",
    status_code=204,
    summary="Log out everywhere",
    responses={
        204: {"description": "All logins have ended, this one too."},
        **protected_docs("route_not_found"),
    },
)
async def end_logins(caller: MeDep, identity: AccountsDep) -> Response:
    """End all my logins; their access tokens end, too."""
    await identity.logins.revoke_all(caller.merchant, caller.name)
    identity.accounts.forget(caller.merchant, caller.name)
    return Response(None, 204)


@router.get(
    "/api/users",
    summary="List users",
    responses={
        200: {"model": UserListView},
        **protected_docs("invalid_cursor", "validation_failed", "route_not_found"),
    },
)
async def list_users(
    caller: _Admin,
    identity: AccountsDep,
    limit: Annotated[int, Query(ge=1, le=200, description="Users per page.")] = 50,
    cursor: Cursor = None,
) -> Response:
    """All users of the merchant, by id."""
    after = read_after(_CURSOR, cursor)
    users = await identity.users.page(caller.merchant, after=after, limit=limit + 1)
    page, following = cut_page(users, limit, _CURSOR, lambda last: {"after": last.id})
    return json_response({"items": [user_view(caller.merchant, user) for user in page], "next": following})


@router.post(
    "/api/users",
    status_code=201,
    summary="Make a user",
    responses={
        201: {
            "model": UserView,
            "headers": {"Location": {"description": "The user.", "schema": {"type": "string"}}},
        },
        **protected_docs("login_too_old", "email_taken", *BODY_PROBLEMS, "route_not_found"),
    },
    openapi_extra=body_doc("UserRequest"),
)  # fmt: skip
async def make_user(request: Request, caller: _Admin, identity: AccountsDep) -> Response:
    """Create an account of any role but `service`, for the admin's own merchant.

    The user confirms the address by a link in a mail, logged in. Needs a login of the last ten minutes: a
    stolen access token must not become an account that stays.
    """
    check_recent_login(caller, time.time())
    check_media_type(request.headers.get("Content-Type"))
    wanted = read_body(await request.body(), UserRequest).request
    if wanted.role is Role.SERVICE:
        places = [{"pointer": "#/role", "detail": "A service is a client, not a user."}]
        raise Problem("validation_failed", "Correct the fields in `errors`.", errors=places)
    identity.check_mailable(wanted.email)
    password_hash = await identity.passwords.hash(wanted.password)
    try:
        user = await identity.users.add(
            caller.merchant, new_user_id(), email=wanted.email, password_hash=password_hash,
            role=wanted.role.value, name=wanted.name, actor=caller.actor,
        )  # fmt: skip
    except EmailTaken:
        raise Problem("email_taken", "A user of this merchant has this address already.") from None
    await identity.confirmations.propose_email(caller.merchant, user.id, user.email, checked=password_hash)
    location = {"Location": f"/api/users/{user.id}"}
    return json_response(user_view(caller.merchant, user), status=201, headers=location)


@router.get(
    "/api/users/{user_id}",
    summary="Read a user",
    responses={200: {"model": UserView}, **protected_docs("user_not_found", "route_not_found")},
)
async def read_user(user_id: str, caller: _Admin, identity: AccountsDep) -> Response:
    """One user of the merchant."""
    user = await identity.users.find(caller.merchant, _id(user_id))
    if user is None:
        raise user_not_found()
    return json_response(user_view(caller.merchant, user))


@router.delete(
    "/api/users/{user_id}",
    status_code=204,
    summary="Delete a user",
    responses={
        204: {"description": "Deleted; all tokens of the user are invalid."},
        **protected_docs("login_too_old", "user_not_found", "route_not_found"),
    },
)
async def delete_user(user_id: str, caller: _Admin, identity: AccountsDep) -> Response:
    """Erase a user's personal data. Their orders go on. Needs a login of the last ten minutes."""
    check_recent_login(caller, time.time())
    if not await identity.users.delete(caller.merchant, _id(user_id), actor=caller.actor):
        raise user_not_found()
    identity.accounts.forget(caller.merchant, user_id)
    return Response(None, 204)


async def check_password(
    request: Request, caller: Principal, identity: AccountServices, password: str
) -> str:
    """Require the caller's own password; the hash that it was compared with.

    The account may have another one before the caller's request takes effect: its transaction looks again.

    Raises:
        Problem: `wrong_password`, `too_many_logins`, `overloaded`.
    """
    attempt = Attempt(caller.merchant, caller.name, client_address(request, identity.trusted_proxies))
    await identity.throttle.check(attempt)
    known = await identity.users.password_hash(caller.merchant, caller.name)
    if not await identity.passwords.matches(password, known) or known is None:
        await identity.throttle.failed(attempt)
        raise wrong_password()
    return known


def wrong_password() -> Problem:
    """The problem for a password that is not the caller's, or not any more."""
    return Problem("wrong_password", "The current password is another one. Nothing was changed.")


def _id(text: str) -> str:
    """Check the form of an id before the database is asked."""
    if not _ID.fullmatch(text):
        raise user_not_found()
    return text


def user_not_found() -> Problem:
    """The problem for a user who does not exist."""
    return Problem("user_not_found", "There is no such user, or it was deleted.")
