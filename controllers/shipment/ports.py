"""What the shipment controller needs of a carrier."""

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Protocol

from orderplane.crds.order import Address
from orderplane.crds.shipment import Parcel, Service
from orderplane.ledgers.shipments import Label
from orderplane.ledgers.states import TrackingStatus, VoidState


@dataclass(frozen=True, slots=True)
class CarrierShipment:
    """One shipment as the carrier tells it. `reference` is the Order's uid; no label means not bought."""

    id: str
    reference: str
    rate_id: str | None
    label: Label | None
    void: VoidState
    tracking_status: TrackingStatus


@dataclass(frozen=True, slots=True)
class TrackingUpdate:
    """What the tracker of one parcel says now.

    Args:
        word: The carrier's own word for the status.
    """

    tracking_code: str
    tracking_status: TrackingStatus
    word: str = ""


class Carrier(Protocol):
    """A carrier with two-step buying.

    Every method raises `Transient` (not carried out), `Unclear` (look before repeating) or `Refused`
    (`AddressRejected`, `ServiceUnavailable`...).
    """

    async def create(
        self, *, reference: str, merchant: str, address: Address, parcels: Sequence[Parcel], service: Service
    ) -> CarrierShipment:
        """Make a shipment that costs nothing yet, its rate chosen; `reference` is the Order's uid."""
        ...

    async def buy(self, shipment_id: str, rate_id: str) -> CarrierShipment:
        """Buy the label; buying twice is `Refused` with reason `AlreadyBought`."""
        ...

    async def get(self, shipment_id: str) -> CarrierShipment:
        """Tell how one shipment stands, with its label, void and tracking; safe to repeat, retried inside."""
        ...

    async def void(self, shipment_id: str) -> CarrierShipment:
        """Ask for the label back; answers how the shipment stands afterwards.

        A label that the carrier refuses to take back is REJECTED, in whatever form it refuses.
        """
        ...

    async def create_pickup(self, shipment_ids: Sequence[str], *, reference: str) -> str:
        """Create one pickup for several bought shipments that have none yet; answers its id."""
        ...

    async def book_pickup(self, pickup_id: str) -> str:
        """Book it and answer its confirmation; it checks first, so it may be repeated after any answer.

        Raises:
            Refused: it is not booked, and never can be.
        """
        ...

    async def track(self, tracking_codes: Sequence[str]) -> Sequence[TrackingUpdate]:
        """Tell how several parcels stand, in as few calls as the carrier allows; safe to repeat."""
        ...

    def shipments(self) -> AsyncIterator[CarrierShipment]:
        """Every shipment the carrier knows, for the audit; paginated inside."""
        ...
