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


class Undone(TypedDict):
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
    compensation: list[Undone]
    createdAt: str
    cancelRequested: bool


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
    """One product that is for sale."""

    sku: str
    name: str
    price: Price
    available: int


class ProductPage(TypedDict):
    """Some products; `next` leads on, null on the last page."""

    items: list[Product]
    next: str | None


class Profile(TypedDict):
    """Who is logged in."""

    id: str
    email: str
    name: str
    role: str
    merchant: str
