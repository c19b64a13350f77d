"""What a user sees and changes of themselves."""

from typing import Annotated

from fastapi import APIRouter, Depends, Request
from starlette.responses import Response

from orderplane.gateway.http.address import client_address
from orderplane.gateway.http.body import check_media_type, read_body
from orderplane.gateway.http.problems import Problem
from orderplane.gateway.http.responses import guarded_docs, json_response
from orderplane.gateway.identity.auth import IdentityDep
from orderplane.gateway.identity.requests import PasswordRequest, ProfileRequest
from orderplane.gateway.identity.views import UserView, user_view
from orderplane.gateway.principal import Principal, Scope, allowed

router = APIRouter(tags=["identity"])

_Me = Annotated[Principal, Depends(allowed(Scope.PROFILE))]
_BODY_PROBLEMS = (
    "invalid_json", "request_timeout", "body_too_large", "unsupported_media_type", "validation_failed",
    "user_not_found", "route_not_found",
)  # fmt: skip


@router.get(
    "/api/users/me",
    summary="Read my profile",
    responses={200: {"model": UserView}, **guarded_docs("user_not_found", "route_not_found")},
)
async def read_profile(caller: _Me, identity: IdentityDep) -> Response:
    """The account of the token."""
    person = await identity.people.find(caller.merchant, caller.name)
    if person is None:
        raise gone()
    return json_response(user_view(caller.merchant, person))


@router.patch(
    "/api/users/me",
    summary="Change my profile",
    responses={200: {"model": UserView}, **guarded_docs(*_BODY_PROBLEMS)},
    openapi_extra={
        "requestBody": {
            "required": True,
            "content": {"application/json": {"schema": {"$ref": "#/components/schemas/ProfileRequest"}}},
        }
    },
)
async def change_profile(request: Request, caller: _Me, identity: IdentityDep) -> Response:
    """Name, phone number, and through which channels to be told. The role and the merchant stay."""
    check_media_type(request.headers.get("Content-Type"))
    wanted = read_body(await request.body(), ProfileRequest).request
    changes = wanted.model_dump(mode="json", exclude_unset=True)
    if changes.get("name", "") is None:
        changes["name"] = ""
    changes["preferences"] = {
        name: value for name, value in (changes.get("preferences") or {}).items() if value is not None
    }
    person = await identity.people.change(caller.merchant, caller.name, changes)
    if person is None:
        raise gone()
    return json_response(user_view(caller.merchant, person))


@router.delete(
    "/api/users/me",
    status_code=204,
    summary="Delete my account",
    responses={204: {"description": "Gone, and every token with it."}, **guarded_docs("route_not_found")},
)
async def delete_profile(caller: _Me, identity: IdentityDep) -> Response:
    """Forget who I am. My orders go on, and nobody can tell whose they were."""
    await identity.people.delete(caller.merchant, caller.name)
    return Response(None, 204)


@router.put(
    "/api/users/me/password",
    status_code=204,
    summary="Change my password",
    responses={
        204: {"description": "Every login has ended; log in with the new one."},
        **guarded_docs("wrong_password", "too_many_logins", *_BODY_PROBLEMS),
    },
    openapi_extra={
        "requestBody": {
            "required": True,
            "content": {"application/json": {"schema": {"$ref": "#/components/schemas/PasswordRequest"}}},
        }
    },
)
async def change_password(request: Request, caller: _Me, identity: IdentityDep) -> Response:
    """Needs the current one: a token alone, left on a screen, is not enough to take an account over."""
    check_media_type(request.headers.get("Content-Type"))
    wanted = read_body(await request.body(), PasswordRequest).request
    address = client_address(request, identity.trusted_proxies)
    await identity.throttle.check(caller.merchant, caller.name, address)
    known = await identity.people.password_hash(caller.merchant, caller.name)
    if not await identity.passwords.is_right(wanted.current_password, known):
        await identity.throttle.failed(caller.merchant, caller.name, address)
        raise Problem("wrong_password", "The current password is another one. Nothing was changed.")
    password_hash = await identity.passwords.hash(wanted.new_password)
    await identity.people.set_password(caller.merchant, caller.name, password_hash, end_logins=True)
    return Response(None, 204)


def gone() -> Problem:
    """The refusal for a user who is not there."""
    return Problem("user_not_found", "There is no such user, or it was deleted.")
