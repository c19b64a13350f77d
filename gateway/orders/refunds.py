"""Refunds after the sale as this API takes and shows them."""

from collections.abc import Sequence
from typing import Annotated, Self

from pydantic import ConfigDict, Field, model_validator
from typing_extensions import TypedDict

from orderplane.controllers.order.refunds import refund_info
from orderplane.crds.meta import ApiModel
from orderplane.crds.order import Item, RefundPhase, RefundSpec
from orderplane.gateway.http.body import STRICT
from orderplane.gateway.http.documentation import Currency, Time, closed
from orderplane.gateway.http.problems import Problem
from orderplane.gateway.orders.timeline import timestamp
from orderplane.gateway.orders.views import ItemView
from orderplane.ledgers.refunds import RefundRequest


class RefundItemRequest(Item):
    """A product and how many pieces of it."""

    model_config = STRICT


class NewRefundRequest(ApiModel):
    """What to give back: an amount, or what some pieces cost; without both, all that is left."""

    model_config = ConfigDict(
        **STRICT,
        json_schema_extra={
            "examples": [
                {
                    "reason": "Damaged",
                    "items": [{"sku": "TEA-EARL-GREY-100", "quantity": 1}],
                    "restock": False,
                }
            ]
        },
    )

    reason: Annotated[
        str,
        *RefundSpec.model_fields["reason"].metadata,
        Field(
            description="Why, as one CamelCase word of the shop's own. It is shown to the customer and is "
            "part of the events; no personal data.",
            examples=["Damaged"],
        ),
    ]
    amount: Annotated[
        int | None,
        *RefundSpec.model_fields["amount"].metadata,
        Field(description="In minor units of the order's currency.", examples=[890]),
    ] = None
    items: Annotated[
        tuple[RefundItemRequest, ...],
        *RefundSpec.model_fields["lines"].metadata,
        Field(
            description="The pieces that it is for, each product at most once. Without an amount they are "
            "worth what they cost, with their part of the tax and without shipping.",
        ),
    ] = ()
    restock: Annotated[
        bool,
        Field(
            description="Whether these pieces are on hand again; without items and amount, all that went out "
            "and did not come back yet."
        ),
    ] = False

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if len({item.sku for item in self.items}) < len(self.items):
            raise ValueError("A product is listed twice in items; give it once, with the whole quantity.")
        if self.restock and self.amount is not None and not self.items:
            raise ValueError("Name the items that are restocked, or leave out the amount to restock all.")
        return self


class RefundView(TypedDict):
    """A refund after the sale."""

    id: Annotated[str, Field(examples=["rf-mfrggzdfmztwq2lknnwg23tpoa"])]
    phase: Annotated[
        str,
        Field(
            description="Failed: the payment provider does not make it, and a person has to act. Refused: "
            "it cannot be made.",
            examples=["Requested"],
            json_schema_extra=closed("RefundPhase", RefundPhase),
        ),
    ]
    amount: Annotated[int, Field(description="In minor units.", examples=[890])]
    currency: Currency
    reason: Annotated[str, Field(description="The shop's word.", examples=["Damaged"])]
    items: Annotated[list[ItemView], Field(description="The pieces that it is for.")]
    restocked: Annotated[bool, Field(description="Whether these pieces are on hand again.")]
    message: Annotated[
        str | None, Field(description="Text for display.", examples=["8.90 EUR is to be given back."])
    ]
    reference: Annotated[
        str | None,
        Field(description="The payment provider's id: what a bank can trace.", examples=["re_3Pk0pD"]),
    ]
    requestedAt: Time


class RefundListView(TypedDict):
    """Every refund of an order, oldest first."""

    items: list[RefundView]


def refund_view(request: RefundRequest, currency: str) -> RefundView:
    """One refund, as the ledger has it."""
    info = refund_info(request, currency)
    return {
        "id": request.name,
        "phase": info.phase.value,
        "amount": info.amount if info.amount is not None else request.amount,
        "currency": currency,
        "reason": request.reason,
        "items": [{"sku": sku, "quantity": quantity} for sku, quantity in sorted(request.lines.items())],
        "restocked": request.is_restocked,
        "message": info.message,
        "reference": info.reference,
        "requestedAt": timestamp(request.created_at),
    }


def refund_list_view(requests: Sequence[RefundRequest], currency: str) -> RefundListView:
    """All of an order's."""
    return {"items": [refund_view(request, currency) for request in requests]}


def not_shipped() -> Problem:
    """The problem for an order that the carrier does not have, or never had."""
    return Problem(
        "not_shipped",
        "Only an order that the carrier has can be refunded. Cancel one that has not left; one that was "
        "cancelled or has failed has its money back.",
    )


def refund_refused(request: RefundRequest) -> Problem:
    """The problem for a refund that the ledger did not admit."""
    if request.refusal == "NotShipped":
        return not_shipped()
    return Problem("refund_refused", request.message or "", extra={"reason": request.refusal})
