"""Resources as this API shows them. The types are the documentation; the functions fill them."""

from typing import Annotated, Any, NotRequired

from pydantic import Field
from typing_extensions import TypedDict

from orderplane.gateway.http.documentation import Count, Next, Sku, Time

Json = dict[str, Any]

Id = Annotated[str, Field(examples=["o-mfrggzdfmztwq2lknnwg23tpoa"])]
Uid = Annotated[
    str,
    Field(description="Of the Order resource.", examples=["6f1c2f0e-6f0b-4f4e-9d0f-0f2b4a1c7e11"]),
]


class LineView(TypedDict):
    """One priced line; `unitAmount` in minor units."""

    sku: Sku
    quantity: Count
    unitAmount: Annotated[int, Field(examples=[890])]
    weightGrams: Annotated[int, Field(description="Of one piece.", examples=[120])]


class AmountsView(TypedDict):
    """Minor units; total = items + shipping + tax - discount."""

    items: Annotated[int, Field(examples=[1780])]
    shipping: Annotated[int, Field(examples=[490])]
    tax: Annotated[int, Field(examples=[431])]
    discount: Annotated[int, Field(examples=[0])]
    total: Annotated[int, Field(examples=[2701])]


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
        Annotated[
            str,
            Field(
                description="The carrier's page, once there is a label: an absolute address.",
                examples=["https://post.example/SBX35"],
            ),
        ]
    ]


class AcceptedView(TypedDict):
    """The order as it was accepted: `phase` is always Pending here, also when the answer is replayed."""

    id: Id
    uid: Uid
    phase: Annotated[str, Field(examples=["Pending"])]
    quote: QuoteView
    links: LinksView


class ConditionView(TypedDict):
    """One fact about the order (`Paid`, `Shipped`, `Stalled`...), with the reason."""

    type: Annotated[str, Field(examples=["Shipped"])]
    status: Annotated[str, Field(description="True, False or Unknown.", examples=["True"])]
    reason: Annotated[str, Field(description="One word, for programs.", examples=["LabelBought"])]
    message: Annotated[str, Field(description="For people.", examples=["SandboxPost carries it as SBX35."])]
    lastTransitionTime: Time


class ItemView(TypedDict):
    """What was asked for."""

    sku: Sku
    quantity: Count


class TrackingView(TypedDict):
    """How to follow the parcel."""

    carrier: Annotated[str, Field(examples=["SandboxPost"])]
    code: Annotated[str, Field(description="The carrier's number.", examples=["SBX35"])]
    url: Annotated[
        str, Field(description="The page that shows where it is.", examples=["https://post.example/SBX35"])
    ]


class CompensationView(TypedDict):
    """One thing that was undone."""

    step: Annotated[
        str,
        Field(
            description="CancelShipment, CancelPayment, RefundPayment or ReleaseStock.",
            examples=["RefundPayment"],
        ),
    ]
    reference: Annotated[
        str,
        Field(description="Where to look it up: a refund, a label, a reservation.", examples=["re_3Pk0pD"]),
    ]
    at: Time


class OrderView(TypedDict):
    """One order as it is now."""

    id: Id
    uid: Uid
    phase: Annotated[
        str,
        Field(
            description="Pending, Reserved, Paid, Shipped, Delivered; Compensating; Failed or Cancelled.",
            examples=["Shipped"],
        ),
    ]
    reason: Annotated[str | None, Field(description="Why it failed or is being undone.", examples=[None])]
    conditions: list[ConditionView]
    quote: QuoteView
    items: list[ItemView]
    tracking: TrackingView | None
    compensation: Annotated[list[CompensationView], Field(examples=[[]])]
    createdAt: Time
    cancelRequested: bool
    links: LinksView


class OrderListView(TypedDict):
    """A page of orders, by id."""

    items: list[OrderView]
    next: Next


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
