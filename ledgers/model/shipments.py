"""The shipment ledger in memory."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta

from orderplane.crds.reasons import Reason
from orderplane.events.types import EventType
from orderplane.ledgers.errors import GateClosed, NothingToSettle, Transient
from orderplane.ledgers.model.tables import Ledger, query, transaction
from orderplane.ledgers.shipments import CreatedPickup, Label, NewPickup, ShipmentEntry, ShipmentRef
from orderplane.ledgers.states import (
    LABEL_ALIVE,
    SHIPMENT_TRANSITIONS,
    STILL_VALID,
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
    """Implements `ledgers.shipments.ShipmentLedger` and `ParcelLedger`."""

    @query
    def uid_of(self, merchant: str, name: str) -> str | None:
        """The order's uid of the newest entry of that name."""
        return self._tables.names.get(name)

    @query
    def read(self, merchant: str, order_uid: str) -> ShipmentEntry | None:
        """The entry, with the age of its purchase by the clock of the ledgers."""
        entry, begun = self._tables.shipments.get(order_uid), self._tables.buys.get(order_uid)
        return replace(entry, buy_age=self._tables.now() - begun) if entry and begun else entry

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
                    order_uid, ShipmentState.INTENDED, None, None, None, VoidState.NONE,
                    TrackingStatus.PRE_TRANSIT, None, None, None,
                )
            )  # fmt: skip
        return tables.shipments[order_uid]

    @transaction
    def begin_buy(
        self, merchant: str, order_uid: str, *, provider_id: str, rate_id: str, attempt: int, operator: str
    ) -> ShipmentEntry:
        """A purchase is written down before it is sent, for one shipment, each attempt once."""
        entry = self._entry(order_uid, GateState.OPEN)
        is_same = entry.provider_id in (None, provider_id)
        if entry.state is not ShipmentState.INTENDED or not is_same or entry.buy_attempt >= attempt:
            raise GateClosed(f"purchase {attempt} of order {order_uid} is not admitted any more")
        self._tables.buys[order_uid] = self._tables.now()
        return self._save(
            replace(
                entry, provider_id=provider_id, rate_id=rate_id, buy_age=timedelta(), buy_attempt=attempt,
                buy_begun_by=operator,
            )
        )  # fmt: skip

    @transaction
    def record_label(
        self, merchant: str, order_uid: str, label: Label, *, first_poll: timedelta
    ) -> ShipmentEntry:
        """A label that was bought is recorded, whenever it comes to light; the order ships where it is open
        and its stock is still pinned."""
        gate = self._tables.gate(order_uid, *GateState)
        entry = self._entry(order_uid, gate.state)
        if entry.state is ShipmentState.INTENDED:
            entry = self._set(replace(entry, label=label, reason=None, message=None), ShipmentState.BOUGHT)
            self._tables.polls.add(order_uid)
            if gate.state is GateState.OPEN and self._tables.commit_stock(order_uid):
                self._ship(order_uid)
        elif entry.state in (ShipmentState.CANCELLED, ShipmentState.REFUSED):
            entry = self._set(replace(entry, label=label), ShipmentState.STRAY)
            self._tables.polls.add(order_uid)
        return entry

    @transaction
    def refuse(
        self,
        merchant: str,
        order_uid: str,
        reason: str,
        message: str,
        *,
        attempt: int,
        is_final: bool,
        look_again: timedelta,
    ) -> ShipmentEntry:
        """The carrier can refuse a shipment until it has sold a label for it. Only the refusal of the newest
        purchase counts, once no older one can land."""
        entry = self._entry(order_uid, GateState.OPEN, GateState.COMPENSATING)
        if entry.state is ShipmentState.INTENDED and entry.buy_attempt == attempt:
            entry = self._save(replace(entry, reason=reason, message=message))
            if is_final:
                entry = self._set(entry, ShipmentState.REFUSED)
                self._look_again(entry)
        return entry

    @transaction
    def cancel(self, merchant: str, order_uid: str, *, look_again: timedelta) -> ShipmentEntry:
        """A shipment can be cancelled until a label was bought for it."""
        entry = self._entry(order_uid, GateState.COMPENSATING)
        if entry.state is ShipmentState.INTENDED:
            entry = self._set(replace(entry, reason=None, message=None), ShipmentState.CANCELLED)
            self._look_again(entry)
        return entry

    @transaction
    def record_void(self, merchant: str, order_uid: str, void: VoidState) -> ShipmentEntry:
        """A label is void once the carrier has taken it back; one that it does not take back stays valid."""
        is_stray = self._is_stray(order_uid)
        entry = self._entry(order_uid, *GateState if is_stray else (GateState.COMPENSATING,))
        return self._void(entry, void) if entry.state in LABEL_ALIVE else entry

    def settle_void_by_hand(self, order_uid: str) -> str | None:
        """A person signs that a label is not used which the carrier does not take back, unless it travels."""
        gate, entry = self._tables.gates.get(order_uid), self._tables.shipments.get(order_uid)
        if gate is None or entry is None or entry.state not in LABEL_ALIVE or entry.label is None:
            return None
        if entry.state is not ShipmentState.STRAY:
            if entry.void is not VoidState.REJECTED or gate.state is not GateState.COMPENSATING:
                return None
            if entry.tracking_status is not TrackingStatus.PRE_TRANSIT:
                raise NothingToSettle(f"The parcel of order {order_uid} has left.")
        self._void(entry, VoidState.SETTLED_BY_HAND)
        return entry.label.tracking_code

    @transaction
    def record_tracking_status(
        self, merchant: str, order_uid: str, tracking_status: TrackingStatus
    ) -> ShipmentEntry:
        """The first scan seals the order: a parcel that travels has left, whatever was being compensated."""
        tables = self._tables
        gate = tables.gate(order_uid, *GateState)
        entry = self._entry(order_uid, gate.state)
        if (
            entry.state not in LABEL_ALIVE
            or tracking_status not in TRACKING_TRANSITIONS[entry.tracking_status]
            or self._tables.gates[order_uid].is_returned
        ):
            return entry
        entry = self._save(replace(entry, tracking_status=tracking_status))
        if tracking_status is TrackingStatus.DELIVERED:
            tables.polls.discard(order_uid)
        if entry.state is ShipmentState.STRAY:
            return entry
        if gate.state is not GateState.SEALED and order_uid not in tables.shipped:
            is_committed = tables.commit_stock(order_uid)
            if not is_committed and tables.reservations[order_uid].state is ReservationState.LOST:
                tables.set_reservation(order_uid, ReservationState.COMMITTED)
            self._ship(order_uid)
        is_delivered = tracking_status is TrackingStatus.DELIVERED
        if gate.state is not GateState.SEALED or is_delivered:
            tables.seal(order_uid, Outcome.DELIVERED if is_delivered else Outcome.SHIPPED)
        if is_delivered:
            tables.append_event(order_uid, EventType.ORDER_DELIVERED)
        tables.end_settled_return(order_uid)
        return entry

    def settle_return_by_hand(self, order_uid: str) -> str | None:
        """A person settles without a refund what becomes of a parcel that the carrier brings back."""
        gate, entry = self._tables.gates.get(order_uid), self._tables.shipments.get(order_uid)
        if gate is None or entry is None or entry.label is None or gate.outcome is not Outcome.SHIPPED:
            return None
        if entry.tracking_status is not TrackingStatus.RETURNED or gate.is_returned:
            return None
        self._tables.end_return(order_uid)
        return entry.label.tracking_code

    @query
    def strays(self, limit: int) -> Sequence[tuple[str, str]]:
        """Those whose label is still to be voided."""
        return [
            (self._tables.gates[uid].merchant, self._name(uid))
            for uid, entry in self._tables.shipments.items()
            if entry.state is ShipmentState.STRAY
        ]

    @query
    def claim_due_for_polling(self, limit: int, lease: float) -> Sequence[ShipmentRef]:
        """Every shipment whose end is not known is due here at any time."""
        found = []
        for uid in sorted(self._tables.polls):
            gate, entry = self._tables.gates[uid], self._tables.shipments[uid]
            assert entry.provider_id is not None
            found.append(
                ShipmentRef(
                    gate.merchant, uid, self._name(uid), entry.provider_id,
                    entry.label.tracking_code if entry.label else None, entry.tracking_status, 1,
                )
            )  # fmt: skip
        return found

    @query
    def schedule_polls(self, parcels: Sequence[ShipmentRef], pauses: Sequence[timedelta | None]) -> None:
        """Nothing: they are due at any time."""

    @query
    def claim_new_pickup(self, limit: int, lease: float) -> NewPickup | None:
        """Nothing is collected here."""
        return None

    @query
    def split_pickup(self, batch: str, parcels: Sequence[ShipmentRef]) -> str:
        """Nothing is collected here."""
        return batch

    @query
    def record_pickup_created(self, batch: str, pickup_id: str) -> None:
        """Nothing is collected here."""

    @query
    def claim_created_pickup(self, lease: float) -> CreatedPickup | None:
        """Nothing is collected here."""
        return None

    @query
    def record_pickup_booked(self, batch: str, confirmation: str) -> None:
        """Nothing is collected here."""

    @query
    def give_up_pickup(self, batch: str, pause: timedelta) -> None:
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

    def _void(self, entry: ShipmentEntry, void: VoidState) -> ShipmentEntry:
        uid, is_stray = entry.order_uid, entry.state is ShipmentState.STRAY
        entry = self._save(replace(entry, void=change(VOID_TRANSITIONS, entry.void, void)))
        if void in STILL_VALID:
            return entry
        self._tables.polls.discard(uid)
        if is_stray:
            return self._set(entry, ShipmentState.DISCARDED)
        self._tables.append_event(uid, EventType.SHIPMENT_CANCELLED)
        return self._set(entry, ShipmentState.VOIDED)

    def _is_stray(self, order_uid: str) -> bool:
        entry = self._tables.shipments.get(order_uid)
        return entry is not None and entry.state is ShipmentState.STRAY

    def _look_again(self, entry: ShipmentEntry) -> None:
        if entry.order_uid in self._tables.buys:
            self._tables.polls.add(entry.order_uid)

    def _name(self, order_uid: str) -> str:
        return f"{self._tables.gates[order_uid].name}-{order_uid[-8:]}"

    def _ship(self, order_uid: str) -> None:
        self._tables.shipped.add(order_uid)
        self._tables.append_event(order_uid, EventType.ORDER_SHIPPED)
