"""Shipment: labels bought from a carrier, and the transport of the parcels."""

from enum import StrEnum
from typing import Annotated

from pydantic import Field

from orderplane.crds.meta import ApiModel, Currency, Minor, OrderRef, Resource, ResourceStatus
from orderplane.crds.order import Address, TrackingInfo


class ShipmentPhase(StrEnum):
    """Where the parcel is."""

    PENDING = "Pending"
    SCHEDULED = "Scheduled"
    IN_TRANSIT = "InTransit"
    DELIVERED = "Delivered"
    REJECTED = "Rejected"
    CANCELLED = "Cancelled"


class Parcel(ApiModel):
    """One box: grams and millimetres."""

    weight_grams: Annotated[int, Field(ge=1, le=1_000_000)]
    length_millimetres: Annotated[int, Field(ge=1, le=5_000)]
    width_millimetres: Annotated[int, Field(ge=1, le=5_000)]
    height_millimetres: Annotated[int, Field(ge=1, le=5_000)]


class Service(StrEnum):
    """The speed of delivery; each carrier's adapter maps it to a service of the carrier."""

    STANDARD = "Standard"
    EXPRESS = "Express"


class ShipmentSpec(ApiModel):
    """Immutable."""

    order_ref: OrderRef
    address: Address
    parcels: Annotated[tuple[Parcel, ...], Field(min_length=1, max_length=20)]
    service: Service = Service.STANDARD


class Pickup(ApiModel):
    """The pickup that was booked for this parcel and others."""

    confirmation: Annotated[str, Field(max_length=128)]


class ShipmentStatus(ResourceStatus):
    """Written by the shipment controller only."""

    phase: ShipmentPhase = ShipmentPhase.PENDING
    tracking: TrackingInfo | None = None
    cost: Minor | None = None
    cost_currency: Currency | None = None
    pickup: Pickup | None = None


class Shipment(Resource):
    """The resource."""

    spec: ShipmentSpec
    status: ShipmentStatus = Field(default_factory=ShipmentStatus)
