"""Booking pickups: what is made once at the carrier is booked once, whatever goes wrong between."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import pytest

from orderplane.controllers.shipment.polling import BATCH, PickupScheduler
from orderplane.ledgers.errors import Unclear
from orderplane.ledgers.shipments import PickupClaim, ShipmentRef
from orderplane.ledgers.states import TrackingStatus


def parcels(count: int) -> list[ShipmentRef]:
    return [
        ShipmentRef("demo", f"uid-{n}", f"order-{n}", f"shp_{n}", f"T{n}", TrackingStatus.PRE_TRANSIT, 0)
        for n in range(count)
    ]


@dataclass
class Book:
    """A ledger of one batch."""

    waiting: Sequence[ShipmentRef]
    pickup_id: str | None = None
    confirmation: str | None = None
    is_given_up: bool = False

    async def claim_pickup(self, limit: int, lease: float) -> PickupClaim | None:
        if self.confirmation is not None or not self.waiting:
            return None
        return PickupClaim("batch", self.waiting[:limit], self.pickup_id)

    async def record_pickup_created(self, batch: str, pickup_id: str) -> bool:
        if not self.is_given_up:
            self.pickup_id = pickup_id
        return not self.is_given_up

    async def record_pickup_booked(self, batch: str, confirmation: str) -> None:
        self.confirmation = confirmation


@dataclass
class Desk:
    """A carrier's desk, which may answer nothing before or after it has done its work."""

    made: list[Sequence[str]] = field(default_factory=list)
    booked: list[str] = field(default_factory=list)
    silent: set[str] = field(default_factory=set)

    async def create_pickup(self, shipment_ids: Sequence[str], *, reference: str) -> str:
        self.made.append(shipment_ids)
        self._answer("create")
        return f"pickup-{len(self.made)}"

    async def book_pickup(self, pickup_id: str) -> str:
        if pickup_id not in self.booked:
            self.booked.append(pickup_id)
            self._answer("book")
        return f"PU-{pickup_id}"

    def _answer(self, what: str) -> None:
        if what in self.silent:
            self.silent.remove(what)
            raise Unclear("CarrierUnclear", "no answer")


def scheduler(book: Book, desk: Desk) -> PickupScheduler:
    return PickupScheduler(book, desk)  # type: ignore[arg-type]


async def test_what_waits_is_collected_together():
    book, desk = Book(parcels(3)), Desk()
    assert await scheduler(book, desk).book() is False
    assert (desk.made, book.confirmation) == ([["shp_0", "shp_1", "shp_2"]], "PU-pickup-1")
    assert await scheduler(book, desk).book() is False
    assert len(desk.made) == 1


async def test_a_full_batch_says_that_more_may_wait():
    book, desk = Book(parcels(BATCH + 1)), Desk()
    assert await scheduler(book, desk).book() is True
    assert len(desk.made[0]) == BATCH


async def test_a_lost_answer_to_the_booking_books_nothing_twice():
    book, desk = Book(parcels(1)), Desk(silent={"book"})
    with pytest.raises(Unclear):
        await scheduler(book, desk).book()
    await scheduler(book, desk).book()
    assert (len(desk.made), desk.booked, book.confirmation) == (1, ["pickup-1"], "PU-pickup-1")


async def test_a_lost_answer_to_the_making_leaves_one_that_nobody_books():
    book, desk = Book(parcels(1)), Desk(silent={"create"})
    with pytest.raises(Unclear):
        await scheduler(book, desk).book()
    await scheduler(book, desk).book()
    assert (len(desk.made), desk.booked) == (2, ["pickup-2"])


async def test_a_batch_that_was_given_up_is_not_booked():
    book, desk = Book(parcels(1), is_given_up=True), Desk()
    assert await scheduler(book, desk).book() is True
    assert desk.booked == []
