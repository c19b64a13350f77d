"""Reservation: stock that is held for an order, or by itself, until a time."""

from datetime import datetime, timedelta
from enum import StrEnum
from typing import Annotated

from pydantic import Field

from orderplane.crds.meta import ApiModel, OrderRef, Resource, ResourceStatus
from orderplane.crds.order import Item
from orderplane.crds.times import StoredTime, Time

LONGEST_HOLD = timedelta(days=7)
"""How long stock may be kept without an order: from now on, by REST and by `kubectl`."""


class ReservationPhase(StrEnum):
    """Where the stock is."""

    PENDING = "Pending"
    HELD = "Held"
    COMMITTED = "Committed"
    REJECTED = "Rejected"
    EXPIRED = "Expired"
    LOST = "Lost"
    RELEASED = "Released"


class ReservationSpec(ApiModel):
    """Immutable. `order_ref` is missing on a Reservation without an order. Only such a one has `expires_at`:
    the ledger counts an order's time itself, from the moment at which the stock is held.

    This is how a stored one is read; `NewReservationSpec` is what a new one has to be.
    """

    order_ref: OrderRef | None = None
    items: Annotated[tuple[Item, ...], Field(min_length=1, max_length=50)]
    expires_at: StoredTime | None = None


class NewReservationSpec(ReservationSpec):
    """What a new Reservation has to be."""

    expires_at: Time | None = None


class ReservationStatus(ResourceStatus):
    """Written by the reservation controller only."""

    phase: ReservationPhase = ReservationPhase.PENDING
    expires_at: datetime | None = None


class Reservation(Resource):
    """The resource."""

    spec: ReservationSpec
    status: ReservationStatus = Field(default_factory=ReservationStatus)
