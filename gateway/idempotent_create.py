"""How an order, or a reservation, is accepted: at most one per key, whatever crashes in between.

    price -> row with the whole resource -> the resource -> answer into the row -> the answer

A row without an answer is finished by the next request with its key. It looks for the resource first and
then for its ledger row: an Order cannot leave before its gate row is there (its finalizer sees to that), so
finding neither, in this order, means that there never was one. A Reservation can, if somebody deletes it in
the moment before stock is held for it; then nothing was held, and making it anew holds it once.
"""

import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from enum import Enum, auto
from typing import Any, Protocol

import structlog

from orderplane.crds.api_errors import (
    AlreadyExists,
    ApiError,
    Invalid,
    NamespaceTerminating,
    NotFound,
    Overloaded,
    Unavailable,
)
from orderplane.crds.meta import Kind
from orderplane.gateway.http.problems import Problem, unavailable
from orderplane.ledgers.postgres.idempotency import (
    Claim,
    IdempotencyKey,
    IdempotencyRecord,
    IdempotentResponse,
    StoredResponse,
)

Json = dict[str, Any]

LEASE_SECONDS = 20.0
"""A claim. Longer than CREATE_WITHIN, the client's time-out (5 s) and a stray packet together."""
CREATE_WITHIN = 5.0
"""A create that was not begun this soon after the claim is not begun at all."""
SETTLE_SECONDS = 2.0
"""How long a create that was not answered may still land in the API server."""

log = structlog.get_logger(__name__)


class IdempotencyStore(Protocol):
    """What is needed of `PostgresIdempotency`."""

    async def find(self, ref: IdempotencyKey) -> IdempotencyRecord | None: ...
    async def claim(
        self, ref: IdempotencyKey, *, fingerprint: bytes, manifest: Json, seconds: float
    ) -> Claim | None: ...
    async def take_over(self, ref: IdempotencyKey, attempt: int, *, seconds: float) -> Claim | None: ...
    async def give_up(self, claim: Claim, *, seconds: float) -> None: ...
    async def forget(self, claim: Claim) -> None: ...
    async def store(self, ref: IdempotencyKey, answer: StoredResponse) -> StoredResponse: ...
    async def created_uid(self, kind: Kind, merchant: str, name: str) -> str | None: ...


class Resources(Protocol):
    """What is needed of `ApiClient`."""

    async def create(self, kind: Kind, namespace: str, body: Json) -> Json: ...
    async def get(self, kind: Kind, namespace: str, name: str) -> Json: ...


@dataclass(frozen=True, slots=True)
class CreateRequest:
    """What a request asks to be made.

    Args:
        immutable: The fields of the spec by which an existing resource is known to be this one.
        write: Writes the whole resource; raises `Problem` where that cannot be. Asked for a repeat as well,
            which is then told what the first was told.
        drop: Told that what was written is not needed, for it was a repeat.
        answer: What to say of the one that was made, by its uid and manifest. Asked again, also by another
            process after this one died.
    """

    kind: Kind
    immutable: tuple[str, ...]
    write: Callable[[], Awaitable[Json]]
    drop: Callable[[], None]
    answer: Callable[[str, Json], Awaitable[StoredResponse]]

    def is_same(self, found: Json, manifest: Json) -> bool:
        """Whether an existing resource is the one of this manifest, whatever its owner changed of it."""
        return all(found["spec"].get(field) == manifest["spec"].get(field) for field in self.immutable)


class RepeatDecision(Enum):
    """What a request has to do that is not the first of its key, by what the key's row says."""

    REPLAY = auto()
    FINISH = auto()
    WAIT = auto()
    REFUSE = auto()


def decide(entry: IdempotencyRecord | None, fingerprint: bytes) -> RepeatDecision:
    """Pure. Another body is refused first: it must learn nothing of the other request.

    None: the first has just come to nothing, so the next one will be the first.
    """
    if entry is None:
        return RepeatDecision.WAIT
    if entry.fingerprint != fingerprint:
        return RepeatDecision.REFUSE
    if entry.response is not None:
        return RepeatDecision.REPLAY
    return RepeatDecision.WAIT if entry.is_claimed else RepeatDecision.FINISH


class IdempotentCreate:
    """Has things made; holds nothing but its ports."""

    def __init__(self, keys: IdempotencyStore, resources: Resources) -> None:
        self._keys = keys
        self._resources = resources

    async def accept(
        self, ref: IdempotencyKey, fingerprint: bytes, making: CreateRequest
    ) -> IdempotentResponse:
        """Carry one request out, or say what became of it.

        Nearly every request is the first of its key, so that is tried before the key is looked up.

        Raises:
            Problem: nothing was made, or somebody else is at it, or nobody knows yet: the code says which.
            Transient: the database did not answer.
        """
        try:
            manifest = await making.write()
        except Problem:
            # A repeat is told what the first was told, whatever would be said today.
            entry = await self._keys.find(ref)
            if entry is None:
                raise
        else:
            begun_at = time.monotonic()
            claim = await self._keys.claim(
                ref, fingerprint=fingerprint, manifest=manifest, seconds=LEASE_SECONDS
            )
            if claim is not None:
                return await self._create(making, claim, manifest, begun_at)
            making.drop()
            entry = await self._keys.find(ref)
        verdict = decide(entry, fingerprint)
        if verdict is RepeatDecision.REFUSE:
            raise key_reused()
        if verdict is RepeatDecision.REPLAY:
            assert entry is not None
            assert entry.response is not None
            return IdempotentResponse(entry.response, is_replayed=True)
        if verdict is RepeatDecision.FINISH:
            assert entry is not None
            begun_at = time.monotonic()
            claim = await self._keys.take_over(ref, entry.attempt, seconds=LEASE_SECONDS)
            if claim is not None:
                assert entry.manifest is not None
                return await self._finish(making, claim, entry.manifest, begun_at)
        raise Problem(
            "request_in_progress",
            "The first request with this key is not answered yet. Repeat this one shortly.",
            headers={"Retry-After": "1"},
        )

    async def _finish(
        self, making: CreateRequest, claim: Claim, manifest: Json, begun_at: float
    ) -> IdempotentResponse:
        merchant, name = claim.ref.merchant, manifest["metadata"]["name"]
        try:
            found = await self._resources.get(making.kind, merchant, name)
        except NotFound:
            found = None
        except ApiError as error:
            await self._keys.give_up(claim, seconds=0)
            raise _cannot_ask(error) from error
        if found is not None:
            return await self._answer_existing(making, claim, manifest, found)
        gone = await self._keys.created_uid(making.kind, merchant, name)
        if gone is not None:
            log.info("was made and is gone", kind=making.kind, name=name, uid=gone)
            return await self._answer(making, claim.ref, gone, manifest)
        return await self._create(making, claim, manifest, begun_at)

    async def _create(
        self, making: CreateRequest, claim: Claim, manifest: Json, begun_at: float
    ) -> IdempotentResponse:
        merchant, name = claim.ref.merchant, manifest["metadata"]["name"]
        if time.monotonic() - begun_at > CREATE_WITHIN:
            await self._keys.give_up(claim, seconds=0)
            raise unavailable("The database is slow; nothing was made. Repeat the request.")
        try:
            made = await self._resources.create(making.kind, merchant, manifest)
        except AlreadyExists:
            found = await self._existing(making.kind, claim, name)
            return await self._answer_existing(making, claim, manifest, found)
        except (Overloaded, NamespaceTerminating) as error:
            await self._keys.give_up(claim, seconds=0)
            raise _cannot_ask(error) from error
        except Unavailable as error:
            await self._keys.give_up(claim, seconds=SETTLE_SECONDS)
            raise unavailable(
                "The API server did not answer. Repeat the request with the same key and body: "
                "it will be done once.",
                SETTLE_SECONDS,
            ) from error
        except Invalid as error:
            await self._keys.forget(claim)
            raise refused(making.kind, error) from error
        except ApiError:
            await self._keys.forget(claim)
            raise
        log.info("accepted", kind=making.kind, name=name, uid=made["metadata"]["uid"])
        return await self._answer(making, claim.ref, made["metadata"]["uid"], manifest)

    async def _existing(self, kind: Kind, claim: Claim, name: str) -> Json:
        try:
            return await self._resources.get(kind, claim.ref.merchant, name)
        except ApiError as error:
            # Also NotFound: it left between the two calls, and the next request finds its ledger row.
            await self._keys.give_up(claim, seconds=0)
            raise _cannot_ask(error) from error

    async def _answer_existing(
        self, making: CreateRequest, claim: Claim, manifest: Json, found: Json
    ) -> IdempotentResponse:
        if not making.is_same(found, manifest):
            await self._keys.forget(claim)
            noun = making.kind.lower()
            raise Problem(
                f"{noun}_name_taken",
                f"The {noun} {found['metadata']['name']} exists and is not this one. Somebody made it by "
                "another way; use a new key.",
            )
        return await self._answer(making, claim.ref, found["metadata"]["uid"], manifest)

    async def _answer(
        self, making: CreateRequest, ref: IdempotencyKey, uid: str, manifest: Json
    ) -> IdempotentResponse:
        answer = await making.answer(uid, manifest)
        return IdempotentResponse(await self._keys.store(ref, answer), is_replayed=False)


def key_reused() -> Problem:
    """The refusal for a key that belongs to another request."""
    return Problem(
        "idempotency_key_reused",
        "This key was used for a request with another body. Send a new key with a new request.",
    )


def refused(kind: Kind, error: Invalid) -> Problem:
    """A rule of the cluster that this process does not know. Only places: words could repeat values."""
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
    """`spec.items[0].sku` as the API server says it, as `#/items/0/sku` of the client's body."""
    parts = path.removeprefix("spec.").replace("[", ".").replace("]", "").split(".")
    return "#/" + "/".join(parts)


def _cannot_ask(error: ApiError) -> Problem:
    code = "overloaded" if isinstance(error, Overloaded) else "unavailable"
    return unavailable(
        "The API server cannot take it now. Repeat the request with the same key.",
        error.retry_after,
        code=code,
    )
