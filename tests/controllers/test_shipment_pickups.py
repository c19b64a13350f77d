"""Pickups: what is made once at the carrier is booked once, and what fails stops nobody else."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import timedelta

import pytest

from orderplane.controllers.shipment.polling import BATCH, PickupScheduler
from orderplane.ledgers.errors import Refused, Unclear
from orderplane.ledgers.shipments import CreatedPickup, NewPickup, ShipmentRef
from orderplane.ledgers.states import TrackingStatus


def parcels(count: int) -> list[ShipmentRef]:
    return [
        ShipmentRef("demo", f"uid-{n}", f"order-{n}", f"shp_{n}", f"T{n}", TrackingStatus.PRE_TRANSIT, 0)
        for n in range(count)
    ]


@dataclass
class Book:
    """A ledger whose leases are always over."""

    waiting: list[ShipmentRef]
    batches: dict[str, list[ShipmentRef]] = field(default_factory=dict)
    created: dict[str, str] = field(default_factory=dict)
    booked: dict[str, str] = field(default_factory=dict)
    given_up: list[ShipmentRef] = field(default_factory=list)

    async def claim_new_pickup(self, limit: int, lease: float) -> NewPickup | None:
        found = self.waiting[:limit]
        return NewPickup(self._put(found), found) if found else None

    async def split_pickup(self, batch: str, parcels: Sequence[ShipmentRef]) -> str:
        self.batches[batch] = [one for one in self.batches[batch] if one not in parcels]
        return self._put(list(parcels))

    async def record_pickup_created(self, batch: str, pickup_id: str) -> None:
        self.created[batch] = pickup_id
        self.waiting = [one for one in self.waiting if one not in self.batches[batch]]

    async def claim_created_pickup(self, lease: float) -> CreatedPickup | None:
        for batch, pickup_id in self.created.items():
            if batch not in self.booked:
                return CreatedPickup(batch, self.batches[batch], pickup_id)
        return None

    async def record_pickup_booked(self, batch: str, confirmation: str) -> None:
        self.booked[batch] = confirmation

    async def give_up_pickup(self, batch: str, pause: timedelta) -> None:
        assert pause > timedelta()
        self.created.pop(batch, None)
        self.given_up += self.batches[batch]
        self.waiting = [one for one in self.waiting if one not in self.given_up]

    def _put(self, found: list[ShipmentRef]) -> str:
        batch = f"batch-{len(self.batches)}"
        self.batches[batch] = found
        return batch


@dataclass
class Desk:
    """A carrier's desk, which may answer nothing before or after it has done its work.

    Args:
        refused: Shipments that it collects in no pickup.
        unbookable: Pickups that it has created, and does not book.
    """

    made: list[Sequence[str]] = field(default_factory=list)
    booked: list[str] = field(default_factory=list)
    silent: set[str] = field(default_factory=set)
    refused: set[str] = field(default_factory=set)
    unbookable: set[str] = field(default_factory=set)
    asked: int = 0

    async def create_pickup(self, shipment_ids: Sequence[str], *, reference: str) -> str:
        self.asked += 1
        if self.refused & set(shipment_ids):
            raise Refused("ShipmentRejected", "one of them was refunded")
        self.made.append(shipment_ids)
        self._answer("create")
        return f"pickup-{len(self.made)}"

    async def book_pickup(self, pickup_id: str) -> str:
        if pickup_id in self.unbookable:
            raise Refused("NoPickup", "nobody comes")
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
    both = scheduler(book, desk)
    assert await both.create() is False
    assert await both.book() is True
    assert desk.made == [["shp_0", "shp_1", "shp_2"]]
    assert list(book.booked.values()) == ["PU-pickup-1"]
    assert (await both.create(), await both.book()) == (False, False)
    assert len(desk.made) == 1


async def test_a_full_batch_says_that_more_may_wait():
    book, desk = Book(parcels(BATCH + 1)), Desk()
    assert await scheduler(book, desk).create() is True
    assert len(desk.made[0]) == BATCH


async def test_a_lost_answer_to_the_booking_books_nothing_twice():
    book, desk = Book(parcels(1)), Desk(silent={"book"})
    await scheduler(book, desk).create()
    with pytest.raises(Unclear):
        await scheduler(book, desk).book()
    await scheduler(book, desk).book()
    assert (len(desk.made), desk.booked) == (1, ["pickup-1"])
    assert list(book.booked.values()) == ["PU-pickup-1"]


async def test_a_lost_answer_to_the_making_leaves_one_that_nobody_books():
    book, desk = Book(parcels(1)), Desk(silent={"create"})
    with pytest.raises(Unclear):
        await scheduler(book, desk).create()
    await scheduler(book, desk).create()
    await scheduler(book, desk).book()
    assert (len(desk.made), desk.booked) == (2, ["pickup-2"])


async def test_a_pickup_that_is_not_booked_is_given_up_and_the_next_one_is_booked():
    book, desk = Book(parcels(BATCH + 1)), Desk(unbookable={"pickup-1"})
    both = scheduler(book, desk)
    await both.create()
    await both.create()
    assert await both.book() is True
    assert book.given_up == parcels(BATCH)
    assert await both.book() is True
    assert desk.booked == ["pickup-2"]


@pytest.mark.parametrize("refused", [[0], [BATCH - 1], [7, 8, 30]])
async def test_parcels_that_are_refused_wait_alone(refused: list[int]):
    book, desk = Book(parcels(BATCH + 5)), Desk(refused={f"shp_{n}" for n in refused})
    assert await scheduler(book, desk).create() is True
    assert book.given_up == [parcels(BATCH)[n] for n in refused]
    assert sorted(id_ for ids in desk.made for id_ in ids) == sorted(
        f"shp_{n}" for n in range(BATCH) if n not in refused
    )
    together = [[one.provider_id for one in book.batches[batch]] for batch in book.created]
    assert together == desk.made, "the ledger knows who is collected with whom"
    await scheduler(book, desk).create()
    assert book.waiting == []


async def test_a_carrier_that_refuses_everything_is_asked_a_bounded_number_of_times():
    everything = parcels(BATCH * 3)
    book, desk = Book(everything), Desk(refused={one.provider_id for one in everything})
    beats: list[None] = []
    is_busy = await scheduler(book, desk).create(lambda: beats.append(None))
    assert is_busy is False, "the next batch waits for the next poll"
    assert desk.asked == len(beats) == 2 * BATCH - 1
