"""Asking the carrier where parcels are: a parcel that fails, fails alone."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import pytest

from orderplane.controllers.shipment.polling import TrackingPoller, poll
from orderplane.controllers.shipment.ports import TrackingUpdate
from orderplane.crds.meta import Kind
from orderplane.ledgers.errors import GateClosed, Refused, Transient, Unclear
from orderplane.ledgers.shipments import ShipmentRef
from orderplane.ledgers.states import TrackingStatus

FIRST, SETTLE = timedelta(seconds=60), timedelta(seconds=30)


def parcel(n: int, *, is_labelled: bool = True) -> ShipmentRef:
    return ShipmentRef(
        merchant=f"shop-{n}",
        order_uid=f"uid-{n}",
        name=f"order-{n}-12345678",
        provider_id=f"shp_{n}",
        tracking_code=f"T{n}" if is_labelled else None,
        tracking_status=TrackingStatus.PRE_TRANSIT,
        poll_count=1,
    )


@dataclass
class Book:
    """A ledger of due parcels; `broken` are orders whose tracking status it does not take."""

    due: list[ShipmentRef]
    broken: dict[str, Exception] = field(default_factory=dict)
    moved: list[str] = field(default_factory=list)
    scheduled: dict[str, timedelta | None] = field(default_factory=dict)

    async def claim_due_for_polling(self, limit: int, lease: float) -> Sequence[ShipmentRef]:
        return self.due

    async def record_tracking_status(self, merchant: str, order_uid: str, _: TrackingStatus) -> None:
        if order_uid in self.broken:
            raise self.broken[order_uid]
        self.moved.append(order_uid)

    async def schedule_polls(
        self, parcels: Sequence[ShipmentRef], pauses: Sequence[timedelta | None]
    ) -> None:
        self.scheduled = {one.order_uid: pause for one, pause in zip(parcels, pauses, strict=True)}


@dataclass
class Carrier:
    """Every parcel is in transit, but those whose code is refused; `found` answers each look for a label."""

    found: Exception = field(default_factory=lambda: Unclear("CarrierUnclear", "500"))
    refused: frozenset[str] = frozenset()
    calls: int = 0

    async def track(self, codes: Sequence[str]) -> Sequence[TrackingUpdate]:
        self.calls += 1
        if self.refused & set(codes):
            raise Refused("ShipmentRejected", "what is this code?")
        return [TrackingUpdate(code, TrackingStatus.IN_TRANSIT) for code in codes]

    async def get(self, _: str) -> Any:
        raise self.found


def poller(book: Book, carrier: Carrier, told: list[Any] | None = None) -> TrackingPoller:
    def enqueue(kind: Kind, key: tuple[str, str], *_: Any) -> None:
        if told is not None:
            told.append((kind, key))

    return TrackingPoller(
        book,  # type: ignore[arg-type]
        book,  # type: ignore[arg-type]
        carrier,  # type: ignore[arg-type]
        enqueue,
        first=FIRST,
        longest=FIRST,
        settle=SETTLE,
    )


async def test_what_moved_is_recorded_told_and_asked_again():
    book, told = Book([parcel(1)]), []
    assert await poller(book, Carrier(), told).track() is False
    assert (book.moved, book.scheduled) == (["uid-1"], {"uid-1": FIRST})
    assert told == [(Kind.SHIPMENT, ("shop-1", "order-1-12345678")), (Kind.ORDER, ("shop-1", "order-1"))]


@pytest.mark.parametrize(
    "problem", [Unclear("X", "500"), Transient("X", "busy"), Refused("X", "no"), KeyError("PHP")], ids=repr
)
async def test_a_failing_look_for_a_label_fails_alone(problem: Exception):
    book = Book([parcel(1, is_labelled=False), parcel(2), parcel(3)])
    await poller(book, Carrier(found=problem)).track()
    assert book.moved == ["uid-2", "uid-3"]
    assert set(book.scheduled) == {"uid-1", "uid-2", "uid-3"}
    assert book.scheduled["uid-1"] > FIRST


@pytest.mark.parametrize("problem", [GateClosed("gone"), KeyError("ours"), Transient("X", "away")], ids=repr)
async def test_a_tracking_status_that_is_not_taken_fails_alone(problem: Exception):
    book, told = Book([parcel(n) for n in range(3)], broken={"uid-0": problem}), []
    await poller(book, Carrier(), told).track()
    assert book.moved == ["uid-1", "uid-2"]
    assert book.scheduled == dict.fromkeys(("uid-0", "uid-1", "uid-2"), FIRST)
    assert ("shop-0", "order-0-12345678") not in {key for _, key in told}


async def test_a_code_that_is_refused_fails_alone():
    book, carrier, beats = Book([parcel(n) for n in range(50)]), Carrier(refused=frozenset({"T0", "T49"})), []
    await poller(book, carrier).track(lambda: beats.append(None))
    assert book.moved == [f"uid-{n}" for n in range(1, 49)]
    assert len(book.scheduled) == 50
    assert carrier.calls < 25
    assert len(beats) == carrier.calls + 50


async def test_nothing_is_scheduled_while_the_carrier_is_away():
    class Away(Carrier):
        async def track(self, codes: Sequence[str]) -> Sequence[TrackingUpdate]:
            raise Unclear("CarrierUnclear", "no answer")

    book = Book([parcel(1)])
    with pytest.raises(Unclear):
        await poller(book, Away()).track()
    assert book.scheduled == {}


@pytest.mark.parametrize(
    "problem", [Unclear("X", "500"), Refused("X", "no"), GateClosed("gone"), KeyError("ours")], ids=repr
)
async def test_no_answer_stops_the_polling(problem: Exception):
    rounds, is_over = 0, asyncio.Event()

    async def step(_: Any) -> bool:
        nonlocal rounds
        rounds += 1
        if rounds == 1:
            raise problem
        is_over.set()
        return False

    async with asyncio.timeout(10):
        polling = asyncio.create_task(poll(step, timedelta(milliseconds=1), lambda: None))
        over = asyncio.create_task(is_over.wait())
        await asyncio.wait([polling, over], return_when=asyncio.FIRST_COMPLETED)
    assert not polling.done(), "it goes on"
    polling.cancel()
