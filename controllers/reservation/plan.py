"""What a Reservation needs next, and what its status says. Pure."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from orderplane.controllers.engine.backoff import FailureState
from orderplane.controllers.engine.child import child_conditions
from orderplane.controllers.engine.conditions import Fact
from orderplane.crds.reservation import Reservation, ReservationPhase, ReservationStatus
from orderplane.ledgers.gate import Gate, GateState, ReservationState
from orderplane.ledgers.stock import ReservationEntry

RETAIN = timedelta(hours=1)
"""How long one that stands alone is left to be looked at when it keeps nothing any more."""

_KEPT = (ReservationState.HELD, ReservationState.PINNED, ReservationState.COMMITTED)


class Action(StrEnum):
    """One step."""

    HOLD = "Hold"
    EXPIRE = "Expire"
    RELEASE = "Release"
    CLOSE_GATE = "CloseGate"
    RETIRE = "Retire"
    LET_GO = "LetGo"
    WAIT = "Wait"


@dataclass(frozen=True, slots=True)
class Next:
    """The step, or how long to wait."""

    action: Action
    until: datetime | None = None


def plan(
    reservation: Reservation | None, gate: Gate | None, entry: ReservationEntry | None, now: datetime
) -> Next:
    """Decide the next step; `reservation` is None where only the ledger is left of it."""
    is_deleting = reservation is not None and reservation.is_deleting
    is_kept = entry is not None and entry.state in _KEPT
    let_go = Next(Action.LET_GO if is_deleting else Action.WAIT)
    if reservation is not None and reservation.spec.order_ref is None:
        if is_deleting:
            return Next(Action.RELEASE) if is_kept else let_go
        if entry is not None and not is_kept:
            is_rejected = entry.state is ReservationState.REJECTED
            over_at = reservation.metadata.creation_timestamp if is_rejected else entry.expires_at
            return Next(Action.RETIRE) if over_at + RETAIN <= now else Next(Action.WAIT, over_at + RETAIN)
    elif gate is None:
        # The order has no row yet, so nothing can have been held for it. What is held nevertheless stood
        # alone, and its resource was torn away: its time ends all the same.
        if reservation is not None or entry is None:
            return let_go
    elif gate.state is GateState.SEALED:
        return let_go
    elif gate.state is GateState.COMPENSATING:
        if is_kept:
            return Next(Action.RELEASE if gate.is_shipment_settled else Action.WAIT)
        return let_go
    elif is_deleting:
        return Next(Action.CLOSE_GATE)
    if entry is None:
        return Next(Action.HOLD if reservation is not None else Action.WAIT)
    if entry.state is ReservationState.HELD:
        return Next(Action.EXPIRE) if entry.expires_at <= now else Next(Action.WAIT, entry.expires_at)
    return Next(Action.WAIT)


def status_of(
    reservation: Reservation, entry: ReservationEntry | None, trouble: FailureState | None, now: datetime
) -> ReservationStatus:
    """The status as it should be."""
    generation = reservation.metadata.generation
    facts = [_held(entry)] if entry else []
    reason = None if entry is None or entry.state in _KEPT else facts[0].reason
    return ReservationStatus(
        observed_generation=generation,
        phase=_phase(entry),
        reason=reason,
        conditions=child_conditions(reservation.status.conditions, facts, "Held", trouble, generation, now),
    )


def _phase(entry: ReservationEntry | None) -> ReservationPhase:
    if entry is None:
        return ReservationPhase.PENDING
    if entry.state is ReservationState.PINNED:
        return ReservationPhase.HELD
    return ReservationPhase(entry.state.value)


def _held(entry: ReservationEntry) -> Fact:
    match entry.state:
        case ReservationState.HELD | ReservationState.PINNED:
            return Fact("Held", "True", "StockHeld", "Every item is kept.")
        case ReservationState.COMMITTED:
            return Fact("Held", "True", "StockCommitted", "The goods have left the stock.")
        case ReservationState.REJECTED:
            return Fact("Held", "False", "OutOfStock", entry.message or "")
        case ReservationState.LOST:
            return Fact("Held", "False", "StockLost", "A recount found less than was promised.")
        case state:
            return Fact("Held", "False", f"Stock{state}", "The stock is not kept any more.")
