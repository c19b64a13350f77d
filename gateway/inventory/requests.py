"""Request bodies for stock."""

from typing import Annotated, Self

from pydantic import ConfigDict, Field, model_validator

from orderplane.crds.meta import ApiModel
from orderplane.crds.order import Item
from orderplane.crds.reservation import LONGEST_HOLD, ReservationSpec
from orderplane.crds.text import Line
from orderplane.gateway.http.body import STRICT

MAX_ON_HAND = 1_000_000_000
MAX_TTL_SECONDS = int(LONGEST_HOLD.total_seconds())

Reason = Annotated[
    Line,
    Field(
        min_length=1,
        max_length=200,
        description="The reason, kept in the ledger; no personal data.",
        examples=["water damage"],
    ),
]


class ReservationItemRequest(Item):
    """A product and how many of it."""

    model_config = STRICT


class ReserveRequest(ApiModel):
    """Stock to reserve without an order: all of it or nothing."""

    model_config = ConfigDict(
        **STRICT,
        json_schema_extra={
            "examples": [{"items": [{"sku": "TEA-EARL-GREY-100", "quantity": 2}], "ttlSeconds": 900}]
        },
    )

    items: Annotated[
        tuple[ReservationItemRequest, ...],
        *ReservationSpec.model_fields["items"].metadata,
        Field(description="Each product at most once."),
    ]
    ttl_seconds: Annotated[
        int,
        Field(
            ge=1,
            le=MAX_TTL_SECONDS,
            description="Release it after this time at the latest; a week at most.",
            examples=[900],
        ),
    ] = 900

    @model_validator(mode="after")
    def _unique_products(self) -> Self:
        if len({item.sku for item in self.items}) < len(self.items):
            raise ValueError("A product is listed twice in items; give it once, with the whole quantity.")
        return self


class ReleaseRequest(ApiModel):
    """A reservation to release."""

    model_config = STRICT

    reservation: Annotated[
        str,
        Field(max_length=253, description="Its `id`.", examples=["r-mfrggzdfmztwq2lknnwg23tpoa"]),
    ]


class AdjustmentRequest(ApiModel):
    """A known difference, such as a delivery or a broken cup."""

    model_config = STRICT

    delta: Annotated[
        int,
        Field(
            ge=-MAX_ON_HAND,
            le=MAX_ON_HAND,
            description="The change of the quantity on hand; not 0.",
            examples=[-1],
        ),
    ]
    reason: Reason

    @model_validator(mode="after")
    def _not_zero(self) -> Self:
        if self.delta == 0:
            raise ValueError("delta is 0, which changes nothing.")
        return self


class RecountRequest(ApiModel):
    """The result of counting the stock."""

    model_config = STRICT

    on_hand: Annotated[int, Field(ge=0, le=MAX_ON_HAND, description="How many were counted.", examples=[40])]
    reason: Reason
