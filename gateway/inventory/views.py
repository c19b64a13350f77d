"""Stock as this API shows it. OpenAPI documents the types; the functions fill them."""

from datetime import UTC, datetime
from typing import Annotated

from pydantic import Field
from typing_extensions import TypedDict

from orderplane.crds.reservation import ReservationPhase, ReservationSpec
from orderplane.gateway.http.documentation import Actor, Count, Next, Sku, Time, closed
from orderplane.ledgers.postgres.inventory import Recount, ReservationRecord, StockLevel, StockMovement
from orderplane.ledgers.states import ReservationState, StockMovementKind

_RESERVATION = "r-mfrggzdfmztwq2lknnwg23tpoa"


class LevelView(TypedDict):
    """The stock of one product; available = onHand - reserved."""

    sku: Sku
    onHand: Annotated[int, Field(examples=[40])]
    reserved: Annotated[int, Field(description="Held for orders and reservations.", examples=[3])]
    available: Annotated[int, Field(examples=[37])]


class LevelListView(TypedDict):
    """A page of stocks, by SKU."""

    items: list[LevelView]
    next: Next


class MovementView(TypedDict):
    """One stock movement."""

    id: Annotated[int, Field(description="Rises with time.", examples=[4711])]
    at: Time
    kind: Annotated[
        str,
        Field(
            description="Recount and Adjust are corrections; the others are for a reservation.",
            examples=["Hold"],
            json_schema_extra=closed("StockMovementKind", StockMovementKind),
        ),
    ]
    onHandDelta: Annotated[int, Field(examples=[0])]
    reservedDelta: Annotated[int, Field(examples=[2])]
    reason: Annotated[
        str | None, Field(description="The reason of a recount or an adjustment.", examples=[None])
    ]
    actor: Actor
    reservation: Annotated[
        str | None,
        Field(description="The id of the reservation, if it belongs to one.", examples=[_RESERVATION]),
    ]
    order: Annotated[
        str | None, Field(description="The id of the order, if it belongs to one.", examples=[None])
    ]


class MovementListView(TypedDict):
    """A page of movements, newest first."""

    items: list[MovementView]
    next: Next


class CountView(LevelView):
    """A stock after a recount or an adjustment, and the quantity before."""

    before: Annotated[int, Field(description="The quantity on hand before.", examples=[41])]
    lost: Annotated[
        list[str],
        Field(
            description="Ids of the reservations, including those of orders, that lost their stock.",
            examples=[[]],
        ),
    ]


class ReservedItemView(TypedDict):
    """A reserved product."""

    sku: Sku
    quantity: Count


class ReservationView(TypedDict):
    """Stock that is reserved until a time."""

    id: Annotated[str, Field(examples=[_RESERVATION])]
    state: Annotated[
        str,
        Field(
            description="Pending: not decided yet. Held, Committed (the goods have left). Rejected, Expired, "
            "Lost (by a recount), Released: nothing is held any more.",
            examples=["Held"],
            json_schema_extra=closed("ReservationState", ReservationPhase),
        ),
    ]
    message: Annotated[str | None, Field(description="What was short, if it was rejected.", examples=[None])]
    items: list[ReservedItemView]
    expiresAt: Time
    order: Annotated[
        str | None,
        Field(description="The id of its order, if it has one.", examples=[None]),
    ]


def level_view(level: StockLevel) -> LevelView:
    """The stock of one product."""
    return {
        "sku": level.sku,
        "onHand": level.on_hand,
        "reserved": level.reserved,
        "available": level.on_hand - level.reserved,
    }


def movement_view(movement: StockMovement) -> MovementView:
    """One stock movement."""
    return {
        "id": movement.id,
        "at": movement.at.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        "kind": movement.kind,
        "onHandDelta": movement.on_hand_delta,
        "reservedDelta": movement.reserved_delta,
        "reason": movement.note,
        "actor": movement.actor,
        "reservation": movement.reservation,
        "order": movement.order,
    }


def count_view(sku: str, count: Recount) -> CountView:
    """The effect of a recount or an adjustment."""
    level = level_view(StockLevel(sku, count.after, count.reserved))
    return {**level, "before": count.before, "lost": list(count.lost)}


def reservation_view(record: ReservationRecord) -> ReservationView:
    """A reservation that the controller has decided."""
    # Pinned (a payment is being confirmed) is internal; to clients the stock is held.
    state = ReservationState.HELD if record.state is ReservationState.PINNED else record.state
    return {
        "id": record.name,
        "state": state.value,
        "message": record.message,
        "items": [{"sku": sku, "quantity": quantity} for sku, quantity in record.items.items()],
        "expiresAt": _seconds(record.expires_at),
        "order": record.order,
    }


def pending_view(name: str, spec: ReservationSpec, expires_at: datetime) -> ReservationView:
    """A reservation that is not decided yet; `expires_at` is the earliest end that it may get."""
    return {
        "id": name,
        "state": ReservationPhase.PENDING.value,
        "message": None,
        "items": [{"sku": item.sku, "quantity": item.quantity} for item in spec.items],
        "expiresAt": _seconds(expires_at),
        "order": spec.order_ref.name if spec.order_ref else None,
    }


def _seconds(at: datetime) -> str:
    return at.astimezone(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
