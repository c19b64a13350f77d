"""Carry out what a Shipment's plan says, at the carrier and in the ledger."""

from collections.abc import Callable
from datetime import datetime, timedelta

from orderplane.controllers.child import ChildReconciler, Turn
from orderplane.controllers.engine.cluster import Cluster
from orderplane.controllers.engine.delays import Delay
from orderplane.controllers.engine.queue import Enqueue
from orderplane.controllers.shipment.plan import (
    Begin,
    BuyLabel,
    CancelShipment,
    CheckLabel,
    CreateShipment,
    Effect,
    RefuseShipment,
    Step,
    VoidLabel,
    plan,
)
from orderplane.controllers.shipment.polling import LOOK_AGAIN_SHARE
from orderplane.controllers.shipment.ports import Carrier, CarrierShipment
from orderplane.controllers.shipment.status import status_of
from orderplane.controllers.steps import Wait
from orderplane.crds.meta import Kind
from orderplane.crds.reasons import Reason
from orderplane.crds.shipment import Shipment, ShipmentStatus
from orderplane.ledgers.errors import Refused, Transient
from orderplane.ledgers.gate import Gate, GateLedger
from orderplane.ledgers.shipments import Label, ShipmentEntry, ShipmentLedger
from orderplane.ledgers.states import STILL_VALID, ShipmentState, TrackingStatus, VoidState

SEND_SHARE = 4
"""A purchase is sent within this part of the settle time after it was written down, or not at all."""

_AT_HOME = frozenset({TrackingStatus.PRE_TRANSIT, TrackingStatus.CANCELLED})
"""What the tracker of a label says that the carrier has taken back."""

_Turn = Turn[Shipment, ShipmentEntry]


class ShipmentReconciler(ChildReconciler[Shipment, ShipmentEntry, Effect]):
    """Buys one label, and voids it where the order is compensated before the first scan.

    Args:
        operator: The name of this one, by which it knows what it has begun itself.
        elapsed: Seconds since any moment, by a clock that also runs while this process stands still.
        settle: How long a buying call may still land at the carrier after it was sent. Longer than the call's
            own timeout: what its client gave up can still be carried out.
        first_poll: How soon the carrier is first asked where a parcel is; none moves sooner.
    """

    kind = Kind.SHIPMENT

    def __init__(
        self,
        cluster: Cluster,
        gates: GateLedger,
        ledger: ShipmentLedger,
        carrier: Carrier,
        enqueue: Enqueue[Gate],
        now: Callable[[], datetime],
        *,
        operator: str,
        elapsed: Callable[[], float],
        settle: timedelta,
        first_poll: timedelta,
    ) -> None:
        super().__init__(cluster, cluster.shipments, gates, ledger, enqueue, now)
        self._ledger = ledger
        self._carrier = carrier
        self._operator = operator
        self._elapsed = elapsed
        self._send_within = settle / SEND_SHARE
        # It may be sent so late, and land so much later.
        self._settle = settle + self._send_within
        self._look_again = settle * LOOK_AGAIN_SHARE
        self._first_poll = first_poll

    def _is_begun(self, gate: Gate | None) -> bool:
        return gate is not None and gate.shipment is not None

    def _plan(self, turn: _Turn) -> Step:
        return plan(
            turn.child,
            turn.gate,
            turn.entry,
            operator=self._operator,
            settle=self._settle,
            is_unlabelled=turn.is_untouched,
            is_retry_requested=self._is_void_refused(turn) and self._is_retry_requested(turn.key),
        )

    async def _carry_out(self, step: Effect, turn: _Turn) -> Wait | None:
        merchant, uid = turn.merchant, turn.uid
        match step:
            case Begin(shipment):
                self._check_planned(shipment)
                turn.entry = await self._ledger.intend(merchant, uid, name=shipment.metadata.name)
            case CreateShipment(shipment):
                attempt = turn.entry.buy_attempt + 1 if turn.entry else 1
                turn.entry = await self._create(merchant, uid, shipment, attempt)
            case CheckLabel(provider_id):
                found = await self._carrier.get(provider_id)
                turn.is_untouched = found.label is None
                if found.label is not None:
                    turn.entry = await self._record_label(merchant, uid, found.label)
            case BuyLabel(provider_id, rate_id, attempt):
                turn.is_untouched = False
                turn.entry = await self._buy(merchant, uid, provider_id, rate_id, attempt)
            case RefuseShipment(entry):
                why = entry.reason or Reason.SHIPMENT_REFUSED, entry.message or ""
                turn.entry = await self._refuse(merchant, uid, *why, entry.buy_attempt, is_final=True)
            case CancelShipment():
                turn.entry = await self._ledger.cancel(merchant, uid, look_again=self._look_again)
                await self._reread_gate(turn)
            case VoidLabel():
                await self._void(turn, step)
                await self._reread_gate(turn)
        return None

    async def _create(self, merchant: str, uid: str, shipment: Shipment, attempt: int) -> ShipmentEntry:
        try:
            made = await self._carrier.create(
                reference=uid,
                merchant=merchant,
                address=shipment.spec.address,
                parcels=shipment.spec.parcels,
                service=shipment.spec.service,
            )
        except Refused as no:
            return await self._refuse(merchant, uid, no.reason, no.message, attempt - 1, is_final=True)
        return await self._buy(merchant, uid, made.id, made.rate_id, attempt)

    async def _buy(
        self, merchant: str, uid: str, provider_id: str, rate_id: str | None, attempt: int
    ) -> ShipmentEntry:
        """Write down that it is about to be bought, then buy it; an unclear answer is checked later."""
        if rate_id is None:
            message = "No carrier offers a service to this address."
            return await self._refuse(merchant, uid, Reason.NO_RATE, message, attempt - 1, is_final=True)
        asked_at = self._elapsed()
        entry = await self._ledger.begin_buy(
            merchant, uid, provider_id=provider_id, rate_id=rate_id, attempt=attempt, operator=self._operator
        )
        if entry.provider_id != provider_id or entry.state is not ShipmentState.INTENDED:
            return entry
        if self._elapsed() - asked_at > self._send_within.total_seconds():
            # Another process may believe by now that there is no label, and pay the order back.
            raise Transient(
                Reason.OPERATOR_PAUSED, f"the purchase of a label for {uid} was begun too long ago to be sent"
            )
        try:
            bought = await self._carrier.buy(provider_id, rate_id)
        except Refused as no:
            bought = await self._carrier.get(provider_id)
            if bought.label is None:
                # Of an older purchase whose answer is not known, a label may come all the same.
                is_final = attempt == 1
                return await self._refuse(merchant, uid, no.reason, no.message, attempt, is_final=is_final)
        return entry if bought.label is None else await self._record_label(merchant, uid, bought.label)

    async def _refuse(
        self, merchant: str, uid: str, reason: str, message: str, attempt: int, *, is_final: bool
    ) -> ShipmentEntry:
        return await self._ledger.refuse(
            merchant,
            uid,
            reason,
            message,
            attempt=attempt,
            is_final=is_final,
            look_again=self._look_again,
        )

    async def _record_label(self, merchant: str, uid: str, label: Label) -> ShipmentEntry:
        return await self._ledger.record_label(merchant, uid, label, first_poll=self._first_poll)

    async def _void(self, turn: _Turn, step: VoidLabel) -> None:
        """Look, ask for the label back, and record what the carrier says.

        Raises:
            Transient: the label is still valid; a person has to act, unless the carrier has not answered.
        """
        found = await self._carrier.get(step.provider_id)
        is_open = found.void is VoidState.NONE or (found.void is VoidState.REJECTED and step.is_repeated)
        if is_open and found.tracking_status is TrackingStatus.PRE_TRANSIT:
            if step.is_repeated:
                self._handle_retry(turn.key)
            found = await self._carrier.void(step.provider_id)
        is_stray = turn.entry is not None and turn.entry.state is ShipmentState.STRAY
        if found.void not in STILL_VALID and (is_stray or found.tracking_status in _AT_HOME):
            turn.entry = await self._ledger.record_void(turn.merchant, turn.uid, found.void)
        elif found.tracking_status is not TrackingStatus.PRE_TRANSIT:
            await self._record_movement(turn, found)
        elif found.void is VoidState.NONE:
            raise Transient(
                Reason.VOID_UNANSWERED, "the carrier has not answered the request to void the label"
            )
        else:
            turn.entry = await self._ledger.record_void(turn.merchant, turn.uid, found.void)
            self._await_retry(turn.key)
            raise Transient(
                Reason.VOID_REJECTED,
                f"the carrier does not take label {step.provider_id} back, and has not scanned its parcel. "
                "Make sure that it is not handed over; then run `orderplane resolve`, or `orderplane retry` "
                "to ask the carrier again",
                is_final=True,
            )

    async def _record_movement(self, turn: _Turn, found: CarrierShipment) -> None:
        turn.entry = await self._ledger.record_tracking_status(turn.merchant, turn.uid, found.tracking_status)
        if turn.entry.state is ShipmentState.STRAY:
            raise Transient(
                Reason.STRAY_PARCEL,
                f"parcel {found.id} travels, although its order was undone before its label was bought; get "
                "it back from the carrier, then run `orderplane resolve`",
                is_final=True,
            )

    def _is_void_refused(self, turn: _Turn) -> bool:
        return turn.entry is not None and turn.entry.void is VoidState.REJECTED

    def _status_of(self, child: Shipment, entry: ShipmentEntry | None, delay: Delay | None) -> ShipmentStatus:
        return status_of(child, entry, delay, self._now())
