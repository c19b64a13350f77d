"""Routes to register webhook endpoints, to read and change them, and to rotate their secrets."""

import base64
import secrets
from collections.abc import Sequence
from typing import Annotated, Any

import orjson
from fastapi import APIRouter, Depends, Header, Request
from starlette.responses import Response

from orderplane.adapters.webhook_endpoints.addresses import Networks
from orderplane.adapters.webhook_endpoints.secrets import EndpointSecrets, SecretUnreadable
from orderplane.events.standard_webhooks import new_secret
from orderplane.gateway import idempotency
from orderplane.gateway.http.body import (
    apply_merge_patch,
    check_media_type,
    parse_json,
    read_body,
    validate_json,
)
from orderplane.gateway.http.documentation import (
    BODY_PROBLEMS,
    KEY_PROBLEMS,
    REPLAYED_HEADER,
    IfNoneMatch,
    body_doc,
    keyed_doc,
    protected_docs,
)
from orderplane.gateway.http.problems import Problem, unavailable
from orderplane.gateway.http.responses import (
    idempotent_response,
    json_response,
    parse_etags,
    tagged_response,
)
from orderplane.gateway.idempotent_create import key_reused
from orderplane.gateway.principal import Principal, Scope, allowed
from orderplane.gateway.services import Services, ServicesDep
from orderplane.gateway.webhook_endpoints import views
from orderplane.gateway.webhook_endpoints.requests import (
    EndpointDetailsRequest,
    EndpointRequest,
    RotationRequest,
    document_of,
)
from orderplane.ledgers.postgres.idempotency import Effect, IdempotencyKey, KeyReused, StoredResponse
from orderplane.ledgers.postgres.session import Connection
from orderplane.ledgers.postgres.webhook_endpoints import (
    TooManyEndpoints,
    add_endpoint,
    rotate_secret,
)
from orderplane.ledgers.webhook_endpoints import (
    MOST_ENDPOINTS,
    EndpointDetails,
    WebhookEndpoint,
    check_url,
)

router = APIRouter(tags=["webhook endpoints"])

_MERGE_PATCH = "application/merge-patch+json"
Reader = Annotated[Principal, Depends(allowed(Scope.WEBHOOKS_READ))]
Writer = Annotated[Principal, Depends(allowed(Scope.WEBHOOKS_WRITE))]
_TAG = {"ETag": {"description": "For If-Match and If-None-Match.", "schema": {"type": "string"}}}
_LOCATION = {"Location": {"description": "The endpoint.", "schema": {"type": "string"}}}
_UNCHANGED: dict[int | str, dict[str, Any]] = {
    304: {"description": "The version of If-None-Match is still current."}
}


@router.get(
    "/api/webhook-endpoints",
    summary="List webhook endpoints",
    responses={200: {"model": views.WebhookEndpointListView}, **_UNCHANGED, **protected_docs()},
)
async def list_webhook_endpoints(
    caller: Reader, services: ServicesDep, if_none_match: IfNoneMatch = None
) -> Response:
    """The endpoints of the merchant, at most 20."""
    found = await services.webhook_endpoints.list(caller.merchant)
    return tagged_response(if_none_match, {"items": [views.endpoint_view(endpoint) for endpoint in found]})


@router.post(
    "/api/webhook-endpoints",
    status_code=201,
    summary="Register a webhook endpoint",
    responses={
        201: {"model": views.WebhookEndpointView, "headers": {**REPLAYED_HEADER, **_LOCATION}},
        **protected_docs("too_many_endpoints", *BODY_PROBLEMS, *KEY_PROBLEMS),
    },
    openapi_extra=keyed_doc("WebhookEndpointRequest"),
)
async def add_webhook_endpoint(request: Request, caller: Writer, services: ServicesDep) -> Response:
    """Have events sent to a URL, from now on: by POST, signed as Standard Webhooks says, at least once.

    `GET /api/webhook-endpoints/{endpoint_id}/secret` tells the secret. Answer with 2xx within the time-out;
    whatever else happens is tried again for a day. Events of one order may come in another order: compare
    `sequence`. An event may come twice: compare `webhook-id`.
    """
    key = idempotency.parse_key(request.headers.getlist("Idempotency-Key"))
    check_media_type(request.headers.get("Content-Type"))
    body = read_body(await request.body(), EndpointRequest)
    details = _checked(body.request.details(), services.endpoint_networks)
    stored = _endpoint_secrets(services).encrypt(body.request.secret or new_secret())
    id_ = f"we-{base64.b32encode(secrets.token_bytes(10)).decode().lower()}"

    async def effect(connection: Connection) -> StoredResponse:
        try:
            endpoint = await add_endpoint(
                connection, caller.merchant, id_, details, secret=stored, actor=caller.actor
            )
        except TooManyEndpoints:
            raise Problem(
                "too_many_endpoints", f"A merchant has {MOST_ENDPOINTS} at most. Delete one first."
            ) from None
        return response_of(201, views.endpoint_view(endpoint))

    answer = await once(services, caller, key, ["add endpoint", body.document], effect)
    if answer.status_code == 201:
        made = orjson.loads(bytes(answer.body))
        answer.headers["Location"] = f"/api/webhook-endpoints/{made['id']}"
    return answer


@router.get(
    "/api/webhook-endpoints/{endpoint_id}",
    summary="Read a webhook endpoint",
    responses={
        200: {"model": views.WebhookEndpointView, "headers": _TAG},
        **_UNCHANGED,
        **protected_docs("endpoint_not_found"),
    },
)
async def read_webhook_endpoint(
    endpoint_id: str, caller: Reader, services: ServicesDep, if_none_match: IfNoneMatch = None
) -> Response:
    """One endpoint, and whether it takes what is sent to it."""
    endpoint = await endpoint_of(services, caller, endpoint_id)
    return tagged_response(if_none_match, views.endpoint_view(endpoint))


@router.patch(
    "/api/webhook-endpoints/{endpoint_id}",
    summary="Change a webhook endpoint",
    responses={
        200: {"model": views.WebhookEndpointView, "headers": _TAG},
        **protected_docs("endpoint_not_found", "precondition_failed", *BODY_PROBLEMS),
    },
    openapi_extra=body_doc("WebhookEndpointPatch", _MERGE_PATCH, "application/json"),
)
async def change_webhook_endpoint(
    request: Request,
    endpoint_id: str,
    caller: Writer,
    services: ServicesDep,
    if_match: Annotated[
        str | None, Header(description="Change it only if this is still what a person has set.")
    ] = None,
) -> Response:
    """A JSON merge patch (RFC 7396). `enabled: true` enables one that was disabled because it failed.

    Other `eventTypes` hold for the events from now on.
    """
    check_media_type(request.headers.get("Content-Type"), _MERGE_PATCH)
    patch = parse_json(await request.body())

    def edit(endpoint: WebhookEndpoint) -> EndpointDetails:
        document = apply_merge_patch(document_of(endpoint), patch)
        # Before the version: an invalid request is invalid for every version.
        details = _checked(
            validate_json(document, EndpointDetailsRequest).details(), services.endpoint_networks
        )
        if if_match is not None and not {"*", _etag(endpoint)} & set(parse_etags(if_match)):
            raise Problem("precondition_failed", "Somebody changed the endpoint. Read it again, then decide.")
        return details

    changed = await services.webhook_endpoints.change(caller.merchant, checked_id(endpoint_id), edit)
    if changed is None:
        raise not_found()
    return json_response(views.endpoint_view(changed), headers={"ETag": _etag(changed)})


@router.delete(
    "/api/webhook-endpoints/{endpoint_id}",
    status_code=204,
    summary="Delete a webhook endpoint",
    responses={204: {"description": "It is deleted."}, **protected_docs("endpoint_not_found")},
)
async def delete_webhook_endpoint(endpoint_id: str, caller: Writer, services: ServicesDep) -> Response:
    """Send nothing there any more, and forget its secret."""
    if not await services.webhook_endpoints.delete(caller.merchant, checked_id(endpoint_id)):
        raise not_found()
    return Response(None, 204)


@router.get(
    "/api/webhook-endpoints/{endpoint_id}/secret",
    summary="Read a webhook endpoint's secret",
    responses={200: {"model": views.EndpointSecretView}, **protected_docs("endpoint_not_found")},
)
async def read_endpoint_secret(endpoint_id: str, caller: Writer, services: ServicesDep) -> Response:
    """A receiver checks by it that a request is ours; any library of Standard Webhooks takes it."""
    stored = await services.webhook_endpoints.secret(caller.merchant, checked_id(endpoint_id))
    if stored is None:
        raise not_found()
    try:
        secret = _endpoint_secrets(services).decrypt(stored.secret)
    except SecretUnreadable as problem:
        raise unavailable(f"It cannot be read now: {problem}.", retry_after=60) from None
    return json_response({"secret": secret, "previousSecretUntil": views.maybe_time(stored.previous_until)})


@router.post(
    "/api/webhook-endpoints/{endpoint_id}/secret/rotations",
    summary="Rotate a webhook endpoint's secret",
    responses={
        200: {"model": views.WebhookEndpointView, "headers": REPLAYED_HEADER},
        **protected_docs("endpoint_not_found", *BODY_PROBLEMS, *KEY_PROBLEMS),
    },
    openapi_extra=keyed_doc("SecretRotationRequest"),
)
async def rotate_endpoint_secret(
    request: Request, endpoint_id: str, caller: Writer, services: ServicesDep
) -> Response:
    """Replace the secret. For a while requests are signed by both, so that no receiver misses one.

    The one before the last is not used any more.
    """
    key = idempotency.parse_key(request.headers.getlist("Idempotency-Key"))
    check_media_type(request.headers.get("Content-Type"))
    body = read_body(await request.body(), RotationRequest)
    wanted = body.request
    stored = _endpoint_secrets(services).encrypt(wanted.secret or new_secret())

    async def effect(connection: Connection) -> StoredResponse:
        endpoint = await rotate_secret(
            connection, caller.merchant, checked_id(endpoint_id), secret=stored,
            overlap_seconds=wanted.overlap_seconds,
        )  # fmt: skip
        if endpoint is None:
            raise not_found()
        return response_of(200, views.endpoint_view(endpoint))

    return await once(services, caller, key, ["rotate", endpoint_id, body.document], effect)


async def once(
    services: Services, caller: Principal, key: str, identity: Sequence[Any], effect: Effect
) -> Response:
    """Do it once for each key, and answer with what was stored then.

    Args:
        identity: What the request is about; another one with the same key is refused.
    """
    ref = IdempotencyKey(caller.merchant, caller.name, idempotency.hash_key(key))
    fingerprint = idempotency.fingerprint(["webhook endpoints", *identity])
    try:
        return idempotent_response(await services.idempotency.once(ref, fingerprint, effect))
    except KeyReused:
        raise key_reused() from None


async def endpoint_of(services: Services, caller: Principal, endpoint_id: str) -> WebhookEndpoint:
    """An endpoint of the caller's merchant.

    Raises:
        Problem: `endpoint_not_found`.
    """
    endpoint = await services.webhook_endpoints.find(caller.merchant, checked_id(endpoint_id))
    if endpoint is None:
        raise not_found()
    return endpoint


def _checked(details: EndpointDetails, networks: Networks) -> EndpointDetails:
    try:
        check_url(details.url, is_private_allowed=bool(networks.inside))
    except ValueError as problem:
        places = [{"pointer": "#/url", "detail": f"{str(problem)[0].upper()}{str(problem)[1:]}."}]
        raise Problem("validation_failed", "Correct the fields in `errors`.", errors=places) from None
    return details


def _endpoint_secrets(services: Services) -> EndpointSecrets:
    if services.endpoint_secrets is None:
        raise unavailable(
            "Webhook endpoints are not offered here: whoever runs this has to set ORDERPLANE_ENDPOINT_KEYS.",
            retry_after=3600,
        )
    return services.endpoint_secrets


def response_of(status: int, view: Any) -> StoredResponse:
    return StoredResponse(status, orjson.dumps(view).decode())


def _etag(endpoint: WebhookEndpoint) -> str:
    return f'"{endpoint.version}"'


def checked_id(endpoint_id: str) -> str:
    """An id from a path; PostgreSQL takes no text with a zero byte."""
    if "\0" in endpoint_id:
        raise not_found()
    return endpoint_id


def not_found() -> Problem:
    """The problem for an id without an endpoint."""
    return Problem("endpoint_not_found", "There is no such endpoint. GET /api/webhook-endpoints lists them.")
