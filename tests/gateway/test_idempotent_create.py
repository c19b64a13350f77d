"""At most one order per key: the decision as a table, and the flow in a model with crashes and races."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orderplane.crds.api_errors import AlreadyExists, Forbidden, Invalid, NotFound, Overloaded, Unavailable
from orderplane.crds.meta import Kind
from orderplane.gateway.http.problems import Problem
from orderplane.gateway.idempotent_create import (
    LEASE_SECONDS,
    SETTLE_SECONDS,
    CreateRequest,
    IdempotentCreate,
    RepeatAction,
    field_pointer,
    repeat_action,
)
from orderplane.ledgers.postgres.idempotency import (
    Claim,
    IdempotencyKey,
    IdempotencyRecord,
    IdempotentResponse,
    StoredResponse,
)

REF = IdempotencyKey("demo", "demo", b"key")
NAME = "o-1"
QUOTE = {"currency": "EUR", "lines": [], "amounts": {"total": 1}}
MANIFEST = {"metadata": {"name": NAME}, "spec": {"customer": "c", "items": [], "quote": QUOTE}}
ENTRY = IdempotencyRecord(b"mine", MANIFEST, None)


@pytest.mark.parametrize(
    ("record", "fingerprint", "action"),
    [
        (None, b"mine", RepeatAction.WAIT),
        (ENTRY, b"mine", RepeatAction.RESUME),
        (replace(ENTRY, is_claimed=True), b"mine", RepeatAction.WAIT),
        (replace(ENTRY, response=StoredResponse(202, "{}")), b"mine", RepeatAction.REPLAY),
        (replace(ENTRY, manifest=None), b"mine", RepeatAction.EXPIRE),
        (replace(ENTRY, manifest=None, is_claimed=True), b"mine", RepeatAction.WAIT),
        (replace(ENTRY, manifest=None), b"other", RepeatAction.REFUSE),
        (ENTRY, b"other", RepeatAction.REFUSE),
        (replace(ENTRY, is_claimed=True), b"other", RepeatAction.REFUSE),
        (replace(ENTRY, response=StoredResponse(202, "{}")), b"other", RepeatAction.REFUSE),
    ],
)
def test_what_the_row_of_a_key_asks_for(
    record: IdempotencyRecord | None, fingerprint: bytes, action: RepeatAction
) -> None:
    assert repeat_action(record, fingerprint) is action


async def write() -> Any:
    return MANIFEST


async def answer(uid: str, manifest: Any) -> StoredResponse:
    return StoredResponse(202, orjson.dumps({"uid": uid, "quote": manifest["spec"]["quote"]}).decode())


CREATE = CreateRequest(Kind.ORDER, ("customer", "items", "quote"), write, lambda: None, answer)


def test_an_order_is_the_same_whatever_its_owner_may_change() -> None:
    found = {"spec": {**MANIFEST["spec"], "cancel": True, "ttlSecondsAfterFinished": 5}}
    assert CREATE.is_same(found, MANIFEST)
    assert not CREATE.is_same({"spec": {**MANIFEST["spec"], "customer": "other"}}, MANIFEST)


def test_a_place_in_the_resource_becomes_one_in_the_body() -> None:
    assert field_pointer("spec.items[0].sku") == "#/items/0/sku"
    assert field_pointer("metadata.name") == "#/metadata/name"


class Crash(BaseException):
    """The process is gone."""


@dataclass
class World:
    """A database, an API server and an operator, with a clock; a `fate` for each call that is made."""

    now: float = 0.0
    row: IdempotencyRecord | None = None
    claimed_until: float = 0.0
    live: dict[str, Any] | None = None
    gate: str | None = None
    made: int = 0
    landing: float | None = None
    fates: list[str] = field(default_factory=list)

    def fate(self) -> str:
        return self.fates.pop(0) if self.fates else "well"

    async def step(self) -> str:
        await asyncio.sleep(0)
        fate = self.fate()
        if fate == "deleted meanwhile":
            self.delete_order()
            return "well"
        if fate == "crash before":
            raise Crash
        return fate

    def pass_time(self, seconds: float) -> None:
        self.now += seconds
        if self.landing is not None and self.landing <= self.now:
            self.landing = None
            self.land()

    def land(self) -> dict[str, Any] | None:
        """A create reaches the API server; None where the name is taken."""
        if self.live is not None:
            return None
        self.made += 1
        self.live = {"metadata": {"name": NAME, "uid": f"uid-{self.made}"}, "spec": MANIFEST["spec"]}
        return self.live

    def delete_order(self) -> None:
        """The operator opens the gate first: the finalizer does not let an order go unseen."""
        if self.live is not None:
            self.gate = self.gate or self.live["metadata"]["uid"]
            self.live = None

    # IdempotencyStore

    async def find(self, ref: IdempotencyKey) -> IdempotencyRecord | None:
        await self.step()
        return replace(self.row, is_claimed=self.claimed_until > self.now) if self.row else None

    async def claim(
        self, ref: IdempotencyKey, *, fingerprint: bytes, manifest: Any, seconds: float
    ) -> Claim | None:
        fate = await self.step()
        if self.row is not None:
            return None
        self.row = IdempotencyRecord(fingerprint, manifest, None, is_claimed=True)
        self.claimed_until = self.now + seconds
        self._after(fate)
        return Claim(ref, 1)

    async def take_over(self, ref: IdempotencyKey, attempt: int, *, seconds: float) -> Claim | None:
        fate = await self.step()
        if not self._holds(attempt) or self.claimed_until > self.now:
            return None
        assert self.row is not None
        self.row = replace(self.row, attempt=attempt + 1)
        self.claimed_until = self.now + seconds
        self._after(fate)
        return Claim(ref, attempt + 1)

    async def end_claim(self, claim: Claim, *, seconds: float) -> None:
        fate = await self.step()
        if self._holds(claim.attempt):
            self.claimed_until = self.now + seconds
        self._after(fate)

    async def delete(self, claim: Claim) -> None:
        fate = await self.step()
        if self._holds(claim.attempt):
            self.row = None
        self._after(fate)

    async def store(self, ref: IdempotencyKey, answer: StoredResponse) -> StoredResponse:
        fate = await self.step()
        if self.row is None:
            return answer
        self.row = replace(self.row, response=self.row.response or answer)
        self._after(fate)
        assert self.row.response is not None
        return self.row.response

    async def created_uid(self, kind: Kind, merchant: str, name: str) -> str | None:
        await self.step()
        return self.gate

    # Orders

    async def create(self, kind: Kind, namespace: str, body: Any) -> Any:
        fate = await self.step()
        if fate == "overloaded":
            raise Overloaded(429, "TooManyRequests", "later")
        if fate == "forbidden":
            raise Forbidden(403, "Forbidden", "this installation is being drained")
        if fate == "no namespace":
            raise NotFound(404, "NotFound", 'namespaces "demo" not found')
        if fate == "invalid":
            raise Invalid(422, "Invalid", "no", ({"field": "spec.items[0].sku"},))
        if fate == "lost":
            raise Unavailable(0, "NoAnswer", "time-out")
        if fate == "lands late":
            self.landing = self.now + SETTLE_SECONDS
            raise Unavailable(0, "NoAnswer", "time-out")
        made = self.land()
        self._after(fate)
        if fate == "answer lost":
            raise Unavailable(0, "NoAnswer", "time-out")
        if made is None:
            raise AlreadyExists(409, "AlreadyExists", NAME)
        return made

    async def get(self, kind: Kind, namespace: str, name: str) -> Any:
        await self.step()
        if self.live is None:
            raise NotFound(404, "NotFound", name)
        return self.live

    def _holds(self, attempt: int) -> bool:
        return self.row is not None and self.row.response is None and self.row.attempt == attempt

    def _after(self, fate: str) -> None:
        if fate == "crash after":
            raise Crash


async def request(
    world: World, fingerprint: bytes = b"mine", create: CreateRequest = CREATE
) -> IdempotentResponse | str:
    """One request; the answer, a problem's code, or `crash`."""
    try:
        return await IdempotentCreate(world, world).execute(REF, fingerprint, create)
    except Problem as problem:
        return problem.type.code
    except Crash:
        return "crash"


FATES = st.sampled_from(
    ["well"] * 4
    + [
        "crash before",
        "crash after",
        "overloaded",
        "forbidden",
        "lost",
        "lands late",
        "answer lost",
        "deleted meanwhile",
    ]
)
STEPS = st.one_of(
    st.tuples(st.just("request"), st.integers(1, 3), st.lists(FATES, max_size=12)),
    st.tuples(st.just("delete"), st.just(0), st.just([])),
    st.tuples(st.just("wait"), st.sampled_from([1, 3, 25]), st.just([])),
)


@settings(max_examples=600, deadline=None)
@given(st.lists(STEPS, max_size=12))
def test_one_key_never_makes_two_orders_and_always_gets_its_answer(steps: list[Any]) -> None:
    asyncio.run(_live_through(steps))


async def _live_through(steps: list[Any]) -> None:
    world = World()
    bodies: set[str] = set()
    for kind, number, fates in steps:
        if kind == "request":
            world.fates = list(fates)
            for answer in await asyncio.gather(*(request(world) for _ in range(number))):
                if isinstance(answer, IdempotentResponse):
                    bodies.add(answer.response.body)
        elif kind == "delete":
            world.delete_order()
        else:
            world.pass_time(number)
        assert world.made <= 1
    world.fates = []
    world.pass_time(LEASE_SECONDS)
    last = await request(world)
    assert isinstance(last, IdempotentResponse)
    assert world.made == 1
    assert bodies <= {last.response.body}


async def test_the_second_of_two_waits_and_a_third_is_answered_the_same() -> None:
    world = World()
    first, second = await asyncio.gather(request(world), request(world))
    assert isinstance(first, IdempotentResponse)
    assert second == "request_in_progress"
    third = await request(world)
    assert isinstance(third, IdempotentResponse)
    assert third.is_replayed
    assert third.response == first.response


async def refuse_to_write() -> Any:
    raise Problem("overloaded", "Too many orders come at once.")


async def test_what_would_be_refused_today_is_answered_as_it_was() -> None:
    world = World()
    first = await request(world)
    assert isinstance(first, IdempotentResponse)
    again = await request(world, create=replace(CREATE, build=refuse_to_write))
    assert again == replace(first, is_replayed=True)


async def test_what_was_written_for_a_repeat_is_dropped() -> None:
    world, dropped = World(), []
    create = replace(CREATE, discard=lambda: dropped.append("written in vain"))
    await request(world, create=create)
    assert not dropped
    await request(world, create=create)
    assert dropped == ["written in vain"]
    await request(world, create=replace(create, build=refuse_to_write))
    assert dropped == ["written in vain"], "nothing was written"


async def test_what_was_begun_is_finished_although_it_would_be_refused_today() -> None:
    world = World(fates=["well", "crash before"])
    assert await request(world) == "crash"
    world.pass_time(LEASE_SECONDS)
    assert isinstance(await request(world, create=replace(CREATE, build=refuse_to_write)), IdempotentResponse)
    assert world.made == 1


async def test_what_is_refused_at_first_leaves_the_key_unused() -> None:
    world = World()
    assert await request(world, create=replace(CREATE, build=refuse_to_write)) == "overloaded"
    assert world.row is None


async def test_another_body_is_refused_even_while_the_first_is_unfinished() -> None:
    world = World(fates=["well", "crash before"])
    assert await request(world) == "crash"
    assert await request(world, b"other") == "idempotency_key_reused"


async def test_what_was_not_answered_for_a_day_is_not_resumed() -> None:
    world = World(fates=["well", "crash before"])
    assert await request(world) == "crash"
    assert world.row is not None
    world.row = replace(world.row, manifest=None)
    world.pass_time(LEASE_SECONDS)
    assert await request(world) == "request_expired"
    assert await request(world, create=replace(CREATE, build=refuse_to_write)) == "request_expired"
    assert world.made == 0


async def test_an_order_that_was_made_and_is_gone_is_answered_and_not_made_again() -> None:
    world = World(fates=["well", "crash after"])
    assert await request(world) == "crash"
    world.delete_order()
    assert await request(world) == "request_in_progress"
    world.pass_time(LEASE_SECONDS)
    answer = await request(world)
    assert isinstance(answer, IdempotentResponse)
    assert orjson.loads(answer.response.body)["uid"] == "uid-1"
    assert world.made == 1
    assert world.live is None


@pytest.mark.parametrize("call", range(6))
async def test_an_order_that_goes_while_it_is_looked_for_is_not_made_again(call: int) -> None:
    world = World(fates=["well", "crash after"])
    assert await request(world) == "crash"
    world.pass_time(LEASE_SECONDS)
    world.fates = ["well"] * call + ["deleted meanwhile"]
    assert isinstance(await request(world), IdempotentResponse)
    assert world.made == 1


async def test_what_the_cluster_refuses_leaves_the_key_unused() -> None:
    world = World(fates=["well", "invalid"])
    assert await request(world) == "order_refused"
    assert world.row is None


async def test_a_merchant_without_a_namespace_is_told_so() -> None:
    world = World(fates=["well", "no namespace"])
    assert await request(world) == "no_namespace"
    assert world.row is None
    assert isinstance(await request(world), IdempotentResponse)


async def test_a_busy_server_keeps_the_row_and_the_next_request_finishes_it() -> None:
    world = World(fates=["well", "overloaded"])
    assert await request(world) == "overloaded"
    assert isinstance(await request(world), IdempotentResponse)
    assert world.made == 1


async def test_somebody_elses_order_under_our_name_is_not_ours() -> None:
    world = World()
    world.live = {"metadata": {"name": NAME, "uid": "theirs"}, "spec": {"customer": "other"}}
    assert await request(world) == "order_name_taken"
    assert world.row is None


async def test_nothing_is_created_long_after_the_claim(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter((0.0, 6.0))
    monkeypatch.setattr("orderplane.gateway.idempotent_create.time", _Clock(lambda: next(clock)))
    world = World()
    assert await request(world) == "unavailable"
    assert world.made == 0
    assert world.row is not None


@dataclass
class _Clock:
    monotonic: Callable[[], float]
