"""Answers of the front door, as far as this client reads them. docs/openapi.json says what they mean."""

from typing_extensions import TypedDict


class Amounts(TypedDict):
    """Minor units of the quote's currency."""

    items: int
    shipping: int
    tax: int
    discount: int
    total: int


class Line(TypedDict):
    """One priced line."""

    sku: str
    quantity: int
    unitAmount: int


class Quote(TypedDict):
    """What an order costs."""

    currency: str
    lines: list[Line]
    amounts: Amounts


class Accepted(TypedDict):
    """An order that will be carried out."""

    id: str
    phase: str
    quote: Quote


class Condition(TypedDict):
    """One fact about an order."""

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
    """One thing that was undone."""

    step: str
    reference: str
    at: str


class Order(TypedDict):
    """One order as it is now."""

    id: str
    phase: str
    reason: str | None
    conditions: list[Condition]
    quote: Quote
    tracking: Tracking | None
    compensation: list[Compensation]
    createdAt: str
    cancelRequested: bool


class PhaseAt(TypedDict):
    """A phase, and when the order came to it first."""

    phase: str
    at: str


class Event(TypedDict):
    """One event of an order."""

    sequence: int
    type: str
    at: str
    reason: str | None


class References(TypedDict):
    """Under which names the providers know an order; the shop's own dealings are not told to customers."""

    payment: str | None
    refunds: list[str]
    shipment: str | None
    carrier: str | None
    trackingCode: str | None


class Timeline(TypedDict):
    """One order's past, oldest first."""

    id: str
    phases: list[PhaseAt]
    events: list[Event]
    compensation: list[Compensation]
    references: References


class OrderPage(TypedDict):
    """Some orders; `next` leads on, null on the last page."""

    items: list[Order]
    next: str | None


class Price(TypedDict):
    """Of one piece; `formatted` is for people."""

    amount: int
    currency: str
    formatted: str


class Product(TypedDict):
    """One product; one that is archived is not for sale any more."""

    sku: str
    name: str
    description: str
    price: Price
    otherPrices: dict[str, int]
    available: int
    archived: bool


class ProductPage(TypedDict):
    """Some products; `next` leads on, null on the last page."""

    items: list[Product]
    next: str | None


class Level(TypedDict):
    """The stock of one product; what is reserved is kept for somebody."""

    sku: str
    onHand: int
    reserved: int
    available: int


class ReservedItem(TypedDict):
    """What is kept."""

    sku: str
    quantity: int


class Reservation(TypedDict):
    """Stock that is kept for somebody; `state` is Pending as long as nobody knows."""

    id: str
    state: str
    message: str | None
    items: list[ReservedItem]
    expiresAt: str
    order: str | None


class Profile(TypedDict):
    """Who is logged in."""

    id: str
    email: str
    name: str
    role: str
    merchant: str
