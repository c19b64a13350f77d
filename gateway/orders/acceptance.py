"""How an order is accepted: at most one per key, whatever crashes in between.

    price -> row with the priced order -> Order resource -> answer into the row -> 202

A row without an answer is finished by the next request with its key. It looks for the resource first and
then for the gate row: a resource cannot leave before its gate row is there (its finalizer sees to that),
so finding neither, in this order, means that there never was one.
"""

import time
from dataclasses import dataclass
from enum import Enum, auto
from typing import Any, Protocol

import orjson
import structlog

from orderplane.adapters.postgres.idempotency import Answer, Claim, Entry, KeyRef
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
from orderplane.gateway.orders import views

Json = dict[str, Any]

LEASE_SECONDS = 20.0
"""A claim. Longer than CREATE_WITHIN, the client's time-out (5 s) and a stray packet together."""
CREATE_WITHIN = 5.0
"""A create that was not begun this soon after the claim is not begun at all."""
SETTLE_SECONDS = 2.0
"""How long a create that was not answered may still land in the API server."""

_IMMUTABLE = ("customer", "items", "quote", "address", "paymentMethod")

log = structlog.get_logger(__name__)


class Keys(Protocol):
    """What is needed of `PostgresIdempotency`."""

    async def find(self, ref: KeyRef) -> Entry | None: ...
    async def claim(
        self, ref: KeyRef, *, fingerprint: bytes, order_name: str, manifest: Json, seconds: float
    ) -> Claim | None: ...
    async def take_over(self, ref: KeyRef, attempt: int, *, seconds: float) -> Claim | None: ...
    async def give_up(self, claim: Claim, *, seconds: float) -> None: ...
    async def forget(self, claim: Claim) -> None: ...
    async def store(self, ref: KeyRef, answer: Answer) -> Answer: ...
    async def made_uid(self, merchant: str, order_name: str) -> str | None: ...


class Orders(Protocol):
    """What is needed of `ApiClient`."""

    async def create(self, kind: Kind, namespace: str, body: Json) -> Json: ...
    async def get(self, kind: Kind, namespace: str, name: str) -> Json: ...


class Pricing(Protocol):
    """Prices the request at hand, and writes its manifest; raises `Problem` where that cannot be."""

    async def __call__(self) -> Json: ...


class Verdict(Enum):
    """What a request has to do, by what its key's row says."""

    BEGIN = auto()
    REPLAY = auto()
    FINISH = auto()
    WAIT = auto()
    REFUSE = auto()


@dataclass(frozen=True, slots=True)
class Accepted:
    """The answer to give."""

    answer: Answer
    is_replayed: bool


def decide(entry: Entry | None, fingerprint: bytes) -> Verdict:
    """Pure. Another body is refused first: it must learn nothing of the other request."""
    if entry is None:
        return Verdict.BEGIN
    if entry.fingerprint != fingerprint:
        return Verdict.REFUSE
    if entry.answer is not None:
        return Verdict.REPLAY
    return Verdict.WAIT if entry.is_claimed else Verdict.FINISH


def is_same_order(found: Json, manifest: Json) -> bool:
    """Whether an existing resource is the one of this manifest; what its owner may change is left out."""
    return all(found["spec"].get(field) == manifest["spec"].get(field) for field in _IMMUTABLE)


class Acceptance:
    """Accepts orders; holds nothing but its ports."""

    def __init__(self, keys: Keys, orders: Orders) -> None:
        self._keys = keys
        self._orders = orders

    async def accept(self, ref: KeyRef, fingerprint: bytes, order_name: str, price: Pricing) -> Accepted:
        """Carry one request out, or say what became of it.

        Raises:
            Problem: nothing was made, or somebody else is at it, or nobody knows yet: the code says which.
            Transient: the database did not answer.
        """
        entry = await self._keys.find(ref)
        verdict = decide(entry, fingerprint)
        if verdict is Verdict.BEGIN:
            manifest = await price()
            begun_at = time.monotonic()
            claim = await self._keys.claim(
                ref,
                fingerprint=fingerprint,
                order_name=order_name,
                manifest=manifest,
                seconds=LEASE_SECONDS,
            )
            if claim is not None:
                return await self._create(claim, manifest, begun_at)
            entry = await self._keys.find(ref)
            verdict = decide(entry, fingerprint)
        if verdict is Verdict.REFUSE:
            raise Problem(
                "idempotency_key_reused",
                "This key was used for a request with another body. Send a new key with a new request.",
            )
        if verdict is Verdict.REPLAY:
            assert entry is not None
            assert entry.answer is not None
            return Accepted(entry.answer, is_replayed=True)
        if verdict is Verdict.FINISH:
            assert entry is not None
            begun_at = time.monotonic()
            claim = await self._keys.take_over(ref, entry.attempt, seconds=LEASE_SECONDS)
            if claim is not None:
                return await self._finish(claim, entry, begun_at)
        raise Problem(
            "request_in_progress",
            "The first request with this key is not answered yet. Repeat this one shortly.",
            headers={"Retry-After": "1"},
        )

    async def _finish(self, claim: Claim, entry: Entry, begun_at: float) -> Accepted:
        merchant, name = claim.ref.merchant, entry.order_name
        try:
            found = await self._orders.get(Kind.ORDER, merchant, name)
        except NotFound:
            found = None
        except ApiError as error:
            await self._keys.give_up(claim, seconds=0)
            raise _cannot_ask(error) from error
        if found is not None:
            return await self._answer_existing(claim, entry.manifest, found)
        gone = await self._keys.made_uid(merchant, name)
        if gone is not None:
            log.info("order was made and is gone", order=name, uid=gone)
            return await self._answer(claim.ref, name, gone, entry.manifest)
        return await self._create(claim, entry.manifest, begun_at)

    async def _create(self, claim: Claim, manifest: Json, begun_at: float) -> Accepted:
        merchant, name = claim.ref.merchant, manifest["metadata"]["name"]
        if time.monotonic() - begun_at > CREATE_WITHIN:
            await self._keys.give_up(claim, seconds=0)
            raise unavailable("The database is slow; nothing was made. Repeat the request.")
        try:
            made = await self._orders.create(Kind.ORDER, merchant, manifest)
        except AlreadyExists:
            return await self._answer_existing(claim, manifest, await self._existing(claim, name))
        except (Overloaded, NamespaceTerminating) as error:
            await self._keys.give_up(claim, seconds=0)
            raise _cannot_ask(error) from error
        except Unavailable as error:
            await self._keys.give_up(claim, seconds=SETTLE_SECONDS)
            raise unavailable(
                "The API server did not answer. Repeat the request with the same key and body: "
                "there will be one order.",
                SETTLE_SECONDS,
            ) from error
        except Invalid as error:
            await self._keys.forget(claim)
            raise refused(error) from error
        except ApiError:
            await self._keys.forget(claim)
            raise
        log.info("order accepted", order=name, uid=made["metadata"]["uid"])
        return await self._answer(claim.ref, name, made["metadata"]["uid"], manifest)

    async def _existing(self, claim: Claim, name: str) -> Json:
        try:
            return await self._orders.get(Kind.ORDER, claim.ref.merchant, name)
        except ApiError as error:
            # Also NotFound: it left between the two calls, and the next request finds its gate row.
            await self._keys.give_up(claim, seconds=0)
            raise _cannot_ask(error) from error

    async def _answer_existing(self, claim: Claim, manifest: Json, found: Json) -> Accepted:
        name = found["metadata"]["name"]
        if not is_same_order(found, manifest):
            await self._keys.forget(claim)
            raise Problem(
                "order_name_taken",
                f"Order {name} exists and is not this one. Somebody made it by another way; use a new key.",
            )
        return await self._answer(claim.ref, name, found["metadata"]["uid"], manifest)

    async def _answer(self, ref: KeyRef, name: str, uid: str, manifest: Json) -> Accepted:
        # Sorted, for jsonb does not keep the order of members: a row finished later is answered the same.
        view = views.accepted(name, uid, manifest["spec"]["quote"])
        body = orjson.dumps(view, option=orjson.OPT_SORT_KEYS).decode()
        return Accepted(await self._keys.store(ref, Answer(202, body)), is_replayed=False)


def refused(error: Invalid) -> Problem:
    """A rule of the cluster that this process does not know. Only places: words could repeat values."""
    places = tuple(
        {"pointer": field_pointer(str(cause["field"])), "detail": "The cluster refuses this value."}
        for cause in error.causes
        if cause.get("field")
    )
    return Problem("order_refused", "The cluster's rules refuse this order. Nothing was made.", errors=places)


def field_pointer(path: str) -> str:
    """`spec.items[0].sku` as the API server says it, as `#/items/0/sku` of the client's body."""
    parts = path.removeprefix("spec.").replace("[", ".").replace("]", "").split(".")
    return "#/" + "/".join(parts)


def _cannot_ask(error: ApiError) -> Problem:
    code = "overloaded" if isinstance(error, Overloaded) else "unavailable"
    return unavailable(
        "The API server cannot take the order now. Repeat the request with the same key.",
        error.retry_after,
        code=code,
    )
