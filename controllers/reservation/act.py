"""Carry out what a Reservation's plan says: hold stock, and give it back."""

from collections.abc import Callable
from datetime import datetime

import structlog
from prometheus_client import Counter

from orderplane.controllers.child import ChildReconciler, Turn
from orderplane.controllers.engine.cluster import Cluster
from orderplane.controllers.engine.conditions import find
from orderplane.controllers.engine.delays import STALLED, Delay
from orderplane.controllers.engine.queue import Enqueue
from orderplane.controllers.reservation.plan import (
    DeleteUnused,
    Effect,
    Expire,
    Extend,
    Hold,
    ReleaseStock,
    Step,
    plan,
)
from orderplane.controllers.reservation.status import status_of
from orderplane.controllers.steps import Wait
from orderplane.crds.meta import TRACEPARENT_ANNOTATION, Kind
from orderplane.crds.order import Order
from orderplane.crds.reasons import Reason
from orderplane.crds.reservation import Reservation, ReservationPhase, ReservationStatus
from orderplane.ledgers.gate import Gate, GateLedger
from orderplane.ledgers.states import ReservationState
from orderplane.ledgers.stock import ReservationEntry, StockLedger

log = structlog.get_logger(__name__)

EXTENDED = Counter(
    "orderplane_holds_extended_total", "Holds whose time was over before anybody could charge."
)

OUTAGES = (Reason.API_SERVER_UNAVAILABLE, Reason.LEDGER_UNAVAILABLE)
"""Reasons of a stall that say nothing about the order."""

_Turn = Turn[Reservation, ReservationEntry]


def is_stuck(order: Order | None) -> bool:
    """Whether the order was tried and cannot go on by itself, and not because something was away."""
    stalled = find(order.status.conditions, STALLED) if order is not None else None
    return stalled is not None and stalled.status == "True" and stalled.reason not in OUTAGES


class ReservationReconciler(ChildReconciler[Reservation, ReservationEntry, Effect]):
    """Moves stock in the ledger as the Reservation, and the gate of its order, ask for."""

    kind = Kind.RESERVATION

    def __init__(
        self,
        cluster: Cluster,
        gates: GateLedger,
        ledger: StockLedger,
        enqueue: Enqueue[Gate],
        now: Callable[[], datetime],
    ) -> None:
        super().__init__(cluster, cluster.reservations, gates, ledger, enqueue, now)
        self._ledger = ledger

    def _is_begun(self, gate: Gate | None) -> bool:
        # Without a row it may be a Reservation without an order, which the gate knows nothing of.
        return gate is None or gate.reservation is not None

    def _plan(self, turn: _Turn) -> Step:
        return plan(
            turn.child,
            turn.gate,
            turn.entry,
            self._now(),
            is_order_stuck=is_stuck(self._order(turn.key)),
        )

    async def _carry_out(self, step: Effect, turn: _Turn) -> Wait | None:
        match step:
            case Hold(reservation):
                turn.entry = await self._hold(turn, reservation)
            case Expire():
                turn.entry = await self._ledger.expire(turn.merchant, turn.uid)
            case Extend():
                turn.entry = await self._ledger.extend(turn.merchant, turn.uid)
                EXTENDED.inc()
                log.warning("a hold ran out before anybody could charge; it gets another", key=turn.key)
            case ReleaseStock():
                turn.entry = await self._ledger.release(turn.merchant, turn.uid)
            case DeleteUnused(reservation):
                await self._cluster.delete(Kind.RESERVATION, reservation)
                return Wait()
        return None

    async def _hold(self, turn: _Turn, reservation: Reservation) -> ReservationEntry:
        reference = reservation.spec.order_ref
        taking: str | None = None
        if reference is not None:
            self._check_planned(reservation)
            order = self._order(turn.key)
            taking = order.spec.reservation if order is not None else None
        entry = await self._ledger.hold(
            turn.merchant,
            turn.uid,
            order_uid=reference.uid if reference else None,
            name=reservation.metadata.name,
            items=reservation.spec.items,
            expires_at=reservation.spec.expires_at,
            traceparent=reservation.metadata.annotations.get(TRACEPARENT_ANNOTATION),
            taking=taking,
        )
        if taking is not None:
            # It may hold nothing any more, which it has to say.
            self._enqueue(Kind.RESERVATION, (turn.merchant, taking))
        return entry

    def _gate_after(self, turn: _Turn) -> Gate | None:
        is_held = turn.entry is not None and turn.entry.state is ReservationState.HELD
        return turn.gate.advanced(ReservationState.HELD) if turn.gate is not None and is_held else None

    def _can_wait(self, child: Reservation, entry: ReservationEntry | None) -> bool:
        # That the goods have left is told by the order, which is shipped.
        is_committed = entry is not None and entry.state is ReservationState.COMMITTED
        return is_committed and child.status.phase is ReservationPhase.HELD

    def _status_of(
        self, child: Reservation, entry: ReservationEntry | None, delay: Delay | None
    ) -> ReservationStatus:
        return status_of(child, entry, delay, self._now())
