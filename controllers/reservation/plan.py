"""What a Reservation needs next. Pure."""

from dataclasses import dataclass
from datetime import datetime, timedelta

from orderplane.controllers.steps import (
    CompensateOrder,
    DeleteLeftover,
    ReleaseFinalizer,
    SharedStep,
    Wait,
)
from orderplane.crds.reservation import Reservation
from orderplane.ledgers.gate import Gate
from orderplane.ledgers.states import RELEASABLE, GateState, ReservationState
from orderplane.ledgers.stock import ReservationEntry

RETAIN = timedelta(hours=1)
"""How long a Reservation without an order stays readable when it holds nothing any more."""


@dataclass(frozen=True, slots=True)
class Hold:
    """Take all items out of what is available, or none."""

    reservation: Reservation


@dataclass(frozen=True, slots=True)
class Expire:
    """Its time is over: give the stock back, unless a payment has pinned it meanwhile."""


@dataclass(frozen=True, slots=True)
class Extend:
    """Its time is over before anybody could charge: it gets a whole new one."""


@dataclass(frozen=True, slots=True)
class ReleaseStock:
    """Give the stock back."""


@dataclass(frozen=True, slots=True)
class DeleteUnused:
    """It has no order and holds nothing any more, and was readable for long enough: delete it."""

    reservation: Reservation


Effect = Hold | Expire | Extend | ReleaseStock | DeleteUnused
Step = Effect | SharedStep


def plan(
    reservation: Reservation | None,
    gate: Gate | None,
    entry: ReservationEntry | None,
    now: datetime,
    *,
    is_order_stuck: bool = False,
) -> Step:
    """Decide the next step; `reservation` is None where only the ledger is left of it.

    Args:
        is_order_stuck: The order was tried, and cannot go on before a person acts. Its hold ends then. Else
            nobody worked on it (we were away, or what we need was), which is no reason to fail an order: the
            stock stays reserved, so nothing is sold twice meanwhile.
    """
    is_deleting = reservation is not None and reservation.is_deleting
    is_kept = entry is not None and entry.state in RELEASABLE
    done: Step = ReleaseFinalizer() if is_deleting else Wait()
    if reservation is not None and reservation.spec.order_ref is None:
        if is_deleting:
            return ReleaseStock() if is_kept else done
        if entry is not None and not is_kept:
            return _retain(reservation, entry, now)
    elif gate is None:
        # The order has no row yet, so nothing can be held for it. An entry without a resource is one that had
        # no order, and whose resource was deleted by force: its time ends all the same.
        if reservation is not None or entry is None:
            return done
    elif gate.state is GateState.SEALED:
        return DeleteLeftover() if reservation is not None and gate.is_undone and not is_deleting else done
    elif gate.state is GateState.COMPENSATING:
        if not is_kept:
            return done
        return ReleaseStock() if gate.is_shipment_settled else Wait()
    elif is_deleting:
        return done if gate.is_leaving else CompensateOrder()
    return _hold(reservation, entry, may_extend=gate is not None and not is_order_stuck)


def _hold(reservation: Reservation | None, entry: ReservationEntry | None, *, may_extend: bool) -> Step:
    if entry is None:
        return Hold(reservation) if reservation is not None else Wait()
    if entry.state is not ReservationState.HELD:
        return Wait()
    if entry.left > timedelta():
        return Wait(entry.left.total_seconds())
    return Extend() if may_extend else Expire()


def _retain(reservation: Reservation, entry: ReservationEntry, now: datetime) -> Step:
    is_rejected = entry.state is ReservationState.REJECTED
    left = RETAIN + (reservation.metadata.creation_timestamp - now if is_rejected else entry.left)
    return DeleteUnused(reservation) if left <= timedelta() else Wait(left.total_seconds())
