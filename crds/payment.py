"""Payment: the charge for one order."""

from enum import StrEnum
from typing import Annotated, Literal

from pydantic import Field

from orderplane.crds.meta import ApiModel, Currency, Minor, OrderRef, Resource, ResourceStatus
from orderplane.crds.order import PaymentMethod


class PaymentPhase(StrEnum):
    """Where the money is."""

    PENDING = "Pending"
    CAPTURED = "Captured"
    DECLINED = "Declined"
    CANCELLED = "Cancelled"
    REFUNDING = "Refunding"
    REFUNDED = "Refunded"


class PaymentSpec(ApiModel):
    """Immutable."""

    order_ref: OrderRef
    amount: Minor
    currency: Currency
    method: PaymentMethod
    capture: Literal["Automatic"] = "Automatic"


class PaymentStatus(ResourceStatus):
    """Written by the payment controller only."""

    phase: PaymentPhase = PaymentPhase.PENDING
    intent_id: Annotated[str | None, Field(max_length=128)] = None
    amount: Annotated[str | None, Field(max_length=32)] = None
    captured_amount: Annotated[str | None, Field(max_length=32)] = None
    refunded_amount: Annotated[str | None, Field(max_length=32)] = None
    captured: Minor = 0
    refunded: Minor = 0
    withdrawn: Minor = 0


class Payment(Resource):
    """The resource."""

    spec: PaymentSpec
    status: PaymentStatus = Field(default_factory=PaymentStatus)
