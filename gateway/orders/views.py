"""Resources as this API shows them. The types are the documentation; the functions fill them."""

from typing import Annotated, Any, NotRequired

from pydantic import Field
from typing_extensions import TypedDict

Json = dict[str, Any]


class LineView(TypedDict):
    """One priced line; `unitAmount` in minor units."""

    sku: str
    quantity: int
    unitAmount: int
    weightGrams: int


class AmountsView(TypedDict):
    """Minor units; total = items + shipping + tax - discount."""

    items: int
    shipping: int
    tax: int
    discount: int
    total: int


class QuoteView(TypedDict):
    """What the order costs, as priced when it was placed."""

    currency: Annotated[str, Field(description="ISO 4217.", examples=["EUR"])]
    lines: list[LineView]
    amounts: AmountsView


class LinksView(TypedDict):
    """Where to go from here."""

    self: Annotated[str, Field(examples=["/api/orders/o-mfrggzdfmztwq2lknnwg23tpoa"])]
    cancel: Annotated[str, Field(examples=["/api/orders/o-mfrggzdfmztwq2lknnwg23tpoa/cancel"])]
    timeline: NotRequired[
        Annotated[str, Field(examples=["/api/orders/o-mfrggzdfmztwq2lknnwg23tpoa/timeline"])]
    ]
    tracking: NotRequired[
        Annotated[str, Field(description="The carrier's page, once there is a label: an absolute address.")]
    ]


class AcceptedView(TypedDict):
    """The order as it was accepted: `phase` is always Pending here, also when the answer is replayed."""

    id: str
    uid: str
    phase: str
    quote: QuoteView
    links: LinksView


class ConditionView(TypedDict):
    """One fact about the order (`Paid`, `Shipped`, `Stalled`...), with the reason."""

    type: str
    status: Annotated[str, Field(description="True, False or Unknown.")]
    reason: str
    message: str
    lastTransitionTime: str


class ItemView(TypedDict):
    """What was asked for."""

    sku: str
    quantity: int


class TrackingView(TypedDict):
    """How to follow the parcel."""

    carrier: str
    code: str
    url: str


class CompensationView(TypedDict):
    """One thing that was undone."""

    step: Annotated[str, Field(description="CancelShipment, CancelPayment, RefundPayment or ReleaseStock.")]
    reference: str
    at: str


class OrderView(TypedDict):
    """One order as it is now."""

    id: str
    uid: str
    phase: Annotated[
        str,
        Field(
            description="Pending, Reserved, Paid, Shipped, Delivered; Compensating; Failed or Cancelled.",
            examples=["Paid"],
        ),
    ]
    reason: Annotated[str | None, Field(description="Why it failed or is being undone.")]
    conditions: list[ConditionView]
    quote: QuoteView
    items: list[ItemView]
    tracking: TrackingView | None
    compensation: list[CompensationView]
    createdAt: Annotated[str, Field(description="RFC 3339, UTC.")]
    cancelRequested: bool
    links: LinksView


class OrderListView(TypedDict):
    """A page of orders, by id. `next` is the cursor of the following page, null on the last."""

    items: list[OrderView]
    next: str | None


def links_of(order_id: str) -> LinksView:
    """The addresses that every order has from the beginning."""
    return {"self": f"/api/orders/{order_id}", "cancel": f"/api/orders/{order_id}/cancel"}


def accepted(order_id: str, uid: str, quote: QuoteView) -> AcceptedView:
    """The body of a 202. The same for ever, so that it can be made again from what is stored."""
    return {"id": order_id, "uid": uid, "phase": "Pending", "quote": quote, "links": links_of(order_id)}


def order_view(order: Json) -> OrderView:
    """An Order resource, as the API server tells it, without what is nobody's business (the address)."""
    metadata, spec, status = order["metadata"], order["spec"], order.get("status", {})
    links = links_of(metadata["name"])
    links["timeline"] = f"{links['self']}/timeline"
    if tracking := status.get("tracking"):
        links["tracking"] = tracking["url"]
    return {
        "id": metadata["name"],
        "uid": metadata["uid"],
        "phase": status.get("phase", "Pending"),
        "reason": status.get("reason"),
        "conditions": [
            {
                "type": condition["type"],
                "status": condition["status"],
                "reason": condition["reason"],
                "message": condition.get("message", ""),
                "lastTransitionTime": condition["lastTransitionTime"],
            }
            for condition in status.get("conditions", ())
        ],
        "quote": spec["quote"],
        "items": spec["items"],
        "tracking": tracking,
        "compensation": status.get("compensation", []),
        "createdAt": metadata["creationTimestamp"],
        "cancelRequested": spec.get("cancel", False),
        "links": links,
    }
