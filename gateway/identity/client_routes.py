"""Routes for the services of a merchant, which call on their own behalf: for admins."""

import re
import time
from typing import Annotated

from fastapi import APIRouter, Depends, Query, Request
from starlette.responses import Response

from orderplane.gateway.http.body import check_media_type, read_body
from orderplane.gateway.http.cursors import cut_page, read_after
from orderplane.gateway.http.documentation import BODY_PROBLEMS, Cursor, body_doc, protected_docs
from orderplane.gateway.http.problems import Problem
from orderplane.gateway.http.responses import json_response
from orderplane.gateway.identity.auth_routes import AccountsDep
from orderplane.gateway.identity.grants import new_secret
from orderplane.gateway.identity.requests import ClientRequest
from orderplane.gateway.identity.user_store import new_client_id
from orderplane.gateway.identity.views import ClientListView, NewClientView, client_view
from orderplane.gateway.principal import Principal, Scope, allowed, check_recent_login

router = APIRouter(tags=["identity"])

_CURSOR = "clients"
_ID = re.compile(r"c-[a-z0-9]{1,60}")
_Admin = Annotated[Principal, Depends(allowed(Scope.USERS_ADMIN))]


@router.get(
    "/api/clients",
    summary="List services",
    responses={
        200: {"model": ClientListView},
        **protected_docs("invalid_cursor", "validation_failed", "route_not_found"),
    },
)
async def list_clients(
    caller: _Admin,
    identity: AccountsDep,
    limit: Annotated[int, Query(ge=1, le=200, description="Services per page.")] = 50,
    cursor: Cursor = None,
) -> Response:
    """All services of the merchant that can log in, by id."""
    after = read_after(_CURSOR, cursor)
    clients = await identity.users.clients(caller.merchant, after=after, limit=limit + 1)
    page, following = cut_page(clients, limit, _CURSOR, lambda last: {"after": last.id})
    return json_response({"items": [client_view(client) for client in page], "next": following})


@router.post(
    "/api/clients",
    status_code=201,
    summary="Make a service",
    responses={
        201: {"model": NewClientView, "description": "Its secret is shown once, here."},
        **protected_docs("login_too_old", *BODY_PROBLEMS, "route_not_found"),
    },
    openapi_extra=body_doc("ClientRequest"),
)
async def make_client(request: Request, caller: _Admin, identity: AccountsDep) -> Response:
    """Create the credentials of a service (RFC 6749, 4.4). Needs a login of the last ten minutes: a stolen
    access token must not become access that stays.
    """
    check_recent_login(caller, time.time())
    check_media_type(request.headers.get("Content-Type"))
    wanted = read_body(await request.body(), ClientRequest).request
    secret, secret_hash = new_secret()
    client = await identity.users.add_client(
        caller.merchant, new_client_id(), name=wanted.name, secret_hash=secret_hash, actor=caller.actor
    )
    return json_response({**client_view(client), "secret": secret}, status=201)


@router.delete(
    "/api/clients/{client_id}",
    status_code=204,
    summary="Revoke a service",
    responses={
        204: {"description": "Its secret and all of its tokens are invalid."},
        **protected_docs("login_too_old", "client_not_found", "route_not_found"),
    },
)
async def revoke_client(client_id: str, caller: _Admin, identity: AccountsDep) -> Response:
    """End the access of a service. Needs a login of the last ten minutes."""
    check_recent_login(caller, time.time())
    is_id = _ID.fullmatch(client_id) is not None
    if not is_id or not await identity.users.revoke_client(caller.merchant, client_id, actor=caller.actor):
        raise Problem("client_not_found", "There is no such service, or it was revoked.")
    identity.accounts.forget(caller.merchant, client_id)
    return Response(None, 204)
