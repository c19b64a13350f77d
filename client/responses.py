"""The parts of the gateway's responses that this client reads; docs/openapi.json describes them."""

from typing import Any, NotRequired

from typing_extensions import TypedDict


class Amounts(TypedDict):
    """Minor units of the quote's currency."""

    items: int
    shipping: int
    tax: int
    includedTax: NotRequired[int]
    discount: int
    total: int


class QuoteLine(TypedDict):
    """One priced line."""

    sku: str
    quantity: int
    unitAmount: int


class AppliedPriceRule(TypedDict):
    """Which version of the price rule of a quote's currency was used."""

    version: int
    taxBasisPoints: int


class Quote(TypedDict):
    """What an order costs; older orders have no `priceRule`."""

    currency: str
    lines: list[QuoteLine]
    amounts: Amounts
    priceRule: NotRequired[AppliedPriceRule]


class Accepted(TypedDict):
    """An accepted order."""

    id: str
    phase: str
    quote: Quote


class Condition(TypedDict):
    """A condition of an order."""

    type: str
    status: str
    reason: str
    message: str
    lastTransitionTime: str


class Tracking(TypedDict):
    """How to follow the parcel."""

    carrier: str
    code: str
    url: str


class Compensation(TypedDict):
    """One compensation step."""

    step: str
    reference: str
    at: str


class Address(TypedDict):
    """Where a parcel goes."""

    name: str
    line1: str
    line2: str | None
    city: str
    region: str | None
    postalCode: str
    country: str


class Order(TypedDict):
    """One order in its current state."""

    id: str
    customer: str
    reference: str | None
    metadata: dict[str, str]
    phase: str
    reason: str | None
    stalled: NotRequired[bool]
    conditions: list[Condition]
    quote: Quote
    paymentMethod: str
    tracking: Tracking | None
    compensation: list[Compensation]
    createdAt: str
    finishedAt: str | None
    cancelRequested: bool
    address: NotRequired[Address]


class Item(TypedDict):
    """A product and how many pieces of it."""

    sku: str
    quantity: int


class Refund(TypedDict):
    """A refund after the sale; `amount` is in minor units."""

    id: str
    phase: str
    amount: int
    currency: str
    reason: str
    items: list[Item]
    restocked: bool
    message: str | None
    reference: str | None
    requestedAt: str


class Refunds(TypedDict):
    """Every refund of an order, oldest first."""

    items: list[Refund]


class PhaseAt(TypedDict):
    """A phase, and when the order first reached it."""

    phase: str
    at: str


class Event(TypedDict):
    """One event of an order."""

    sequence: int
    type: str
    at: str
    reason: str | None
    actor: str | None


class References(TypedDict):
    """The ids of an order at the providers; `payment` and `shipment` are null for customers."""

    payment: str | None
    refunds: list[str]
    shipment: str | None
    carrier: str | None
    trackingCode: str | None


class Timeline(TypedDict):
    """The history of one order, oldest first."""

    id: str
    phases: list[PhaseAt]
    events: list[Event]
    compensation: list[Compensation]
    references: References


class OrderPage(TypedDict):
    """A page of orders; `next` is null on the last page."""

    items: list[Order]
    next: str | None


class Price(TypedDict):
    """The price of one piece; `formatted` is for display."""

    amount: int
    currency: str
    formatted: str


class Product(TypedDict):
    """One product; an archived one is not for sale any more."""

    sku: str
    name: str
    description: str
    price: Price
    otherPrices: dict[str, int]
    weightGrams: int
    available: int
    archived: bool


class ProductPage(TypedDict):
    """A page of products; `next` is null on the last page."""

    items: list[Product]
    next: str | None


class PriceRule(TypedDict):
    """The price rule of a currency; `rule` can be sent back as it is."""

    currency: str
    version: int
    changedAt: str
    rule: dict[str, Any]


class PriceRuleList(TypedDict):
    """The price rules of a merchant, by currency."""

    items: list[PriceRule]


class PriceRuleVersion(TypedDict):
    """One version of a price rule; `rule` is null where it was deleted."""

    version: int
    changedAt: str
    actor: str | None
    rule: dict[str, Any] | None


class PriceRuleVersionPage(TypedDict):
    """A page of versions, the newest first; `next` is null on the last page."""

    items: list[PriceRuleVersion]
    next: str | None


class StockLevel(TypedDict):
    """The stock of one product."""

    sku: str
    onHand: int
    reserved: int
    available: int


class StockPage(TypedDict):
    """A page of stocks; `next` is null on the last page."""

    items: list[StockLevel]
    next: str | None


class StockCount(StockLevel):
    """A stock that was corrected; `lost` are the reservations that lost theirs."""

    before: int
    lost: list[str]


class Movement(TypedDict):
    """One change of a stock."""

    id: int
    at: str
    kind: str
    onHandDelta: int
    reservedDelta: int
    reason: str | None
    actor: str | None
    order: str | None


class MovementPage(TypedDict):
    """A page of movements; `next` is null on the last page."""

    items: list[Movement]
    next: str | None


class Reservation(TypedDict):
    """Reserved stock; `state` is Pending until it is decided."""

    id: str
    state: str
    message: str | None
    items: list[Item]
    expiresAt: str
    order: str | None


class Profile(TypedDict):
    """The logged-in user."""

    id: str
    email: str
    name: str
    role: str
    merchant: str


class WebhookEndpoint(TypedDict):
    """Where a merchant's systems are told of events."""

    id: str
    url: str
    description: str
    eventTypes: list[str]
    enabled: bool
    disabledReason: str | None
    disabledAt: str | None
    failingSince: str | None
    previousSecretUntil: str | None
    actor: str | None
    createdAt: str
    updatedAt: str


class WebhookEndpointList(TypedDict):
    """All endpoints of a merchant."""

    items: list[WebhookEndpoint]


class EndpointSecret(TypedDict):
    """The secret by which requests to an endpoint are signed."""

    secret: str
    previousSecretUntil: str | None


class EventDelivery(TypedDict):
    """One event for one endpoint; `subject` and `sequence` are null for a test."""

    eventId: str
    type: str
    subject: str | None
    sequence: int | None
    state: str
    reason: str | None
    attempts: int
    createdAt: str
    nextAttemptAt: str | None
    endedAt: str | None


class EventDeliveryPage(TypedDict):
    """A page of deliveries."""

    items: list[EventDelivery]
    next: str | None


class DeliveryAttempt(TypedDict):
    """One request and its answer."""

    attempt: int
    at: str
    url: str
    status: int | None
    reason: str | None
    latencyMilliseconds: int
    answer: str


class DeliveryRequest(TypedDict):
    """What is sent."""

    contentType: str
    body: str


class DeliveryLog(EventDelivery):
    """One delivery with its request and its attempts."""

    request: DeliveryRequest
    log: list[DeliveryAttempt]


class DeliveryReplay(TypedDict):
    """How many deliveries are sent again."""

    replayed: int
