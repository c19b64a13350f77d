"""The shipment ledger in memory."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime

from orderplane.crds.reasons import Reason
from orderplane.events.types import EventType
from orderplane.ledgers.errors import GateClosed, Transient
from orderplane.ledgers.model.tables import Ledger, query, transaction
from orderplane.ledgers.shipments import Label, PickupClaim, ShipmentEntry, ShipmentRef
from orderplane.ledgers.states import (
    SHIPMENT_TRANSITIONS,
    TRACKING_TRANSITIONS,
    VOID_TRANSITIONS,
    GateState,
    Outcome,
    PaymentState,
    ReservationState,
    ShipmentState,
    TrackingStatus,
    VoidState,
    change,
)


class InMemoryShipmentLedger(Ledger):
    """Implements `ledgers.shipments.ShipmentLedger`."""

    @query
    def uid_of(self, merchant: str, name: str) -> str | None:
        """The order's uid of the newest entry of that name."""
        return self._tables.names.get(name)

    @query
    def read(self, merchant: str, order_uid: str) -> ShipmentEntry | None:
        """The entry."""
        return self._tables.shipments.get(order_uid)

    @transaction
    def intend(self, merchant: str, order_uid: str, *, name: str) -> ShipmentEntry:
        """A shipment is begun only where exactly the order's total was captured and its stock is pinned."""
        tables = self._tables
        tables.gate(order_uid, GateState.OPEN)
        payment, reservation = tables.payments.get(order_uid), tables.reservations.get(order_uid)
        if payment is None or payment.state is not PaymentState.CAPTURED:
            raise Transient(Reason.NOT_PAID, "not paid")
        if (payment.captured, payment.currency) != tables.totals[order_uid]:
            raise Transient(Reason.NOT_PAID, "not paid in full")
        if reservation is None or reservation.state is not ReservationState.PINNED:
            raise Transient(Reason.STOCK_NOT_PINNED, "the stock is not pinned")
        if order_uid not in tables.shipments:
            tables.names[name] = order_uid
            self._save(
                ShipmentEntry(
                    order_uid, ShipmentState.INTENDED, None, None, None, None, VoidState.NONE,
                    TrackingStatus.PRE_TRANSIT, None, None, None,
                )
            )  # fmt: skip
        return tables.shipments[order_uid]

    @transaction
    def begin_buy(
        self, merchant: str, order_uid: str, *, provider_id: str, rate_id: str, now: datetime
    ) -> ShipmentEntry:
        """A purchase is written down before it is sent, for one shipment of the carrier."""
        entry = self._entry(order_uid, GateState.OPEN)
        if entry.state is not ShipmentState.INTENDED or entry.provider_id not in (None, provider_id):
            raise GateClosed(f"buying a label for order {order_uid} is not admitted any more")
        return self._save(replace(entry, provider_id=provider_id, rate_id=rate_id, buy_begun_at=now))

    @transaction
    def record_label(
        self, merchant: str, order_uid: str, label: Label, *, now: datetime, next_poll_at: datetime
    ) -> ShipmentEntry:
        """A label that was bought is recorded; the order ships where it is open and its stock is still
        pinned."""
        gate = self._tables.gate(order_uid, GateState.OPEN, GateState.COMPENSATING)
        entry = self._entry(order_uid, gate.state)
        if entry.state is ShipmentState.INTENDED:
            entry = self._set(replace(entry, label=label), ShipmentState.BOUGHT)
            self._tables.polls[order_uid] = next_poll_at
            if gate.state is GateState.OPEN and self._tables.commit_stock(order_uid):
                self._ship(order_uid)
        return entry

    @transaction
    def refuse(self, merchant: str, order_uid: str, reason: str, message: str) -> ShipmentEntry:
        """The carrier can refuse a shipment until it has sold a label for it."""
        entry = self._entry(order_uid, GateState.OPEN, GateState.COMPENSATING)
        if entry.state is ShipmentState.INTENDED:
            entry = self._set(replace(entry, reason=reason, message=message), ShipmentState.REFUSED)
        return entry

    @transaction
    def cancel(self, merchant: str, order_uid: str) -> ShipmentEntry:
        """A shipment can be cancelled until a label was bought for it."""
        entry = self._entry(order_uid, GateState.COMPENSATING)
        if entry.state is ShipmentState.INTENDED:
            entry = self._set(entry, ShipmentState.CANCELLED)
        return entry

    @transaction
    def record_void(self, merchant: str, order_uid: str, void: VoidState) -> ShipmentEntry:
        """A label is voided once, and only while the order is compensated."""
        entry = self._entry(order_uid, GateState.COMPENSATING)
        if entry.state is ShipmentState.BOUGHT:
            entry = replace(entry, void=change(VOID_TRANSITIONS, entry.void, void))
            entry = self._set(entry, ShipmentState.VOIDED)
            self._tables.polls.pop(order_uid, None)
            self._tables.append_event(order_uid, EventType.SHIPMENT_CANCELLED)
        return entry

    @transaction
    def record_tracking_status(
        self, merchant: str, order_uid: str, tracking_status: TrackingStatus
    ) -> ShipmentEntry:
        """The first scan seals the order: a parcel that travels has left, whatever was being compensated."""
        tables = self._tables
        gate = tables.gate(order_uid, *GateState)
        entry = self._entry(order_uid, gate.state)
        if (
            entry.state is not ShipmentState.BOUGHT
            or tracking_status not in TRACKING_TRANSITIONS[entry.tracking_status]
        ):
            return entry
        entry = self._save(replace(entry, tracking_status=tracking_status))
        if gate.state is not GateState.SEALED and order_uid not in tables.shipped:
            is_committed = tables.commit_stock(order_uid)
            if not is_committed and tables.reservations[order_uid].state is ReservationState.LOST:
                tables.set_reservation(order_uid, ReservationState.COMMITTED)
            self._ship(order_uid)
        is_delivered = tracking_status is TrackingStatus.DELIVERED
        if gate.state is not GateState.SEALED or is_delivered:
            tables.seal(order_uid, Outcome.DELIVERED if is_delivered else Outcome.SHIPPED)
        if is_delivered:
            tables.polls.pop(order_uid, None)
            tables.append_event(order_uid, EventType.ORDER_DELIVERED)
        return entry

    @query
    def claim_due_for_polling(self, now: datetime, limit: int, lease: float) -> Sequence[ShipmentRef]:
        """Every shipment with a label that is not delivered or voided is due here at any time."""
        tables = self._tables
        found = []
        for uid in tables.polls:
            gate, entry = tables.gates[uid], tables.shipments[uid]
            assert entry.provider_id is not None
            assert entry.label is not None
            found.append(
                ShipmentRef(
                    gate.merchant, uid, f"{gate.name}-{uid[-8:]}", entry.provider_id,
                    entry.label.tracking_code, entry.tracking_status, 1,
                )
            )  # fmt: skip
        return found

    @query
    def schedule_polls(self, parcels: Sequence[ShipmentRef], at: Sequence[datetime]) -> None:
        """Nothing: they are due at any time."""

    @query
    def claim_pickup(self, now: datetime, limit: int, lease: float) -> PickupClaim | None:
        """Nothing is collected here."""
        return None

    @query
    def record_pickup_created(self, batch: str, pickup_id: str) -> bool:
        """Nothing is collected here."""
        return True

    @query
    def record_pickup_booked(self, batch: str, confirmation: str) -> None:
        """Nothing is collected here."""

    def _entry(self, order_uid: str, *states: GateState) -> ShipmentEntry:
        self._tables.gate(order_uid, *states)
        if order_uid not in self._tables.shipments:
            raise GateClosed(f"order {order_uid} has no shipment")
        return self._tables.shipments[order_uid]

    def _save(self, entry: ShipmentEntry) -> ShipmentEntry:
        self._tables.shipments[entry.order_uid] = entry
        return entry

    def _set(self, entry: ShipmentEntry, state: ShipmentState) -> ShipmentEntry:
        return self._save(replace(entry, state=change(SHIPMENT_TRANSITIONS, entry.state, state)))

    def _ship(self, order_uid: str) -> None:
        self._tables.shipped.add(order_uid)
        self._tables.append_event(order_uid, EventType.ORDER_SHIPPED)
