"""Stock as this API shows it. The types are the documentation; the functions fill them."""

from datetime import UTC, datetime
from typing import Annotated

from pydantic import Field
from typing_extensions import TypedDict

from orderplane.crds.reservation import ReservationPhase, ReservationSpec
from orderplane.gateway.http.documentation import Count, Next, Sku, Time
from orderplane.ledgers.gate import ReservationState
from orderplane.ledgers.postgres.inventory import ReservationRecord, StockLevel, StockMovement
from orderplane.ledgers.postgres.recount import Recount

_RESERVATION = "r-mfrggzdfmztwq2lknnwg23tpoa"


class LevelView(TypedDict):
    """The stock of one product; available = onHand - reserved."""

    sku: Sku
    onHand: Annotated[int, Field(examples=[40])]
    reserved: Annotated[int, Field(description="Kept for orders and reservations.", examples=[3])]
    available: Annotated[int, Field(examples=[37])]


class LevelListView(TypedDict):
    """A page of stocks, by SKU."""

    items: list[LevelView]
    next: Next


class MovementView(TypedDict):
    """One change of a stock."""

    id: Annotated[int, Field(description="Rises with time.", examples=[4711])]
    at: Time
    kind: Annotated[
        str,
        Field(
            description="Hold, Release, Expire, Lose, Commit, Return (for a reservation); Recount, Adjust.",
            examples=["Hold"],
        ),
    ]
    onHandDelta: Annotated[int, Field(examples=[0])]
    reservedDelta: Annotated[int, Field(examples=[2])]
    reason: Annotated[
        str | None, Field(description="What was given with a recount or an adjustment.", examples=[None])
    ]
    reservation: Annotated[
        str | None,
        Field(description="The id of the reservation that it is about.", examples=[_RESERVATION]),
    ]
    order: Annotated[str | None, Field(description="The id of the order that it is about.", examples=[None])]


class MovementListView(TypedDict):
    """A page of movements, newest first."""

    items: list[MovementView]
    next: Next


class CountView(LevelView):
    """A stock after a recount or an adjustment, and what it was before."""

    before: Annotated[int, Field(description="How many were on hand.", examples=[41])]
    lost: Annotated[
        list[str],
        Field(
            description="Ids of the reservations, of orders too, that a recount took the stock from.",
            examples=[[]],
        ),
    ]


class ReservedItemView(TypedDict):
    """What is kept."""

    sku: Sku
    quantity: Count


class ReservationView(TypedDict):
    """Stock that is kept for somebody, until a time."""

    id: Annotated[str, Field(examples=[_RESERVATION])]
    state: Annotated[
        str,
        Field(
            description="Pending: not decided yet. Held, Committed (the goods have left). Rejected, Expired, "
            "Lost (by a recount), Released: nothing is kept any more.",
            examples=["Held"],
        ),
    ]
    message: Annotated[
        str | None, Field(description="What was short, where it was rejected.", examples=[None])
    ]
    items: list[ReservedItemView]
    expiresAt: Time
    order: Annotated[
        str | None,
        Field(description="The id of the order that it is for, if it is for one.", examples=[None]),
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
    """One change."""
    return {
        "id": movement.id,
        "at": movement.at.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        "kind": movement.kind,
        "onHandDelta": movement.on_hand_delta,
        "reservedDelta": movement.reserved_delta,
        "reason": movement.note,
        "reservation": movement.reservation,
        "order": movement.order,
    }


def count_view(sku: str, count: Recount) -> CountView:
    """What a recount or an adjustment did."""
    level = level_view(StockLevel(sku, count.after, count.reserved))
    return {**level, "before": count.before, "lost": list(count.lost)}


def reservation_view(kept: ReservationRecord) -> ReservationView:
    """A reservation that was decided."""
    # That somebody is paying for it is no business of who looks: it is held.
    state = ReservationState.HELD if kept.state is ReservationState.PINNED else kept.state
    return {
        "id": kept.name,
        "state": state.value,
        "message": kept.message,
        "items": [{"sku": sku, "quantity": quantity} for sku, quantity in kept.items.items()],
        "expiresAt": _seconds(kept.expires_at),
        "order": kept.order,
    }


def pending_view(name: str, spec: ReservationSpec) -> ReservationView:
    """A reservation that the ledger does not know yet."""
    return {
        "id": name,
        "state": ReservationPhase.PENDING.value,
        "message": None,
        "items": [{"sku": item.sku, "quantity": item.quantity} for item in spec.items],
        "expiresAt": _seconds(spec.expires_at),
        "order": spec.order_ref.name if spec.order_ref else None,
    }


def _seconds(at: datetime) -> str:
    return at.astimezone(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
