"""The stock ledger in memory."""

from collections.abc import Sequence
from datetime import datetime

from orderplane.crds.order import Item
from orderplane.events.types import EventType
from orderplane.ledgers.model.tables import Ledger, query, transaction
from orderplane.ledgers.states import RESERVING, GateState, ReservationState
from orderplane.ledgers.stock import ReservationEntry


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
        """The entry."""
        return self._tables.reservations.get(holder)

    @transaction
    def hold(
        self,
        merchant: str,
        holder: str,
        *,
        order_uid: str | None,
        name: str,
        items: Sequence[Item],
        expires_at: datetime,
        traceparent: str | None,
    ) -> ReservationEntry:
        """All lines are held or none: each needs as many pieces as are on hand and not reserved."""
        tables = self._tables
        tables.gate(holder, GateState.OPEN)
        if holder not in tables.reservations:
            tables.names[name] = holder
            tables.lines[holder] = {item.sku: item.quantity for item in items}
            if any(tables.on_hand[item.sku] - tables.reserved[item.sku] < item.quantity for item in items):
                tables.reservations[holder] = ReservationEntry(ReservationState.REJECTED, "short", expires_at)
            else:
                tables.reservations[holder] = ReservationEntry(ReservationState.HELD, None, expires_at)
                tables.move_stock(holder, on_hand=0, reserved=1)
                tables.append_event(holder, EventType.INVENTORY_RESERVED)
        return tables.reservations[holder]

    @transaction
    def expire(self, merchant: str, holder: str, now: datetime) -> ReservationEntry | None:
        """Only what is held expires: a payment that was begun pins it."""
        entry = self._tables.reservations.get(holder)
        if entry is not None and entry.state is ReservationState.HELD and entry.expires_at <= now:
            self._tables.give_back(holder, ReservationState.EXPIRED, on_hand=0, reserved=-1)
        return self._tables.reservations.get(holder)

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
        return tables.reservations.get(holder)

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
