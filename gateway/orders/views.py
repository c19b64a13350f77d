"""Orders as this API shows them. OpenAPI documents the types; the functions fill them."""

from typing import Annotated, NotRequired

from pydantic import Field
from typing_extensions import TypedDict

from orderplane.crds.documents import OrderDocument, QuoteDocument
from orderplane.crds.order import CompensationStep
from orderplane.gateway.http.documentation import Count, Currency, Next, Phase, Sku, Time, closed

Id = Annotated[str, Field(examples=["o-mfrggzdfmztwq2lknnwg23tpoa"])]
Uid = Annotated[
    str,
    Field(description="Of the Order resource.", examples=["6f1c2f0e-6f0b-4f4e-9d0f-0f2b4a1c7e11"]),
]


class LineView(TypedDict):
    """One priced line; `unitAmount` is in minor units."""

    sku: Sku
    quantity: Count
    unitAmount: Annotated[int, Field(examples=[890])]
    weightGrams: Annotated[int, Field(description="Of one piece.", examples=[120])]


class AmountsView(TypedDict):
    """Amounts in minor units; total = items + shipping + tax - discount."""

    items: Annotated[int, Field(examples=[1780])]
    shipping: Annotated[int, Field(examples=[490])]
    tax: Annotated[int, Field(description="What is added to the prices.", examples=[431])]
    includedTax: NotRequired[
        Annotated[
            int,
            Field(
                description="The tax that the prices have in them; no part of the sum. Older orders lack it.",
                examples=[0],
            ),
        ]
    ]
    discount: Annotated[int, Field(examples=[0])]
    total: Annotated[int, Field(examples=[2701])]


class AppliedPriceRuleView(TypedDict):
    """The price rule of the quote's currency that shipping and tax are from."""

    version: Annotated[int, Field(examples=[3])]
    taxBasisPoints: Annotated[
        int, Field(description="The rate of the tax, in hundredths of a percent.", examples=[1900])
    ]


class QuoteView(TypedDict):
    """What the order costs, as priced when it was placed."""

    currency: Currency
    lines: list[LineView]
    amounts: AmountsView
    priceRule: NotRequired[Annotated[AppliedPriceRuleView, Field(description="Older orders lack it.")]]


class LinksView(TypedDict):
    """Addresses of related resources."""

    self: Annotated[str, Field(examples=["/api/orders/o-mfrggzdfmztwq2lknnwg23tpoa"])]
    cancel: Annotated[str, Field(examples=["/api/orders/o-mfrggzdfmztwq2lknnwg23tpoa/cancel"])]
    timeline: NotRequired[
        Annotated[str, Field(examples=["/api/orders/o-mfrggzdfmztwq2lknnwg23tpoa/timeline"])]
    ]
    tracking: NotRequired[
        Annotated[
            str,
            Field(
                description="The carrier's page, an absolute address; present once there is a label.",
                examples=["https://post.example/SBX35"],
            ),
        ]
    ]


class AcceptedView(TypedDict):
    """The accepted order. `phase` is always Pending here, also in a replayed answer."""

    id: Id
    uid: Uid
    phase: Annotated[Phase, Field(examples=["Pending"])]
    quote: QuoteView
    links: LinksView


class ConditionView(TypedDict):
    """A condition of the order (`Paid`, `Shipped`, `Stalled`...) with its reason."""

    type: Annotated[str, Field(examples=["Shipped"])]
    status: Annotated[
        str,
        Field(examples=["True"], json_schema_extra=closed("ConditionStatus", ("True", "False", "Unknown"))),
    ]
    reason: Annotated[str, Field(description="One word, for programs.", examples=["LabelBought"])]
    message: Annotated[
        str, Field(description="Text for display.", examples=["SandboxPost carries it as SBX35."])
    ]
    lastTransitionTime: Time


class ItemView(TypedDict):
    """An ordered product."""

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
    """One compensation step."""

    step: Annotated[
        str,
        Field(
            examples=["RefundPayment"],
            json_schema_extra=closed("CompensationStep", CompensationStep),
        ),
    ]
    reference: Annotated[
        str,
        Field(description="The id of the refund, label or reservation.", examples=["re_3Pk0pD"]),
    ]
    at: Time


class AddressView(TypedDict):
    """Where the parcel goes. What the customer left out is null."""

    name: Annotated[str, Field(examples=["Ada Example"])]
    line1: Annotated[str, Field(examples=["1 Sample Street"])]
    line2: Annotated[str | None, Field(examples=[None])]
    city: Annotated[str, Field(examples=["Berlin"])]
    region: Annotated[str | None, Field(examples=[None])]
    postalCode: Annotated[str, Field(examples=["10115"])]
    country: Annotated[str, Field(description="ISO 3166-1 alpha-2.", examples=["DE"])]


class OrderView(TypedDict):
    """One order in its current state."""

    id: Id
    uid: Uid
    customer: Annotated[str, Field(description="The shop's id of the customer.", examples=["c-1001"])]
    reference: Annotated[
        str | None, Field(description="The shop's own number of it.", examples=["2026-11-0042"])
    ]
    metadata: Annotated[
        dict[str, str],
        Field(description="What the shop keeps with it.", examples=[{"channel": "newsletter"}]),
    ]
    phase: Phase
    reason: Annotated[
        str | None,
        Field(
            description="What it waits for, or else why it failed or is being compensated.", examples=[None]
        ),
    ]
    stalled: Annotated[bool, Field(description="Whether it waits for a person.")]
    conditions: list[ConditionView]
    quote: QuoteView
    items: list[ItemView]
    paymentMethod: Annotated[
        str, Field(description="The payment provider's token.", examples=["pm_card_visa"])
    ]
    tracking: Annotated[TrackingView | None, Field(description="Of the last label that was bought.")]
    compensation: Annotated[list[CompensationView], Field(examples=[[]])]
    createdAt: Time
    finishedAt: Annotated[
        Time | None, Field(description="When it was delivered, failed or was cancelled; null before.")
    ]
    cancelRequested: bool
    address: NotRequired[Annotated[AddressView, Field(description="With `expand=address` only.")]]
    links: LinksView


class OrderListView(TypedDict):
    """A page of orders, the newest first."""

    items: list[OrderView]
    next: Next


class StreamEventView(TypedDict):
    """One event of a stream of orders."""

    event: Annotated[
        str, Field(description="`reset`, `order`, `synced`, `gone` or `end`.", examples=["gone"])
    ]
    id: NotRequired[
        Annotated[
            str,
            Field(description="For `Last-Event-ID`; of changes and `synced`.", examples=["48219-9b1f03a4"]),
        ]
    ]
    data: Annotated[
        str,
        Field(
            description="JSON: of `order` an `OrderView`; of `gone` its `id`; of `reset` and `end` a `code` "
            "and a `detail`.",
            examples=['{"id":"o-mfrggzdfmztwq2lknnwg23tpoa"}'],
        ),
    ]


def order_links(order_id: str) -> LinksView:
    """The addresses that an order has from the beginning."""
    return {"self": f"/api/orders/{order_id}", "cancel": f"/api/orders/{order_id}/cancel"}


def accepted_view(order_id: str, uid: str, quote: QuoteDocument) -> AcceptedView:
    """The body of the 202 response, made of stored data only, so that a later request can make it again."""
    return {"id": order_id, "uid": uid, "phase": "Pending", "quote": quote, "links": order_links(order_id)}


def order_view(order: OrderDocument) -> OrderView:
    """An Order resource without its address, which is personal data."""
    metadata, spec, status = order["metadata"], order["spec"], order.get("status", {})
    links = order_links(metadata["name"])
    links["timeline"] = f"{links['self']}/timeline"
    if tracking := status.get("tracking"):
        links["tracking"] = tracking["url"]
    return {
        "id": metadata["name"],
        "uid": metadata["uid"],
        "customer": spec["customer"],
        "reference": spec.get("reference"),
        "metadata": spec.get("metadata", {}),
        "phase": status.get("phase", "Pending"),
        "reason": status.get("reason"),
        "stalled": status.get("stalled", False),
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
        "paymentMethod": spec["paymentMethod"],
        "tracking": tracking,
        "compensation": status.get("compensation", []),
        "createdAt": metadata["creationTimestamp"],
        "finishedAt": status.get("finishedAt"),
        "cancelRequested": spec.get("cancel", False),
        "links": links,
    }


def addressed_view(order: OrderDocument) -> OrderView:
    """An Order resource with its address, for those who may see that."""
    address = order["spec"]["address"]
    return {
        **order_view(order),
        "address": {
            "name": address["name"],
            "line1": address["line1"],
            "line2": address.get("line2"),
            "city": address["city"],
            "region": address.get("region"),
            "postalCode": address["postalCode"],
            "country": address["country"],
        },
    }
