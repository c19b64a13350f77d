"""Create a resource at most once per idempotency key, whatever crashes in between.

    build the manifest -> insert the key's row with it -> create the resource -> store the response

A row without a response is resumed by the next request with its key. That request looks for the resource
first and then for its ledger row. An Order cannot disappear before its gate row exists, because of its
finalizer; so if neither is found, in this order, it was never created. A Reservation can be deleted in the
moment before stock is held for it; then nothing was held, and creating it again holds the stock once.

A row that has no response after a day loses its manifest (`ledgers/postgres/retention.py`), and is not
resumed any more.
"""

import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from enum import Enum, auto
from typing import Any, Protocol

import structlog

from orderplane.crds.api_errors import (
    AlreadyExists,
    ApiError,
    Forbidden,
    Invalid,
    NotFound,
    Overloaded,
    Unavailable,
)
from orderplane.crds.documents import Manifest, ResourceDocument
from orderplane.crds.meta import Kind
from orderplane.gateway.http.problems import Problem, unavailable
from orderplane.ledgers.postgres.idempotency import (
    Claim,
    IdempotencyKey,
    IdempotencyRecord,
    IdempotentResponse,
    StoredResponse,
)

LEASE_SECONDS = 20.0
"""Lifetime of a claim. Longer than CREATE_WITHIN, the timeout of the API client (5 s) and a delayed packet
together: when a claim has expired, its create has landed or never will."""
CREATE_WITHIN = 5.0
"""A create that did not start this soon after the claim is not sent at all."""
SETTLE_SECONDS = 2.0
"""How long a create without a response may still take effect in the API server."""

log = structlog.get_logger(__name__)


class IdempotencyStore(Protocol):
    """What is needed of `PostgresIdempotencyStore`."""

    async def find(self, ref: IdempotencyKey) -> IdempotencyRecord | None: ...
    async def claim(
        self, ref: IdempotencyKey, *, fingerprint: bytes, manifest: Manifest, seconds: float
    ) -> Claim | None: ...
    async def take_over(self, ref: IdempotencyKey, attempt: int, *, seconds: float) -> Claim | None: ...
    async def end_claim(self, claim: Claim, *, seconds: float) -> None: ...
    async def delete(self, claim: Claim) -> None: ...
    async def store(self, ref: IdempotencyKey, response: StoredResponse) -> StoredResponse: ...
    async def created_uid(self, kind: Kind, merchant: str, name: str) -> str | None: ...


class ResourceApi(Protocol):
    """What is needed of `ApiClient`."""

    async def create(self, kind: Kind, namespace: str, body: Mapping[str, Any]) -> Any: ...
    async def get(self, kind: Kind, namespace: str, name: str) -> Any: ...


@dataclass(frozen=True, slots=True)
class CreateRequest:
    """A request to create one resource.

    Args:
        immutable_fields: The fields of the spec that identify an existing resource as the requested one.
        build: Builds the manifest; raises `Problem` if the request must be refused. It is also called for a
            repeat, whose stored response then takes precedence.
        discard: Called if the manifest is not needed, because the request was a repeat.
        respond: The response for the created resource, by its uid and manifest. It may be called again, also
            by another process, so it must depend on nothing else.
        on_created: Called with the resource as this process has created it.
    """

    kind: Kind
    immutable_fields: tuple[str, ...]
    build: Callable[[], Awaitable[Manifest]]
    discard: Callable[[], None]
    respond: Callable[[str, Manifest], Awaitable[StoredResponse]]
    on_created: Callable[[ResourceDocument], None] = lambda _: None

    def is_same(self, found: ResourceDocument, manifest: Manifest) -> bool:
        """Whether an existing resource is the one of this manifest; mutable fields may have changed since."""
        spec = found["spec"]
        return all(spec.get(field) == manifest["spec"].get(field) for field in self.immutable_fields)


class RepeatAction(Enum):
    """What to do with a request that is not the first one with its key."""

    REPLAY = auto()
    RESUME = auto()
    WAIT = auto()
    EXPIRE = auto()
    REFUSE = auto()


def repeat_action(record: IdempotencyRecord | None, fingerprint: bytes) -> RepeatAction:
    """What the key's row demands. Pure.

    Another body is refused before anything else, so that its sender learns nothing of the other request.

    Args:
        record: None if the first request has just failed and removed its row.
    """
    if record is None:
        return RepeatAction.WAIT
    if record.fingerprint != fingerprint:
        return RepeatAction.REFUSE
    if record.response is not None:
        return RepeatAction.REPLAY
    if record.is_claimed:
        return RepeatAction.WAIT
    return RepeatAction.EXPIRE if record.manifest is None else RepeatAction.RESUME


class IdempotentCreate:
    """Creates resources, each at most once per idempotency key. Holds no state."""

    def __init__(self, store: IdempotencyStore, api: ResourceApi) -> None:
        self._store = store
        self._api = api

    async def execute(
        self, ref: IdempotencyKey, fingerprint: bytes, request: CreateRequest
    ) -> IdempotentResponse:
        """Carry out one request, or replay the response of an earlier one with its key.

        Nearly every request is the first with its key, so the row is inserted before it is looked for.

        Raises:
            Problem: nothing was created, or another request is creating it, or the outcome is not known yet;
                the code says which.
            Transient: the database did not answer.
        """
        try:
            manifest = await request.build()
        except Problem:
            # A repeat gets the response of the first request, also if a new request would be refused now.
            record = await self._store.find(ref)
            if record is None:
                raise
        else:
            started_at = time.monotonic()
            claim = await self._store.claim(
                ref, fingerprint=fingerprint, manifest=manifest, seconds=LEASE_SECONDS
            )
            if claim is not None:
                return await self._create(request, claim, manifest, started_at)
            request.discard()
            record = await self._store.find(ref)
        action = repeat_action(record, fingerprint)
        if action is RepeatAction.REFUSE:
            raise key_reused()
        if action is RepeatAction.REPLAY:
            assert record is not None
            assert record.response is not None
            return IdempotentResponse(record.response, is_replayed=True)
        if action is RepeatAction.EXPIRE:
            raise _expired(request.kind)
        if action is RepeatAction.RESUME:
            assert record is not None
            started_at = time.monotonic()
            claim = await self._store.take_over(ref, record.attempt, seconds=LEASE_SECONDS)
            if claim is not None:
                assert record.manifest is not None
                return await self._resume(request, claim, record.manifest, started_at)
        raise Problem(
            "request_in_progress",
            "The first request with this key is not answered yet. Repeat this one shortly.",
            headers={"Retry-After": "1"},
        )

    async def _resume(
        self, request: CreateRequest, claim: Claim, manifest: Manifest, started_at: float
    ) -> IdempotentResponse:
        merchant, name = claim.ref.merchant, manifest["metadata"]["name"]
        try:
            found: ResourceDocument | None = await self._api.get(request.kind, merchant, name)
        except NotFound:
            found = None
        except ApiError as error:
            await self._store.end_claim(claim, seconds=0)
            raise _api_unavailable(error) from error
        if found is not None:
            return await self._respond_existing(request, claim, manifest, found)
        uid = await self._store.created_uid(request.kind, merchant, name)
        if uid is not None:
            log.info("created earlier and deleted since", kind=request.kind, name=name, uid=uid)
            return await self._respond(request, claim.ref, uid, manifest)
        return await self._create(request, claim, manifest, started_at)

    async def _create(
        self, request: CreateRequest, claim: Claim, manifest: Manifest, started_at: float
    ) -> IdempotentResponse:
        merchant, name = claim.ref.merchant, manifest["metadata"]["name"]
        if time.monotonic() - started_at > CREATE_WITHIN:
            await self._store.end_claim(claim, seconds=0)
            raise unavailable("The database is slow; nothing was made. Repeat the request.")
        try:
            created: ResourceDocument = await self._api.create(request.kind, merchant, manifest)
        except AlreadyExists:
            found = await self._existing(request.kind, claim, name)
            return await self._respond_existing(request, claim, manifest, found)
        except (Overloaded, Forbidden) as error:
            await self._store.end_claim(claim, seconds=0)
            raise _api_unavailable(error) from error
        except Unavailable as error:
            await self._store.end_claim(claim, seconds=SETTLE_SECONDS)
            raise unavailable(
                "The API server did not answer. Repeat the request with the same key and body: "
                "it will be done once.",
                SETTLE_SECONDS,
            ) from error
        except Invalid as error:
            await self._store.delete(claim)
            raise refused(request.kind, error) from error
        except NotFound as error:
            await self._store.delete(claim)
            raise _no_namespace() from error
        except ApiError:
            await self._store.delete(claim)
            raise
        request.on_created(created)
        uid = created["metadata"]["uid"]
        log.info("accepted", kind=request.kind, name=name, uid=uid)
        return await self._respond(request, claim.ref, uid, manifest)

    async def _existing(self, kind: Kind, claim: Claim, name: str) -> ResourceDocument:
        try:
            found: ResourceDocument = await self._api.get(kind, claim.ref.merchant, name)
        except ApiError as error:
            # Also NotFound: it was deleted between the two calls, and the next request finds its ledger row.
            await self._store.end_claim(claim, seconds=0)
            raise _api_unavailable(error) from error
        return found

    async def _respond_existing(
        self, request: CreateRequest, claim: Claim, manifest: Manifest, found: ResourceDocument
    ) -> IdempotentResponse:
        if not request.is_same(found, manifest):
            await self._store.delete(claim)
            noun = request.kind.lower()
            raise Problem(
                f"{noun}_name_taken",
                f"The {noun} {found['metadata']['name']} exists and is not this one. Somebody made it by "
                "another way; use a new key.",
            )
        return await self._respond(request, claim.ref, found["metadata"]["uid"], manifest)

    async def _respond(
        self, request: CreateRequest, ref: IdempotencyKey, uid: str, manifest: Manifest
    ) -> IdempotentResponse:
        response = await request.respond(uid, manifest)
        return IdempotentResponse(await self._store.store(ref, response), is_replayed=False)


def key_reused() -> Problem:
    """The problem for a key that belongs to another request."""
    return Problem(
        "idempotency_key_reused",
        "This key was used for a request with another body. Send a new key with a new request.",
    )


def _expired(kind: Kind) -> Problem:
    noun = kind.lower()
    return Problem(
        "request_expired",
        f"The first request with this key was not answered within a day. It may have made the {noun}: look "
        "for it, and if it is not there, send the request with a new key.",
    )


def refused(kind: Kind, error: Invalid) -> Problem:
    """The problem for a rule of the cluster that the gateway does not know.

    It names the fields only: the API server's messages may repeat values.
    """
    places = tuple(
        {"pointer": field_pointer(str(cause["field"])), "detail": "The cluster refuses this value."}
        for cause in error.causes
        if cause.get("field")
    )
    noun = kind.lower()
    return Problem(
        f"{noun}_refused", f"The cluster's rules refuse this {noun}. Nothing was made.", errors=places
    )


def field_pointer(path: str) -> str:
    """The field path `spec.items[0].sku` of the API server as `#/items/0/sku` of the request body."""
    parts = path.removeprefix("spec.").replace("[", ".").replace("]", "").split(".")
    return "#/" + "/".join(parts)


def _no_namespace() -> Problem:
    return Problem(
        "no_namespace",
        "Nothing was made: this merchant is not set up in the cluster. Ask whoever runs it to make the "
        "merchant's namespace, then repeat the request.",
    )


def _api_unavailable(error: ApiError) -> Problem:
    code = "overloaded" if isinstance(error, Overloaded) else "unavailable"
    return unavailable(
        "The API server cannot take it now. Repeat the request with the same key.",
        error.retry_after,
        code=code,
    )
