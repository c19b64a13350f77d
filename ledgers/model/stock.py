"""The stock ledger in memory."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta

from orderplane.crds.order import Item
from orderplane.events.types import EventType
from orderplane.ledgers.model.tables import Ledger, query, transaction
from orderplane.ledgers.states import RESERVING, GateState, ReservationState
from orderplane.ledgers.stock import HOLD_SECONDS, ReservationEntry


class InMemoryStockLedger(Ledger):
    """Implements `ledgers.stock.StockLedger`."""

    @query
    def overdue(self, limit: int) -> Sequence[tuple[str, str]]:
        """Every reservation has an order here."""
        return []

    @query
    def uid_of(self, merchant: str, name: str) -> str | None:
        """The holder of the newest entry of that name."""
        return self._tables.names.get(name)

    @query
    def read(self, merchant: str, holder: str) -> ReservationEntry | None:
        """The entry, with the time that is left now."""
        return self._entry(holder)

    @transaction
    def hold(
        self,
        merchant: str,
        holder: str,
        *,
        order_uid: str | None,
        name: str,
        items: Sequence[Item],
        expires_at: datetime | None,
        traceparent: str | None,
        taking: str | None = None,
    ) -> ReservationEntry:
        """All lines are held or none: each needs as many pieces as are on hand and not reserved."""
        tables = self._tables
        tables.gate(holder, GateState.OPEN)
        if holder not in tables.reservations:
            tables.names[name] = holder
            tables.lines[holder] = {item.sku: item.quantity for item in items}
            if any(tables.on_hand[item.sku] - tables.reserved[item.sku] < item.quantity for item in items):
                state, message = ReservationState.REJECTED, "short"
            else:
                state, message = ReservationState.HELD, None
            until = expires_at or tables.now() + timedelta(seconds=HOLD_SECONDS)
            tables.reservations[holder] = ReservationEntry(state, message, until, until - tables.now())
            if state is ReservationState.HELD:
                tables.move_stock(holder, on_hand=0, reserved=1)
                tables.append_event(holder, EventType.INVENTORY_RESERVED)
        entry = self._entry(holder)
        assert entry is not None
        return entry

    @transaction
    def expire(self, merchant: str, holder: str) -> ReservationEntry | None:
        """Only what is held expires: a payment that was begun pins it."""
        if self._is_overdue(holder):
            self._tables.give_back(holder, ReservationState.EXPIRED, on_hand=0, reserved=-1)
        return self._entry(holder)

    @transaction
    def extend(self, merchant: str, holder: str) -> ReservationEntry | None:
        """The hold of an open order whose time is over gets a whole new one; the stock stays reserved."""
        tables = self._tables
        tables.gate(holder, GateState.OPEN)
        if self._is_overdue(holder):
            until = tables.now() + timedelta(seconds=HOLD_SECONDS)
            tables.reservations[holder] = replace(tables.reservations[holder], expires_at=until)
        return self._entry(holder)

    @transaction
    def release(self, merchant: str, holder: str) -> ReservationEntry | None:
        """What is reserved is released, what has left is returned; neither while a label may be valid."""
        tables = self._tables
        tables.gate(holder, GateState.COMPENSATING)
        tables.refuse_while_label_possible(holder)
        entry = tables.reservations.get(holder)
        if entry is not None and entry.state in RESERVING:
            tables.give_back(holder, ReservationState.RELEASED, on_hand=0, reserved=-1)
        elif entry is not None and entry.state is ReservationState.COMMITTED:
            tables.give_back(holder, ReservationState.RELEASED, on_hand=1, reserved=0)
        return self._entry(holder)

    def recount(self, sku: str, count: int) -> list[str]:
        """Reservations beyond the count lose their stock: Held before Pinned, of each the newest first.

        Returns the orders that lost.
        """
        tables = self._tables
        reserving = [
            uid
            for uid, entry in reversed(tables.reservations.items())
            if entry.state in RESERVING and sku in tables.lines[uid]
        ]
        reserving.sort(key=lambda uid: tables.reservations[uid].state is ReservationState.PINNED)
        lost = []
        while reserving and sum(tables.lines[uid][sku] for uid in reserving) > count:
            lost.append(uid := reserving.pop(0))
            tables.give_back(uid, ReservationState.LOST, on_hand=0, reserved=-1)
        tables.moved[sku] += count - tables.on_hand[sku]
        tables.on_hand[sku] = count
        return lost

    def _entry(self, holder: str) -> ReservationEntry | None:
        entry = self._tables.reservations.get(holder)
        return replace(entry, left=entry.expires_at - self._tables.now()) if entry else None

    def _is_overdue(self, holder: str) -> bool:
        entry = self._entry(holder)
        return entry is not None and entry.state is ReservationState.HELD and entry.left <= timedelta()
