"""The rules of shipments, labels, voids and tracking. Pure: the time comes in, nothing is read or written.

A label moves by the clock alone: nothing has to happen for it to be scanned or delivered.
"""

from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Any


class Tracked(StrEnum):
    """https://docs.easypost.com/docs/trackers, those that the sandbox uses."""

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
class Pace:
    """Seconds: from label to first scan, from there to delivery, from a void's submission to its refund."""

    transit: float = 2.0
    delivery: float = 2.0
    refund: float = 2.0


@dataclass(frozen=True, slots=True)
class Rate:
    """What one service costs, in US cents."""

    id: str
    service: str
    cents: int
    days: int


@dataclass(frozen=True, slots=True)
class Shipment:
    """One shipment. `buys` counts the tries that reached it; `scan` was forced by a test, at `scanned_at`."""

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
    scan: Tracked | None = None
    scanned: float | None = None

    @property
    def street(self) -> str:
        """Where the magic words are looked for."""
        return str(self.to_address.get("street1") or "")

    @property
    def tracking_code(self) -> str:
        """Ours alone: real codes have other shapes."""
        return f"SBX{self.id[4:24].upper()}"

    @property
    def tracker_id(self) -> str:
        """Of the one tracker that a label brings."""
        return f"trk_{self.id[4:]}"


class No(Exception):  # noqa: N818 - a verdict
    """The carrier refuses; `code` is EasyPost's."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


_SERVICES = (("GroundSaver", 420, 16, 5), ("Priority", 760, 22, 2), ("NextDay", 2410, 61, 1))
"""Name, cents, cents per ounce, days."""


def check_address(street: str) -> None:
    """Refuse what cannot be delivered to. Raises No."""
    if "Nowhere" in street:
        raise No("ADDRESS.VERIFY.FAILURE", "Unable to verify address.")


def rates(shipment: Shipment) -> tuple[Rate, ...]:
    """What it would cost; the same each time it is asked for."""
    ounces = float(shipment.parcel.get("weight") or 1.0)
    return tuple(
        Rate(f"rate_{shipment.id[4:-1]}{n}", service, round(base + per_ounce * ounces), days)
        for n, (service, base, per_ounce, days) in enumerate(_SERVICES)
    )


def touched(shipment: Shipment) -> Shipment:
    """A try to buy it was lost before it did anything."""
    return replace(shipment, buys=shipment.buys + 1)


def buy(shipment: Shipment, rate_id: str, now: float) -> Shipment:
    """Buy the label, once.

    Raises:
        No: it has one, the rate is not its own, or the carrier refuses after all.
    """
    if shipment.bought is not None:
        raise No("SHIPMENT.POSTAGE.EXISTS", "Postage already exists for this shipment.")
    if rate_id not in {rate.id for rate in rates(shipment)}:
        raise No("SHIPMENT.RATE.UNAVAILABLE", "The rate is not one of this shipment.")
    if "Island" in shipment.street:
        raise No("SHIPMENT.POSTAGE.FAILURE", "The carrier does not serve this address.")
    return replace(shipment, buys=shipment.buys + 1, rate=rate_id, bought=now)


def void(shipment: Shipment, now: float, pace: Pace) -> Shipment:
    """Ask for the label's cost back; a label that was taken back stays so.

    Raises:
        No: there is no label.
    """
    if shipment.bought is None:
        raise No("SHIPMENT.REFUND.UNAVAILABLE", "There is no postage to refund.")
    if shipment.void not in (None, Void.REJECTED):
        return shipment
    if tracked(shipment, now, pace) is not Tracked.PRE_TRANSIT or "Lighthouse" in shipment.street:
        answer = Void.REJECTED
    elif "Harbour" in shipment.street:
        answer = Void.NOT_APPLICABLE
    else:
        answer = Void.SUBMITTED
    return replace(shipment, void=answer, voided=now)


def void_status(shipment: Shipment, now: float, pace: Pace) -> Void | None:
    """How the wish to void it stands: what was submitted is refunded later."""
    if (
        shipment.void is Void.SUBMITTED
        and shipment.voided is not None
        and now >= shipment.voided + pace.refund
    ):
        return Void.REFUNDED
    return shipment.void


def tracked(shipment: Shipment, now: float, pace: Pace) -> Tracked:
    """Where it is; a label that was taken back never moves by itself."""
    return history(shipment, now, pace)[-1][0] if shipment.bought is not None else Tracked.UNKNOWN


def history(shipment: Shipment, now: float, pace: Pace) -> list[tuple[Tracked, float]]:
    """Every scan of a bought shipment, oldest first, with its time."""
    assert shipment.bought is not None
    scans = [(Tracked.PRE_TRANSIT, shipment.bought)]
    if shipment.void in (None, Void.REJECTED):
        first = shipment.bought + pace.transit
        scans += [(Tracked.IN_TRANSIT, first), (Tracked.DELIVERED, first + pace.delivery)]
    if shipment.scan is not None and shipment.scanned is not None:
        scans = [s for s in scans if s[1] < shipment.scanned] + [(shipment.scan, shipment.scanned)]
    return [s for s in scans if s[1] <= now]


def scan(shipment: Shipment, status: Tracked, now: float) -> Shipment:
    """Force its tracker, for good.

    Raises:
        No: there is no label to scan.
    """
    if shipment.bought is None:
        raise No("TRACKER.NOT_FOUND", "There is no label to scan.")
    return replace(shipment, scan=status, scanned=now)


def read_shipment(row: dict[str, Any]) -> Shipment:
    """From the store."""
    void_ = Void(row["void"]) if row["void"] else None
    scan_ = Tracked(row["scan"]) if row["scan"] else None
    return Shipment(**{**row, "void": void_, "scan": scan_})


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
        No: it is booked, or nobody offers that.
    """
    if pickup.confirmation is not None:
        raise No("PICKUP.PURCHASED", "The pickup is already scheduled.")
    if (carrier, service) != (CARRIER, SERVICE):
        raise No("PICKUP.RATE.UNAVAILABLE", "No rate of this carrier and service.")
    return replace(pickup, confirmation=f"PU{pickup.id[7:17].upper()}")


def read_batch(row: dict[str, Any]) -> Batch:
    """From the store."""
    return Batch(**{**row, "shipments": tuple(row["shipments"])})


def read_pickup(row: dict[str, Any]) -> Pickup:
    """From the store."""
    return Pickup(**{**row, "shipments": tuple(row["shipments"]), "window": tuple(row["window"])})
