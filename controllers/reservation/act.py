"""Keep stock for a Reservation, and give it back."""

from collections.abc import Callable
from datetime import datetime

from orderplane.controllers.engine.backoff import FailureState
from orderplane.controllers.engine.cluster import Cluster
from orderplane.controllers.engine.queue import Key, Wake
from orderplane.controllers.family import ParentOrder
from orderplane.controllers.reservation.plan import Action, plan, status_of
from orderplane.crds.meta import RELEASE_STOCK_FINALIZER, TRACEPARENT_ANNOTATION, Kind
from orderplane.crds.reservation import Reservation
from orderplane.ledgers.gate import Gate, GateLedger, ReservationState
from orderplane.ledgers.stock import ReservationEntry, StockLedger


class ReservationReconciler:
    """Moves stock in the ledger as the Reservation, and the gate of its order, ask for."""

    kind = Kind.RESERVATION

    def __init__(
        self,
        cluster: Cluster,
        gates: GateLedger,
        stock: StockLedger,
        wake: Wake,
        clock: Callable[[], datetime],
    ) -> None:
        self._cluster = cluster
        self._stock = stock
        self._clock = clock
        self._family = ParentOrder(Kind.RESERVATION, RELEASE_STOCK_FINALIZER, cluster, gates, wake)
        self._entries: dict[Key, ReservationEntry | None] = {}

    async def reconcile(
        self, key: Key, trouble: FailureState | None, seen: Gate | None = None
    ) -> float | None:
        reservation = self._cluster.reservations.get(key)
        holder = await self._holder(key, reservation)
        if holder is None:
            self._entries.pop(key, None)
            return None
        gate = await self._family.gate(key, holder, seen)
        is_fresh = gate is not None and gate.reservation is None
        entry = None if is_fresh else await self._stock.read(key[0], holder)
        before = entry
        step = plan(reservation, gate, entry, self._clock())
        while step.action is not Action.WAIT:
            match step.action:
                case Action.HOLD:
                    assert reservation is not None
                    entry = await self._hold(holder, reservation)
                case Action.EXPIRE:
                    entry = await self._stock.expire(key[0], holder, self._clock())
                case Action.RELEASE:
                    entry = await self._stock.release(key[0], holder)
                case Action.CLOSE_GATE:
                    await self._family.close_gate(key, holder)
                    gate = await self._family.gate(key, holder)
                case Action.RETIRE:
                    assert reservation is not None
                    await self._cluster.delete(Kind.RESERVATION, reservation)
                    break
                case Action.LET_GO:
                    assert reservation is not None
                    await self._family.let_go(reservation)
                    break
            step = plan(reservation, gate, entry, self._clock())
        self._entries[key] = entry
        if entry != before:
            is_held = entry is not None and entry.state is ReservationState.HELD
            after = gate.advanced(ReservationState.HELD) if gate is not None and is_held else None
            self._family.wake_order(key, reservation, gate, after)
        return max(0.0, (step.until - self._clock()).total_seconds()) if step.until else None

    async def report(self, key: Key, trouble: FailureState | None) -> None:
        reservation = self._cluster.reservations.get(key)
        if reservation is None or key not in self._entries:
            return
        status = status_of(reservation, self._entries[key], trouble, self._clock())
        if status != reservation.status:
            await self._cluster.report(Kind.RESERVATION, reservation, status)

    async def refresh(self, key: Key) -> None:
        await self._cluster.refresh(Kind.RESERVATION, key)

    def rank(self, key: Key) -> int:
        return self._family.rank(key)

    def traceparent(self, key: Key) -> str | None:
        return self._family.traceparent(key)

    async def _hold(self, holder: str, reservation: Reservation) -> ReservationEntry:
        reference = reservation.spec.order_ref
        if reference is not None:
            self._family.check_planned(reservation)
        return await self._stock.hold(
            reservation.metadata.namespace,
            holder,
            order_uid=reference.uid if reference else None,
            name=reservation.metadata.name,
            items=reservation.spec.items,
            expires_at=reservation.spec.expires_at,
            traceparent=reservation.metadata.annotations.get(TRACEPARENT_ANNOTATION),
        )

    async def _holder(self, key: Key, reservation: Reservation | None) -> str | None:
        if reservation is None:
            return await self._stock.uid_of(*key)
        reference = reservation.spec.order_ref
        return reference.uid if reference else reservation.metadata.uid
