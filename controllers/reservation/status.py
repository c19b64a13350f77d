"""What a Reservation's status says. Pure: it follows from the ledger entry alone."""

from datetime import datetime

from orderplane.controllers.engine.conditions import Fact
from orderplane.controllers.engine.delays import Delay, reported
from orderplane.crds.reasons import Reason
from orderplane.crds.reservation import Reservation, ReservationPhase, ReservationStatus
from orderplane.ledgers.states import RELEASABLE, RESERVING, ReservationState
from orderplane.ledgers.stock import ReservationEntry


def status_of(
    reservation: Reservation, entry: ReservationEntry | None, delay: Delay | None, now: datetime
) -> ReservationStatus:
    """The status as it should be; equal to the old one where nothing is new."""
    held = _held(entry) if entry else None
    is_kept = entry is not None and entry.state in RELEASABLE
    plain = ReservationStatus(
        observed_generation=reservation.metadata.generation,
        phase=_phase(entry),
        reason=held.reason if held and held.status == "False" else None,
        expires_at=entry.expires_at.replace(microsecond=0) if entry and entry.state in RESERVING else None,
        conditions=reservation.status.conditions,
    )
    is_late_to_go = delay is not None and reservation.is_deleting and is_kept
    return reported(
        plain, [held] if held else [], "Held", delay, now, is_under_way=entry is None or is_late_to_go
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
            return Fact("Held", "True", Reason.STOCK_HELD, "Every item is kept.")
        case ReservationState.COMMITTED:
            return Fact("Held", "True", Reason.STOCK_COMMITTED, "The goods have left the stock.")
        case ReservationState.REJECTED:
            return Fact("Held", "False", Reason.OUT_OF_STOCK, entry.message or "")
        case ReservationState.LOST:
            return Fact("Held", "False", Reason.STOCK_LOST, "A recount found less than was promised.")
        case ReservationState.EXPIRED:
            return Fact("Held", "False", Reason.STOCK_EXPIRED, "The stock is not kept any more.")
        case ReservationState.RELEASED:
            return Fact("Held", "False", Reason.STOCK_RELEASED, "The stock is not kept any more.")
