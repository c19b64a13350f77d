"""Batches of shipments, and the collections that are booked for them. Pure."""

from dataclasses import dataclass, replace
from typing import Any

from orderplane.dev.sandbox.carrier.parcels import No

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
