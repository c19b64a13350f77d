"""The parts of the gateway's responses that this client reads; docs/openapi.json describes them."""

from typing_extensions import TypedDict


class Amounts(TypedDict):
    """Minor units of the quote's currency."""

    items: int
    shipping: int
    tax: int
    discount: int
    total: int


class QuoteLine(TypedDict):
    """One priced line."""

    sku: str
    quantity: int
    unitAmount: int


class Quote(TypedDict):
    """What an order costs."""

    currency: str
    lines: list[QuoteLine]
    amounts: Amounts


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


class Order(TypedDict):
    """One order in its current state."""

    id: str
    phase: str
    reason: str | None
    conditions: list[Condition]
    quote: Quote
    tracking: Tracking | None
    compensation: list[Compensation]
    createdAt: str
    cancelRequested: bool


class RefundItem(TypedDict):
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
    items: list[RefundItem]
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
    available: int
    archived: bool


class ProductPage(TypedDict):
    """A page of products; `next` is null on the last page."""

    items: list[Product]
    next: str | None


class StockLevel(TypedDict):
    """The stock of one product."""

    sku: str
    onHand: int
    reserved: int
    available: int


class ReservedItem(TypedDict):
    """A reserved product."""

    sku: str
    quantity: int


class Reservation(TypedDict):
    """Reserved stock; `state` is Pending until it is decided."""

    id: str
    state: str
    message: str | None
    items: list[ReservedItem]
    expiresAt: str
    order: str | None


class Profile(TypedDict):
    """The logged-in user."""

    id: str
    email: str
    name: str
    role: str
    merchant: str
