"""Order: what a customer ordered, at which price, and its progress."""

from datetime import datetime
from enum import StrEnum
from typing import Annotated

from pydantic import Field

from orderplane.crds.actors import read_actor
from orderplane.crds.countries import Country
from orderplane.crds.meta import (
    CANCELLED_BY_ANNOTATION,
    CUSTOMER_PATTERN,
    MOST_MINOR,
    REFUND_NAME_PATTERN,
    RETRIED_BY_ANNOTATION,
    RETRY_ANNOTATION,
    ApiModel,
    Currency,
    Minor,
    Quantity,
    Resource,
    ResourceStatus,
    Sku,
)
from orderplane.crds.text import Line


class OrderPhase(StrEnum):
    """A summary of the conditions, for display and field selectors."""

    PENDING = "Pending"
    RESERVED = "Reserved"
    PAID = "Paid"
    SHIPPED = "Shipped"
    DELIVERED = "Delivered"
    RETURNED = "Returned"
    COMPENSATING = "Compensating"
    FAILED = "Failed"
    CANCELLED = "Cancelled"


FINISHED = frozenset({OrderPhase.DELIVERED, OrderPhase.RETURNED, OrderPhase.FAILED, OrderPhase.CANCELLED})


class OrderCondition(StrEnum):
    """Condition types. Each of the first four stays True while the saga goes on."""

    RESERVED = "Reserved"
    PAID = "Paid"
    SHIPPED = "Shipped"
    DELIVERED = "Delivered"
    FAILED = "Failed"
    CANCELLED = "Cancelled"
    UNDONE = "Undone"
    RECONCILING = "Reconciling"
    STALLED = "Stalled"


class Item(ApiModel):
    """An ordered product."""

    sku: Sku
    quantity: Quantity


class QuoteLine(ApiModel):
    """One item with its price, and the weight of one piece, at the time of ordering."""

    sku: Sku
    quantity: Quantity
    unit_amount: Annotated[int, Field(ge=0, le=99_999_999_999)]
    weight_grams: Annotated[int, Field(ge=1, le=1_000_000)]


class Amounts(ApiModel):
    """total = items + shipping + tax - discount.

    `tax` is what is added to the prices, `included_tax` what they have in them: one of the two is 0. Older
    orders have no `included_tax`.
    """

    items: Minor
    shipping: Minor
    tax: Minor
    included_tax: Minor | None = None
    discount: Minor
    total: Minor


class AppliedPriceRule(ApiModel):
    """Which version of the price rule of the quote's currency was used, and the rate of its tax."""

    version: Annotated[int, Field(ge=1)]
    tax_basis_points: Annotated[int, Field(ge=0, le=10_000)]


class Quote(ApiModel):
    """What the order costs. Written by the gateway or the admission webhook, never by a customer.

    Orders of before there were versions have no `price_rule`.
    """

    currency: Currency
    lines: Annotated[tuple[QuoteLine, ...], Field(min_length=1, max_length=50)]
    amounts: Amounts
    price_rule: AppliedPriceRule | None = None


class Address(ApiModel):
    """The shipping address, the only personal data in a resource.

    This is how it is read. A stored one may be older than a rule of `NewAddress`, and must be handled.
    """

    name: Annotated[str, Field(min_length=1, max_length=100)]
    line1: Annotated[str, Field(min_length=1, max_length=200)]
    line2: Annotated[str | None, Field(max_length=200)] = None
    city: Annotated[str, Field(min_length=1, max_length=100)]
    region: Annotated[str | None, Field(max_length=100)] = None
    postal_code: Annotated[str, Field(min_length=1, max_length=20)]
    country: Annotated[str, Field(pattern=r"^[A-Z]{2}$", max_length=2)]


class NewAddress(Address):
    """The shipping address of a new order: text and a country, not any characters."""

    name: Annotated[Line, *Address.model_fields["name"].metadata]
    line1: Annotated[Line, *Address.model_fields["line1"].metadata]
    line2: Annotated[Line | None, *Address.model_fields["line2"].metadata] = None
    city: Annotated[Line, *Address.model_fields["city"].metadata]
    region: Annotated[Line | None, *Address.model_fields["region"].metadata] = None
    postal_code: Annotated[Line, *Address.model_fields["postal_code"].metadata]
    country: Country


PaymentMethod = Annotated[str, Field(pattern=r"^pm_[A-Za-z0-9_]{1,64}$", max_length=67)]
"""A provider's token. Never a card number."""


ReservationName = Annotated[str, Field(pattern=r"^[a-z0-9]([a-z0-9.-]*[a-z0-9])?$", max_length=253)]
"""The name of a Reservation without an order."""


class RefundSpec(ApiModel):
    """Money, and perhaps goods, that are to go back once the carrier has the order.

    Neither `amount` nor `lines` means all that is left; `lines` alone, what these pieces cost.
    """

    name: Annotated[str, Field(pattern=REFUND_NAME_PATTERN, max_length=63)]
    reason: Annotated[str, Field(pattern=r"^[A-Z][A-Za-z0-9]*$", max_length=64)]
    amount: Annotated[int | None, Field(ge=1, le=MOST_MINOR)] = None
    lines: Annotated[tuple[Item, ...], Field(max_length=50)] = ()
    restock: bool = False


class OrderSpec(ApiModel):
    """Immutable but for `cancel` (false to true, once), `refunds` (one can be added) and
    `ttlSecondsAfterFinished`."""

    customer: Annotated[str, Field(pattern=CUSTOMER_PATTERN, max_length=63)]
    items: Annotated[tuple[Item, ...], Field(min_length=1, max_length=50)]
    quote: Quote
    address: Address
    payment_method: PaymentMethod
    reservation: ReservationName | None = None
    cancel: bool = False
    refunds: Annotated[tuple[RefundSpec, ...], Field(max_length=16)] = ()
    ttl_seconds_after_finished: Annotated[int | None, Field(ge=0, le=31_536_000)] = None


Reference = Annotated[Line, Field(min_length=1, max_length=200)]
"""The shop's own number of an order."""
MetadataKey = Annotated[Line, Field(min_length=1, max_length=40)]
MetadataValue = Annotated[Line, Field(max_length=500)]
Metadata = Annotated[dict[MetadataKey, MetadataValue], Field(max_length=50)]
"""What a shop keeps with an order for itself. Source of the bounds: https://docs.stripe.com/api/metadata"""


class NewOrderSpec(OrderSpec):
    """What a new order has to be; `OrderSpec` is how controllers read a stored one.

    What only the shop reads of it, `reference` and `metadata`, is not in their memory.
    """

    address: NewAddress
    reference: Reference | None = None
    metadata: Metadata | None = None


class CompensationStep(StrEnum):
    """A kind of compensation."""

    CANCEL_SHIPMENT = "CancelShipment"
    CANCEL_PAYMENT = "CancelPayment"
    REFUND_PAYMENT = "RefundPayment"
    RELEASE_STOCK = "ReleaseStock"


MOST_REFERENCE = 128


class Compensation(ApiModel):
    """One compensated effect, read from the history, with its id at the provider or in the ledger.

    Of what a person has settled by hand, the reference is theirs.
    """

    step: CompensationStep
    reference: Annotated[str, Field(max_length=MOST_REFERENCE)]
    at: datetime


class RefundPhase(StrEnum):
    """What became of a refund that was asked for."""

    WAITING = "Waiting"  # the carrier does not have the order yet
    REQUESTED = "Requested"
    PENDING = "Pending"  # the payment provider works on it
    REFUNDED = "Refunded"
    FAILED = "Failed"  # the payment provider has failed it; a person has to act
    NOT_NEEDED = "NotNeeded"  # the money left the payment elsewhere before
    REFUSED = "Refused"  # it cannot be made


class RefundInfo(ApiModel):
    """One refund after the sale; `reference` is the provider's id, `reason` says why it was refused."""

    name: Annotated[str, Field(max_length=63)]
    phase: RefundPhase
    amount: Minor | None = None
    reason: Annotated[str | None, Field(max_length=64)] = None
    message: Annotated[str | None, Field(max_length=256)] = None
    reference: Annotated[str | None, Field(max_length=128)] = None


class TrackingInfo(ApiModel):
    """How to track the parcel at the carrier."""

    carrier: Annotated[str, Field(max_length=63)]
    code: Annotated[str, Field(max_length=128)]
    url: Annotated[str, Field(max_length=512)]


class OrderStatus(ResourceStatus):
    """Written by the order controller only."""

    phase: OrderPhase = OrderPhase.PENDING
    total: Annotated[str | None, Field(max_length=32)] = None
    compensation: Annotated[tuple[Compensation, ...], Field(max_length=16)] = ()
    refunds: Annotated[tuple[RefundInfo, ...], Field(max_length=48)] = ()
    tracking: TrackingInfo | None = None
    finished_at: datetime | None = None
    handled_retry: Annotated[str | None, Field(max_length=64)] = None


class Order(Resource):
    """The resource."""

    spec: OrderSpec
    status: OrderStatus = Field(default_factory=OrderStatus)

    @property
    def child_name(self) -> str:
        """The name of this order's Reservation, Payment and Shipment."""
        return child_name(self.metadata.name, self.metadata.uid)

    @property
    def wants_retry(self) -> bool:
        """Whether a retry was requested by annotation that the status does not acknowledge yet."""
        return self.metadata.annotations.get(RETRY_ANNOTATION) != self.status.handled_retry

    @property
    def cancelled_by(self) -> str | None:
        """Who set `spec.cancel`, as in `crds.actors`; None where it is not known."""
        return read_actor(self.metadata.annotations.get(CANCELLED_BY_ANNOTATION))

    @property
    def retried_by(self) -> str | None:
        """Who asked for the last retry, as in `crds.actors`; None where it is not known."""
        return read_actor(self.metadata.annotations.get(RETRIED_BY_ANNOTATION))


def child_name(order_name: str, order_uid: str) -> str:
    """Deterministic, and different for a new order with the same name."""
    return f"{order_name}-{order_uid[-8:]}"
