"""The ledgers in memory: each method is one transaction, with the meaning that adapters/postgres gives it."""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

from orderplane.crds.order import Compensation, CompensationStep, Item, Order
from orderplane.crds.reasons import Reason
from orderplane.ledgers.errors import GateClosed, Refused, Transient
from orderplane.ledgers.gate import Gate
from orderplane.ledgers.payments import PaymentEntry, ProviderRefundState, RefundEntry
from orderplane.ledgers.shipments import Label, ShipmentEntry, ShipmentRef
from orderplane.ledgers.states import (
    GateState,
    Outcome,
    PaymentState,
    RefundState,
    ReservationState,
    ShipmentState,
    TrackingStatus,
    VoidState,
)
from orderplane.ledgers.stock import ReservationEntry

KEPT = (ReservationState.HELD, ReservationState.PINNED)
ALIVE = (ShipmentState.INTENDED, ShipmentState.BOUGHT)
RANK = {
    TrackingStatus.PRE_TRANSIT: 0,
    TrackingStatus.IN_TRANSIT: 1,
    TrackingStatus.RETURNED: 2,
    TrackingStatus.DELIVERED: 3,
}


@dataclass
class Books:
    """Every table."""

    now: Callable[[], datetime]
    pause: Callable[[str], Awaitable[object]]
    gates: dict[str, Gate] = field(default_factory=dict)
    totals: dict[str, tuple[int, str]] = field(default_factory=dict)
    on_hand: dict[str, int] = field(default_factory=dict)
    reserved: dict[str, int] = field(default_factory=dict)
    opening: dict[str, int] = field(default_factory=dict)
    moved: dict[str, int] = field(default_factory=dict)
    lines: dict[str, dict[str, int]] = field(default_factory=dict)
    stock: dict[str, ReservationEntry] = field(default_factory=dict)
    payments: dict[str, PaymentEntry] = field(default_factory=dict)
    parcels: dict[str, ShipmentEntry] = field(default_factory=dict)
    names: dict[str, str] = field(default_factory=dict)
    polls: dict[str, datetime] = field(default_factory=dict)
    history: dict[str, list[tuple[str, datetime]]] = field(default_factory=dict)
    shipped: set[str] = field(default_factory=set)

    def gate(self, uid: str, *states: GateState) -> Gate:
        """The fence."""
        gate = self.gates.get(uid)
        if gate is None or gate.state not in states:
            raise GateClosed(f"{uid} is {gate.state if gate else 'not there'}")
        return gate

    def tell(self, uid: str, type_: str) -> None:
        """One history row; telling an effect twice is an alarm."""
        rows = self.history.setdefault(uid, [])
        assert all(type_ != told for told, _ in rows), f"{type_} of {uid} was told twice"
        rows.append((type_, self.now()))

    def move(self, uid: str, *, on_hand: int, reserved: int) -> None:
        """Change stock by an order's lines."""
        gate = self.gates[uid]
        assert gate.state is not GateState.SEALED, f"stock of sealed {uid} moved"
        for sku, quantity in self.lines[uid].items():
            self.on_hand[sku] += on_hand * quantity
            self.moved[sku] += on_hand * quantity
            self.reserved[sku] += reserved * quantity
            assert 0 <= self.reserved[sku] <= self.on_hand[sku], f"{sku} is oversold"

    def seal(self, uid: str, outcome: Outcome) -> None:
        """Nothing moves after this."""
        finished = None if outcome is Outcome.SHIPPED else self.now()
        self.gates[uid] = replace(
            self.gates[uid], state=GateState.SEALED, outcome=outcome, finished_at=finished
        )

    def view(self, uid: str) -> Gate | None:
        """A gate with its ledgers."""
        gate = self.gates.get(uid)
        if gate is None:
            return None
        reservation, payment, shipment = self.stock.get(uid), self.payments.get(uid), self.parcels.get(uid)
        label = shipment.label if shipment else None
        return replace(
            gate,
            reservation=reservation.state if reservation else None,
            reservation_message=reservation.message if reservation else None,
            payment=payment.state if payment else None,
            payment_reason=payment.reason if payment else None,
            payment_message=payment.message if payment else None,
            shipment=shipment.state if shipment else None,
            shipment_reason=shipment.reason if shipment else None,
            shipment_message=shipment.message if shipment else None,
            tracking_status=shipment.tracking_status if shipment else TrackingStatus.PRE_TRANSIT,
            tracking_code=label.tracking_code if label else None,
            tracking_url=label.tracking_url if label else None,
            carrier=label.carrier if label else None,
        )

    def recount(self, sku: str, count: int) -> list[str]:
        """As adapters/postgres/recount.py; answers the orders that lost."""
        keepers = [uid for uid, e in self.stock.items() if e.state in KEPT and sku in self.lines[uid]]
        keepers.reverse()
        keepers.sort(key=lambda uid: self.stock[uid].state is ReservationState.PINNED)
        lost = []
        while keepers and sum(self.lines[uid][sku] for uid in keepers) > count:
            uid = keepers.pop(0)
            self.move(uid, on_hand=0, reserved=-1)
            self.stock[uid] = replace(self.stock[uid], state=ReservationState.LOST)
            self.tell(uid, "inventory.released")
            lost.append(uid)
        self.moved[sku] += count - self.on_hand[sku]
        self.on_hand[sku] = count
        return lost


class Gates:
    def __init__(self, books: Books) -> None:
        self._books = books

    async def read(self, merchant: str, uid: str) -> Gate | None:
        await self._books.pause("gate read")
        return self._books.view(uid)

    async def open(self, order: Order) -> Gate:
        await self._books.pause("gate open")
        uid = order.metadata.uid
        if uid not in self._books.gates:
            self._books.gates[uid] = Gate(order.metadata.namespace, uid, order.metadata.name, GateState.OPEN)
            self._books.totals[uid] = (order.spec.quote.amounts.total, order.spec.quote.currency)
            self._books.tell(uid, "order.created")
        await self._books.pause("gate opened")
        view = self._books.view(uid)
        assert view is not None
        return view

    async def compensate(
        self, merchant: str, uid: str, *, reason: str, message: str, is_cancel: bool
    ) -> Gate:
        await self._books.pause("gate compensate")
        gate = self._books.gates.get(uid)
        if gate is None:
            raise GateClosed(f"{uid} was never opened")
        if gate.state is GateState.OPEN:
            self._books.gates[uid] = replace(
                gate, state=GateState.COMPENSATING, reason=reason, message=message, is_cancel=is_cancel
            )
        await self._books.pause("gate compensating")
        view = self._books.view(uid)
        assert view is not None
        return view

    async def seal(self, merchant: str, uid: str) -> Gate:
        await self._books.pause("gate seal")
        view = self._books.view(uid)
        assert view is not None
        if view.state is GateState.COMPENSATING and view.is_compensated:
            outcome = Outcome.CANCELLED if view.is_cancel else Outcome.FAILED
            self._books.seal(uid, outcome)
            self._books.tell(uid, f"order.{outcome.lower()}")
        await self._books.pause("gate sealed")
        view = self._books.view(uid)
        assert view is not None
        return view

    async def unsealed(self, merchant: str, name: str) -> tuple[Gate, ...]:
        await self._books.pause("gates unsealed")
        return tuple(
            view
            for uid, gate in self._books.gates.items()
            if gate.name == name and gate.state is not GateState.SEALED and (view := self._books.view(uid))
        )

    async def unsealed_page(self, after: Any, limit: int) -> tuple[Gate, ...]:
        await self._books.pause("gates unsealed page")
        return tuple(gate for gate in self._books.gates.values() if gate.state is not GateState.SEALED)

    async def compensation(self, merchant: str, uid: str) -> tuple[Compensation, ...]:
        await self._books.pause("compensation")
        steps = {
            "inventory.released": CompensationStep.RELEASE_STOCK,
            "payment.cancelled": CompensationStep.CANCEL_PAYMENT,
            "payment.refunded": CompensationStep.REFUND_PAYMENT,
            "shipment.cancelled": CompensationStep.CANCEL_SHIPMENT,
        }
        return tuple(
            Compensation(step=steps[type_], reference=uid, at=at)
            for type_, at in self._books.history[uid]
            if type_ in steps
        )


class Stock:
    def __init__(self, books: Books) -> None:
        self._books = books

    async def overdue(self, limit: int) -> Sequence[tuple[str, str]]:
        return []  # nothing stands alone in this world

    async def uid_of(self, merchant: str, name: str) -> str | None:
        await self._books.pause("stock uid")
        return self._books.names.get(name)

    async def read(self, merchant: str, holder: str) -> ReservationEntry | None:
        await self._books.pause("stock read")
        return self._books.stock.get(holder)

    async def hold(
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
        await self._books.pause("hold")
        books = self._books
        books.gate(holder, GateState.OPEN)
        if holder not in books.stock:
            books.names[name] = holder
            books.lines[holder] = {item.sku: item.quantity for item in items}
            short = any(
                books.on_hand[sku] - books.reserved[sku] < n for sku, n in books.lines[holder].items()
            )
            state = ReservationState.REJECTED if short else ReservationState.HELD
            books.stock[holder] = ReservationEntry(state, "short" if short else None, expires_at)
            if not short:
                books.move(holder, on_hand=0, reserved=1)
                books.tell(holder, "inventory.reserved")
        await self._books.pause("held")
        return books.stock[holder]

    async def expire(self, merchant: str, holder: str, now: datetime) -> ReservationEntry | None:
        await self._books.pause("expire")
        entry = self._books.stock.get(holder)
        if entry is not None and entry.state is ReservationState.HELD and entry.expires_at <= now:
            self._give_back(holder, ReservationState.EXPIRED, on_hand=0, reserved=-1)
        await self._books.pause("expired")
        return self._books.stock.get(holder)

    async def release(self, merchant: str, holder: str) -> ReservationEntry | None:
        await self._books.pause("release")
        books = self._books
        books.gate(holder, GateState.COMPENSATING)
        parcel = books.parcels.get(holder)
        if parcel is not None and parcel.state in ALIVE:
            raise GateClosed("a label is alive")
        entry = books.stock.get(holder)
        if entry is not None and entry.state in KEPT:
            self._give_back(holder, ReservationState.RELEASED, on_hand=0, reserved=-1)
        elif entry is not None and entry.state is ReservationState.COMMITTED:
            self._give_back(holder, ReservationState.RELEASED, on_hand=1, reserved=0)
        await self._books.pause("released")
        return books.stock.get(holder)

    def _give_back(self, holder: str, state: ReservationState, *, on_hand: int, reserved: int) -> None:
        self._books.move(holder, on_hand=on_hand, reserved=reserved)
        self._books.stock[holder] = replace(self._books.stock[holder], state=state)
        self._books.tell(holder, "inventory.released")


class Payments:
    def __init__(self, books: Books) -> None:
        self._books = books

    async def uid_of(self, merchant: str, name: str) -> str | None:
        await self._books.pause("payment uid")
        return self._books.names.get(name)

    async def read(self, merchant: str, order_uid: str) -> PaymentEntry | None:
        await self._books.pause("payment read")
        return self._books.payments.get(order_uid)

    async def intend(
        self, merchant: str, order_uid: str, *, name: str, amount: int, currency: str, method: str
    ) -> PaymentEntry:
        await self._books.pause("intend payment")
        books = self._books
        books.gate(order_uid, GateState.OPEN)
        if (amount, currency) != books.totals[order_uid]:
            raise Refused(Reason.AMOUNT_MISMATCH, "another amount")
        stock = books.stock.get(order_uid)
        if stock is None or stock.state not in KEPT:
            raise Transient(Reason.STOCK_NOT_HELD, "no stock")
        books.stock[order_uid] = replace(stock, state=ReservationState.PINNED)
        if order_uid not in books.payments:
            books.names[name] = order_uid
            books.payments[order_uid] = PaymentEntry(
                order_uid, amount, currency, method, PaymentState.INTENDED, None, 1, 0, 0, None, None
            )
        await self._books.pause("payment intended")
        return books.payments[order_uid]

    async def next_create_attempt(self, merchant: str, order_uid: str, attempt: int) -> PaymentEntry:
        await self._books.pause("next create")
        self._books.gate(order_uid, GateState.OPEN)
        entry = self._books.payments[order_uid]
        if entry.create_attempt == attempt and entry.intent_id is None:
            self._put(order_uid, create_attempt=attempt + 1)
        return self._books.payments[order_uid]

    async def begin_confirm(
        self, merchant: str, order_uid: str, intent_id: str, attempt: int
    ) -> PaymentEntry:
        await self._books.pause("begin confirm")
        self._books.gate(order_uid, GateState.OPEN)
        entry = self._books.payments[order_uid]
        is_same = entry.intent_id in (None, intent_id)
        if entry.state is not PaymentState.INTENDED or not is_same or entry.confirm_attempt >= attempt:
            raise GateClosed("not admitted any more")
        self._put(order_uid, intent_id=intent_id, confirm_attempt=attempt)
        await self._books.pause("confirm begun")
        return self._books.payments[order_uid]

    async def record_intent(self, merchant: str, order_uid: str, intent_id: str) -> PaymentEntry:
        await self._books.pause("note intent")
        self._books.gate(order_uid, GateState.OPEN, GateState.COMPENSATING)
        entry = self._books.payments[order_uid]
        if entry.state is PaymentState.INTENDED and entry.intent_id is None:
            self._put(order_uid, intent_id=intent_id)
        await self._books.pause("intent noted")
        return self._books.payments[order_uid]

    async def capture(self, merchant: str, order_uid: str, received: int) -> PaymentEntry:
        await self._books.pause("capture")
        self._books.gate(order_uid, GateState.OPEN, GateState.COMPENSATING)
        if self._books.payments[order_uid].state in (PaymentState.INTENDED, PaymentState.DECLINED):
            self._put(order_uid, state=PaymentState.CAPTURED, captured=received)
            self._books.tell(order_uid, "payment.success")
        await self._books.pause("captured")
        return self._books.payments[order_uid]

    async def decline(self, merchant: str, order_uid: str, reason: str, message: str) -> PaymentEntry:
        await self._books.pause("decline")
        self._books.gate(order_uid, GateState.OPEN, GateState.COMPENSATING)
        if self._books.payments[order_uid].state is PaymentState.INTENDED:
            self._put(order_uid, state=PaymentState.DECLINED, reason=reason, message=message)
            self._books.tell(order_uid, "payment.failed")
        await self._books.pause("declined")
        return self._books.payments[order_uid]

    async def cancel(self, merchant: str, order_uid: str) -> PaymentEntry:
        await self._books.pause("cancel payment")
        self._books.gate(order_uid, GateState.COMPENSATING)
        if self._books.payments[order_uid].state in (PaymentState.INTENDED, PaymentState.DECLINED):
            self._put(order_uid, state=PaymentState.CANCELLED)
            self._books.tell(order_uid, "payment.cancelled")
        await self._books.pause("payment cancelled")
        return self._books.payments[order_uid]

    async def request_refund(self, merchant: str, order_uid: str) -> PaymentEntry:
        await self._books.pause("request refund")
        self._books.gate(order_uid, GateState.COMPENSATING)
        parcel = self._books.parcels.get(order_uid)
        if parcel is not None and parcel.state in ALIVE:
            raise GateClosed("a label is alive")
        entry = self._books.payments[order_uid]
        if entry.state is PaymentState.CAPTURED and not entry.refunds:
            refund = RefundEntry(f"refund-{order_uid}", entry.captured, RefundState.REQUESTED, None, 1, None)
            self._put(order_uid, refunds=(refund,))
        await self._books.pause("refund requested")
        return self._books.payments[order_uid]

    async def record_refund(
        self,
        merchant: str,
        order_uid: str,
        refund_id: str,
        *,
        provider_id: str,
        state: ProviderRefundState,
        reason: str | None,
    ) -> PaymentEntry:
        await self._books.pause("record refund")
        self._books.gate(order_uid, GateState.COMPENSATING)
        (refund,) = self._books.payments[order_uid].refunds
        if refund.state is not RefundState.SUCCEEDED:
            refund = replace(refund, state=RefundState(state.value), provider_id=provider_id)
            self._put(order_uid, refunds=(refund,))
            if state is ProviderRefundState.SUCCEEDED:
                self._put(order_uid, state=PaymentState.REFUNDED)
                self._books.tell(order_uid, "payment.refunded")
        await self._books.pause("refund recorded")
        return self._books.payments[order_uid]

    async def next_refund_attempt(self, merchant: str, order_uid: str, refund_id: str) -> PaymentEntry:
        await self._books.pause("next refund")
        self._books.gate(order_uid, GateState.COMPENSATING)
        (refund,) = self._books.payments[order_uid].refunds
        if refund.state in (RefundState.REQUESTED, RefundState.FAILED):
            again = replace(refund, attempt=refund.attempt + 1, state=RefundState.REQUESTED, provider_id=None)
            self._put(order_uid, refunds=(again,))
        return self._books.payments[order_uid]

    def _put(self, uid: str, **changes: Any) -> None:
        self._books.payments[uid] = replace(self._books.payments[uid], **changes)


class Parcels:
    def __init__(self, books: Books) -> None:
        self._books = books

    async def uid_of(self, merchant: str, name: str) -> str | None:
        await self._books.pause("parcel uid")
        return self._books.names.get(name)

    async def read(self, merchant: str, order_uid: str) -> ShipmentEntry | None:
        await self._books.pause("parcel read")
        return self._books.parcels.get(order_uid)

    async def intend(self, merchant: str, order_uid: str, *, name: str) -> ShipmentEntry:
        await self._books.pause("intend parcel")
        books = self._books
        books.gate(order_uid, GateState.OPEN)
        payment, stock = books.payments.get(order_uid), books.stock.get(order_uid)
        if payment is None or payment.state is not PaymentState.CAPTURED:
            raise Transient(Reason.NOT_PAID, "not paid")
        if payment.captured != books.totals[order_uid][0]:
            raise Transient(Reason.NOT_PAID, "not paid in full")
        if stock is None or stock.state is not ReservationState.PINNED:
            raise Transient(Reason.STOCK_NOT_PINNED, "not pinned")
        books.parcels.setdefault(
            order_uid,
            ShipmentEntry(
                order_uid, ShipmentState.INTENDED, None, None, None, None, VoidState.NONE,
                TrackingStatus.PRE_TRANSIT, None, None, None,
            ),
        )  # fmt: skip
        await self._books.pause("parcel intended")
        return books.parcels[order_uid]

    async def begin_buy(
        self, merchant: str, order_uid: str, *, provider_id: str, rate_id: str, now: datetime
    ) -> ShipmentEntry:
        await self._books.pause("begin buy")
        self._books.gate(order_uid, GateState.OPEN)
        entry = self._books.parcels[order_uid]
        if entry.state is not ShipmentState.INTENDED or entry.provider_id not in (None, provider_id):
            raise GateClosed("not admitted any more")
        self._put(order_uid, provider_id=provider_id, rate_id=rate_id, buy_begun_at=now)
        await self._books.pause("buy begun")
        return self._books.parcels[order_uid]

    async def record_label(
        self, merchant: str, order_uid: str, label: Label, *, now: datetime, next_poll_at: datetime
    ) -> ShipmentEntry:
        await self._books.pause("record label")
        books = self._books
        gate = books.gate(order_uid, GateState.OPEN, GateState.COMPENSATING)
        if books.parcels[order_uid].state is ShipmentState.INTENDED:
            self._put(order_uid, state=ShipmentState.BOUGHT, label=label)
            books.polls[order_uid] = next_poll_at
            if gate.state is GateState.OPEN and self._commit(order_uid):
                self._tell_shipped(order_uid)
        await self._books.pause("label recorded")
        return books.parcels[order_uid]

    async def refuse(self, merchant: str, order_uid: str, reason: str, message: str) -> ShipmentEntry:
        await self._books.pause("refuse parcel")
        self._books.gate(order_uid, GateState.OPEN, GateState.COMPENSATING)
        if self._books.parcels[order_uid].state is ShipmentState.INTENDED:
            self._put(order_uid, state=ShipmentState.REFUSED, reason=reason, message=message)
        await self._books.pause("parcel refused")
        return self._books.parcels[order_uid]

    async def cancel(self, merchant: str, order_uid: str) -> ShipmentEntry:
        await self._books.pause("cancel parcel")
        self._books.gate(order_uid, GateState.COMPENSATING)
        if self._books.parcels[order_uid].state is ShipmentState.INTENDED:
            self._put(order_uid, state=ShipmentState.CANCELLED)
        await self._books.pause("parcel cancelled")
        return self._books.parcels[order_uid]

    async def record_void(self, merchant: str, order_uid: str, void: VoidState) -> ShipmentEntry:
        await self._books.pause("record void")
        self._books.gate(order_uid, GateState.COMPENSATING)
        if self._books.parcels[order_uid].state is ShipmentState.BOUGHT:
            self._put(order_uid, state=ShipmentState.VOIDED, void=void)
            self._books.polls.pop(order_uid, None)
            self._books.tell(order_uid, "shipment.cancelled")
        await self._books.pause("void recorded")
        return self._books.parcels[order_uid]

    async def record_tracking_status(
        self, merchant: str, order_uid: str, tracking_status: TrackingStatus
    ) -> ShipmentEntry:
        await self._books.pause("record tracking_status")
        books = self._books
        gate, entry = books.gate(order_uid, *GateState), books.parcels[order_uid]
        if entry.state is ShipmentState.BOUGHT and RANK[tracking_status] > RANK[entry.tracking_status]:
            self._put(order_uid, tracking_status=tracking_status)
            if gate.state is GateState.COMPENSATING:
                if not self._commit(order_uid) and books.stock[order_uid].state is ReservationState.LOST:
                    books.stock[order_uid] = replace(books.stock[order_uid], state=ReservationState.COMMITTED)
                if order_uid not in books.shipped:
                    self._tell_shipped(order_uid)
            is_delivered = tracking_status is TrackingStatus.DELIVERED
            if gate.state is not GateState.SEALED or is_delivered:
                books.seal(order_uid, Outcome.DELIVERED if is_delivered else Outcome.SHIPPED)
            if is_delivered:
                books.polls.pop(order_uid, None)
                books.tell(order_uid, "order.delivered")
        await self._books.pause("tracking_status recorded")
        return books.parcels[order_uid]

    async def claim_due_for_polling(self, now: datetime, limit: int, lease: float) -> Sequence[ShipmentRef]:
        await self._books.pause("due for tracking")
        books = self._books
        found = []
        for uid in list(books.polls):
            gate, entry = books.gates[uid], books.parcels[uid]
            assert entry.provider_id is not None
            assert entry.label is not None
            name = f"{gate.name}-{uid[-8:]}"
            found.append(
                ShipmentRef(
                    gate.merchant, uid, name, entry.provider_id, entry.label.tracking_code,
                    entry.tracking_status, 1,
                )
            )  # fmt: skip
        return found

    async def schedule_polls(self, parcels: Sequence[ShipmentRef], at: Sequence[datetime]) -> None:
        await self._books.pause("track again")

    async def claim_pickup(self, now: datetime, limit: int, lease: float) -> None:
        await self._books.pause("claim pickup")

    async def record_pickup_created(self, batch: str, pickup_id: str) -> bool:
        await self._books.pause("record pickup made")
        return True

    async def record_pickup_booked(self, batch: str, confirmation: str) -> None:
        await self._books.pause("record pickup")

    def _commit(self, uid: str) -> bool:
        entry = self._books.stock[uid]
        if entry.state is not ReservationState.PINNED:
            return False
        self._books.move(uid, on_hand=-1, reserved=-1)
        self._books.stock[uid] = replace(entry, state=ReservationState.COMMITTED)
        return True

    def _tell_shipped(self, uid: str) -> None:
        self._books.shipped.add(uid)
        self._books.tell(uid, "order.shipped")

    def _put(self, uid: str, **changes: Any) -> None:
        self._books.parcels[uid] = replace(self._books.parcels[uid], **changes)
