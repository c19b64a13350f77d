"""The ports of the shipment ledger: its labels, and its parcels on their way.

Time that decides is the ledger's own: no method takes the time of a process, whose clock may be minutes off.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Protocol

from orderplane.ledgers.states import ShipmentState, TrackingStatus, VoidState


@dataclass(frozen=True, slots=True)
class Label:
    """Postage that was bought.

    Args:
        tracking_url: Empty where the carrier has no such page.
        cost: In minor units of `currency`; both None where the carrier's price cannot be read.
    """

    tracking_code: str
    tracker_id: str
    tracking_url: str
    carrier: str
    service: str
    cost: int | None
    currency: str | None


@dataclass(frozen=True, slots=True)
class ShipmentEntry:
    """One shipment.

    Args:
        reason: Why the carrier has refused it; with INTENDED, an older purchase may still land all the same.
        buy_age: How long ago, when this entry was read, the newest purchase was begun; None where none was.
            With it set, a label may have been bought, whatever was answered.
        buy_attempt: The number of that purchase.
        buy_begun_by: Which operator has begun it.
    """

    order_uid: str
    state: ShipmentState
    provider_id: str | None
    rate_id: str | None
    label: Label | None
    void: VoidState
    tracking_status: TrackingStatus
    pickup: str | None
    reason: str | None
    message: str | None
    buy_age: timedelta | None = field(default=None, compare=False)
    buy_attempt: int = 0
    buy_begun_by: str | None = None


@dataclass(frozen=True, slots=True)
class ShipmentRef:
    """A shipment that was claimed for polling or for a pickup.

    Args:
        tracking_code: None where no label is known: a purchase of it was begun, and may still turn up.
    """

    merchant: str
    order_uid: str
    name: str
    provider_id: str
    tracking_code: str | None
    tracking_status: TrackingStatus
    poll_count: int


@dataclass(frozen=True, slots=True)
class NewPickup:
    """Parcels that are to be collected together."""

    batch: str
    parcels: Sequence[ShipmentRef]


@dataclass(frozen=True, slots=True)
class CreatedPickup:
    """A pickup that the carrier has created for some parcels, and that is not booked; `pickup_id` is the
    carrier's."""

    batch: str
    parcels: Sequence[ShipmentRef]
    pickup_id: str


class ShipmentLedger(Protocol):
    """Labels that are bought and voided. Each method is one transaction.

    Raises (those with an order that change something): GateClosed where the order's row does not admit it.
    """

    async def uid_of(self, merchant: str, name: str) -> str | None:
        """The order's uid of the newest entry for a Shipment of that name."""
        ...

    async def read(self, merchant: str, order_uid: str) -> ShipmentEntry | None:
        """The entry; None where no shipment was ever begun."""
        ...

    async def intend(self, merchant: str, order_uid: str, *, name: str) -> ShipmentEntry:
        """Begin. Needs OPEN.

        Raises:
            Transient: not exactly the order's total is captured (`NotPaid`), or its stock is not pinned
                (`StockNotPinned`), whatever a resource says.
        """
        ...

    async def begin_buy(
        self, merchant: str, order_uid: str, *, provider_id: str, rate_id: str, attempt: int, operator: str
    ) -> ShipmentEntry:
        """Write down that this operator is about to send purchase `attempt` of this shipment. Needs OPEN.

        Each attempt is begun once.
        """
        ...

    async def record_label(
        self, merchant: str, order_uid: str, label: Label, *, first_poll: timedelta
    ) -> ShipmentEntry:
        """A label was bought. OPEN: commit the stock, `order.shipped`. COMPENSATING: record it, to void it.

        Where the ledger has settled that there is none, it becomes STRAY, in any state of the gate.

        Args:
            first_poll: How soon the carrier is first asked for the tracking status.
        """
        ...

    async def refuse(
        self,
        merchant: str,
        order_uid: str,
        reason: str,
        message: str,
        *,
        attempt: int,
        is_final: bool,
        look_again: timedelta,
    ) -> ShipmentEntry:
        """The carrier refuses the shipment. OPEN or COMPENSATING; nothing where a later purchase was begun.

        Args:
            attempt: The purchase that it refuses; 0 where it has refused the shipment before.
            is_final: No older purchase can land any more. Else the refusal is only noted.
            look_again: How soon the carrier is asked once more, where a purchase was begun.
        """
        ...

    async def cancel(self, merchant: str, order_uid: str, *, look_again: timedelta) -> ShipmentEntry:
        """No label was bought and none can be; `look_again` as in `refuse`. Needs COMPENSATING."""
        ...

    async def record_void(self, merchant: str, order_uid: str, void: VoidState) -> ShipmentEntry:
        """What the carrier answers to a void. Needs COMPENSATING, but for a STRAY label.

        With REJECTED the label stays valid; with any other answer it is VOIDED, `shipment.cancelled`, or
        DISCARDED.
        """
        ...

    async def record_tracking_status(
        self, merchant: str, order_uid: str, tracking_status: TrackingStatus
    ) -> ShipmentEntry:
        """The parcel moved. Anything but PRE_TRANSIT seals the order as shipped; delivery is
        `order.delivered`.

        A voided label and an older tracking status change nothing. A STRAY label's status is noted, and the
        order stays as it is.
        """
        ...

    async def strays(self, limit: int) -> Sequence[tuple[str, str]]:
        """Merchant and name of shipments whose STRAY label is still to be voided."""
        ...


class ParcelLedger(Protocol):
    """The same shipments, claimed many at a time for polls and pickups. Each method is one transaction."""

    async def claim_due_for_polling(self, limit: int, lease: float) -> Sequence[ShipmentRef]:
        """Claim shipments whose poll is due, for `lease` seconds.

        A parcel is followed for 90 days: carriers use tracking codes again.
        """
        ...

    async def schedule_polls(
        self, parcels: Sequence[ShipmentRef], pauses: Sequence[timedelta | None]
    ) -> None:
        """Set how soon each of them is polled again; None: not any more."""
        ...

    async def claim_new_pickup(self, limit: int, lease: float) -> NewPickup | None:
        """Claim parcels that wait for a pickup, for `lease` seconds; None where there are none.

        Those that were never claimed go first, then those whose claim is the oldest. A parcel waits for 90
        days, or until it moves.
        """
        ...

    async def split_pickup(self, batch: str, parcels: Sequence[ShipmentRef]) -> str:
        """Take these parcels out of a batch that is claimed, into one of their own; answers its name."""
        ...

    async def record_pickup_created(self, batch: str, pickup_id: str) -> None:
        """The carrier has created the batch's pickup; nothing where another process claimed its parcels
        meanwhile."""
        ...

    async def claim_created_pickup(self, lease: float) -> CreatedPickup | None:
        """Claim a pickup that was created and is not booked, for `lease` seconds; None where there is none.

        In the order of `claim_new_pickup`. A pickup for which no parcel waits any more is left alone.
        """
        ...

    async def record_pickup_booked(self, batch: str, confirmation: str) -> None:
        """The batch's pickup is booked."""
        ...

    async def give_up_pickup(self, batch: str, pause: timedelta) -> None:
        """The batch is not collected: each of its parcels waits for another pickup, after one to two pauses.

        They come back one after the other, in other company: what keeps a pickup from being booked does not
        keep the same parcels for ever.
        """
        ...
