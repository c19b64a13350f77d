"""The filters of lists and streams of orders, as parameters of a query."""

from datetime import datetime
from typing import Annotated

from fastapi import Query
from pydantic import AwareDatetime, BeforeValidator

from orderplane.crds.meta import Sku
from orderplane.crds.order import OrderPhase, OrderSpec
from orderplane.gateway.http.problems import Problem
from orderplane.gateway.orders.held_orders import Criteria
from orderplane.gateway.principal import Principal

MAX_ORDERS = 200
"""Of a page, and of a state in a stream."""


def _rfc_3339(text: str) -> str:
    """Require an RFC 3339 time; pydantic would also accept a number, as seconds since 1970."""
    if "T" not in text.upper():
        raise ValueError("Send a time as 2026-01-31T12:00:00Z.")
    return text


_Time = Annotated[AwareDatetime, BeforeValidator(_rfc_3339)]
_Customer = Annotated[str, *OrderSpec.model_fields["customer"].metadata]

PhaseFilter = Annotated[OrderPhase | None, Query(description="Only orders in this phase.")]
CreatedAfter = Annotated[
    _Time | None,
    Query(alias="createdAfter", description="Only orders placed at this time or later (RFC 3339)."),
]
CreatedBefore = Annotated[
    _Time | None,
    Query(alias="createdBefore", description="Only orders placed before this time (RFC 3339)."),
]
SkuFilter = Annotated[Sku | None, Query(description="Only orders with this product.")]
CustomerFilter = Annotated[
    _Customer | None,
    Query(description="Only orders of this customer. Customers see their own anyway, and leave it out."),
]
ReferenceFilter = Annotated[
    str | None, Query(min_length=1, max_length=200, description="Only orders with this `reference`.")
]
StalledFilter = Annotated[
    bool | None,
    Query(description="Only orders that wait for a person, or with `false` only those that do not."),
]

ReasonFilter = Annotated[
    str | None, Query(pattern=r"^[A-Z][A-Za-z]{0,62}$", description="Only orders with this `reason`.")
]


def criteria_of(
    caller: Principal,
    customer: str | None,
    phase: OrderPhase | None,
    reference: str | None,
    stalled: bool | None,
    reason: str | None = None,
) -> Criteria:
    """What the orders have in common that are asked for.

    Raises:
        Problem: `validation_failed`: a customer asks for the orders of somebody else.
    """
    if caller.customer not in (None, customer or caller.customer):
        places = [{"parameter": "customer", "detail": "Leave it out: customers see their own orders."}]
        raise Problem("validation_failed", "Correct the parameters in `errors`.", errors=places)
    return Criteria(customer, phase.value if phase else None, reference, stalled, reason)


def written(time: datetime | None) -> str | None:
    """A time as cursors have it."""
    return time.isoformat() if time else None
