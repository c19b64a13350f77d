"""The rules of shipments, labels, voids, tracking and pickups. Pure: the time is an argument.

The tracking status of a label depends on the time alone; nothing is written when it is scanned or delivered.
"""

from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Any


class TrackingStatus(StrEnum):
    """https://docs.easypost.com/docs/trackers"""

    UNKNOWN = "unknown"
    PRE_TRANSIT = "pre_transit"
    IN_TRANSIT = "in_transit"
    OUT_FOR_DELIVERY = "out_for_delivery"
    AVAILABLE_FOR_PICKUP = "available_for_pickup"
    DELIVERED = "delivered"
    RETURN_TO_SENDER = "return_to_sender"
    FAILURE = "failure"
    CANCELLED = "cancelled"
    ERROR = "error"


class Void(StrEnum):
    """`refund_status` of a shipment."""

    SUBMITTED = "submitted"
    REFUNDED = "refunded"
    REJECTED = "rejected"
    NOT_APPLICABLE = "not_applicable"


@dataclass(frozen=True, slots=True)
class Timing:
    """Seconds from label to first scan, from there to delivery, and from a void to its refund."""

    transit: float = 2.0
    delivery: float = 2.0
    refund: float = 2.0


@dataclass(frozen=True, slots=True)
class Rate:
    """The price of one service, in US cents."""

    id: str
    service: str
    cents: int
    days: int


@dataclass(frozen=True, slots=True)
class Shipment:
    """One shipment. `buys` counts attempts to buy its label; a test forced the status `scan` at `scanned`."""

    id: str
    created: float
    reference: str | None
    to_address: dict[str, Any]
    from_address: dict[str, Any]
    parcel: dict[str, Any]
    options: dict[str, Any] = field(default_factory=dict)
    buys: int = 0
    rate: str | None = None
    bought: float | None = None
    void: Void | None = None
    voided: float | None = None
    scan: str | None = None
    scanned: float | None = None

    @property
    def street(self) -> str:
        """The line of the address that selects a behaviour, see README.md."""
        return str(self.to_address.get("street1") or "")

    @property
    def tracking_code(self) -> str:
        """A code that no real carrier uses."""
        return f"SBX{self.id[4:24].upper()}"

    @property
    def tracker_id(self) -> str:
        """The tracker that is created with the label."""
        return f"trk_{self.id[4:]}"


class CarrierRefusal(Exception):  # noqa: N818 - a verdict
    """The carrier refuses; `code` is EasyPost's."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


_SERVICES = (("GroundSaver", 420, 16, 5), ("Priority", 760, 22, 2), ("NextDay", 2410, 61, 1))
"""Name, cents, cents per ounce, days."""


_AT_HOME = (TrackingStatus.PRE_TRANSIT, TrackingStatus.UNKNOWN)


def check_address(street: str) -> None:
    """Raise CarrierRefusal for an address that cannot be verified."""
    if "Nowhere" in street:
        raise CarrierRefusal("ADDRESS.VERIFY.FAILURE", "Unable to verify address.")


def rates(shipment: Shipment) -> tuple[Rate, ...]:
    """The prices, with the same ids each time."""
    ounces = float(shipment.parcel.get("weight") or 1.0)
    return tuple(
        Rate(f"rate_{shipment.id[4:-1]}{n}", service, round(base + per_ounce * ounces), days)
        for n, (service, base, per_ounce, days) in enumerate(_SERVICES)
    )


def count_attempt(shipment: Shipment) -> Shipment:
    """Count an attempt to buy that had no effect."""
    return replace(shipment, buys=shipment.buys + 1)


def buy(shipment: Shipment, rate_id: str, now: float) -> Shipment:
    """Buy the label, once.

    Raises:
        CarrierRefusal: it has a label, the rate is of another shipment, or the address is not served.
    """
    if shipment.bought is not None:
        raise CarrierRefusal("SHIPMENT.POSTAGE.EXISTS", "Postage already exists for this shipment.")
    if rate_id not in {rate.id for rate in rates(shipment)}:
        raise CarrierRefusal("SHIPMENT.RATE.UNAVAILABLE", "The rate is not one of this shipment.")
    if "Island" in shipment.street:
        raise CarrierRefusal("SHIPMENT.POSTAGE.FAILURE", "The carrier does not serve this address.")
    return replace(shipment, buys=shipment.buys + 1, rate=rate_id, bought=now)


def void(shipment: Shipment, now: float, timing: Timing) -> Shipment:
    """Request the refund of a label; a label that is void stays void.

    Raises:
        CarrierRefusal: there is no label, or it cannot be refunded.
    """
    if shipment.bought is None:
        raise CarrierRefusal("SHIPMENT.REFUND.UNAVAILABLE", "There is no postage to refund.")
    if shipment.void not in (None, Void.REJECTED):
        return shipment
    if "Anchor" in shipment.street:
        raise CarrierRefusal("SHIPMENT.REFUND.UNAVAILABLE", "This postage cannot be refunded.")
    # https://docs.easypost.com/docs/shipments/shipping-refund: what was not scanned, also what is `unknown`.
    is_scanned = tracking_status(shipment, now, timing) not in _AT_HOME
    is_first_refused = "Buoy" in shipment.street and shipment.void is None
    if is_scanned or is_first_refused or "Lighthouse" in shipment.street:
        answer = Void.REJECTED
    elif "Harbour" in shipment.street:
        answer = Void.NOT_APPLICABLE
    else:
        answer = Void.SUBMITTED
    return replace(shipment, void=answer, voided=now)


def void_status(shipment: Shipment, now: float, timing: Timing) -> Void | None:
    """The refund status now: a submitted one is refunded after `Timing.refund`."""
    if (
        shipment.void is Void.SUBMITTED
        and shipment.voided is not None
        and now >= shipment.voided + timing.refund
    ):
        return Void.REFUNDED
    return shipment.void


def tracking_status(shipment: Shipment, now: float, timing: Timing) -> str:
    """The status now; a void label is never scanned."""
    return history(shipment, now, timing)[-1][0] if shipment.bought is not None else TrackingStatus.UNKNOWN


ENDS = {
    "Locker": TrackingStatus.AVAILABLE_FOR_PICKUP,
    "Boomerang": TrackingStatus.RETURN_TO_SENDER,
    "Storm": TrackingStatus.FAILURE,
    "Recall": TrackingStatus.CANCELLED,
    "Static": TrackingStatus.ERROR,
    "Portal": "teleported",
}
"""What the tracker says in place of `delivered`, by a word in the address; the last is not documented."""


def history(shipment: Shipment, now: float, timing: Timing) -> list[tuple[str, float]]:
    """Every scan of a bought shipment, oldest first, with its time."""
    assert shipment.bought is not None
    scans: list[tuple[str, float]] = [(TrackingStatus.PRE_TRANSIT, shipment.bought)]
    if shipment.void in (None, Void.REJECTED):
        first = shipment.bought + timing.transit
        end = next((end for word, end in ENDS.items() if word in shipment.street), TrackingStatus.DELIVERED)
        scans += [(TrackingStatus.IN_TRANSIT, first), (end, first + timing.delivery)]
    if shipment.scan is not None and shipment.scanned is not None:
        scans = [s for s in scans if s[1] < shipment.scanned] + [(shipment.scan, shipment.scanned)]
    return [s for s in scans if s[1] <= now]


def scan(shipment: Shipment, status: str, now: float) -> Shipment:
    """Force the tracking status, to a documented word or another; it does not change by the clock any more.

    Raises:
        CarrierRefusal: there is no label to scan.
    """
    if shipment.bought is None:
        raise CarrierRefusal("TRACKER.NOT_FOUND", "There is no label to scan.")
    return replace(shipment, scan=status, scanned=now)


def read_shipment(row: dict[str, Any]) -> Shipment:
    """From the store."""
    void_ = Void(row["void"]) if row["void"] else None
    return Shipment(**{**row, "void": void_})


CARRIER = "SandboxPost"
SERVICE = "NextDayPickup"
CENTS = 1100


@dataclass(frozen=True, slots=True)
class Batch:
    """Shipments that are handled together."""

    id: str
    created: float
    reference: str | None
    shipments: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Pickup:
    """A collection; booked once it has a confirmation."""

    id: str
    created: float
    reference: str | None
    shipments: tuple[str, ...]
    window: tuple[str, str]
    confirmation: str | None = None


def book(pickup: Pickup, carrier: str, service: str) -> Pickup:
    """Book it, once.

    Raises:
        CarrierRefusal: it is booked, or there is no such rate.
    """
    if pickup.confirmation is not None:
        raise CarrierRefusal("PICKUP.PURCHASED", "The pickup is already scheduled.")
    if (carrier, service) != (CARRIER, SERVICE):
        raise CarrierRefusal("PICKUP.RATE.UNAVAILABLE", "No rate of this carrier and service.")
    return replace(pickup, confirmation=f"PU{pickup.id[7:17].upper()}")


def read_batch(row: dict[str, Any]) -> Batch:
    """From the store."""
    return Batch(**{**row, "shipments": tuple(row["shipments"])})


def read_pickup(row: dict[str, Any]) -> Pickup:
    """From the store."""
    return Pickup(**{**row, "shipments": tuple(row["shipments"]), "window": tuple(row["window"])})
