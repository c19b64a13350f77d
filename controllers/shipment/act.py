"""Carry out what a Shipment's plan says, at the carrier and in the ledger."""

from collections.abc import Callable
from datetime import datetime, timedelta

from orderplane.controllers.child import ChildReconciler, Turn
from orderplane.controllers.engine.backoff import FailureState
from orderplane.controllers.engine.cluster import Cluster
from orderplane.controllers.engine.queue import Enqueue
from orderplane.controllers.shipment.plan import (
    Begin,
    BuyLabel,
    CancelShipment,
    CheckLabel,
    CreateShipment,
    Effect,
    Step,
    VoidLabel,
    plan,
)
from orderplane.controllers.shipment.ports import Carrier
from orderplane.controllers.shipment.status import status_of
from orderplane.controllers.steps import Wait
from orderplane.crds.meta import Kind
from orderplane.crds.reasons import Reason
from orderplane.crds.shipment import Shipment, ShipmentStatus
from orderplane.ledgers.errors import Refused, Transient
from orderplane.ledgers.gate import Gate, GateLedger
from orderplane.ledgers.shipments import Label, ShipmentEntry, ShipmentLedger
from orderplane.ledgers.states import GateState, ShipmentState, TrackingStatus, VoidState

_Turn = Turn[Shipment, ShipmentEntry]


class ShipmentReconciler(ChildReconciler[Shipment, ShipmentEntry, Effect]):
    """Buys one label, and voids it where the order is compensated before the first scan.

    Args:
        settle: How long a buying call may still land at the carrier after it was begun. Longer than the
            call's own timeout: what its client gave up can still be carried out.
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
        settle: timedelta,
        first_poll: timedelta,
    ) -> None:
        super().__init__(cluster, cluster.shipments, gates, ledger, enqueue, now)
        self._ledger = ledger
        self._carrier = carrier
        self._settle = settle
        self._first_poll = first_poll

    def _is_begun(self, gate: Gate | None) -> bool:
        return gate is not None and gate.shipment is not None

    def _plan(self, turn: _Turn) -> Step:
        return plan(
            turn.child,
            turn.gate,
            turn.entry,
            self._now(),
            settle=self._settle,
            is_unlabelled=turn.is_untouched,
        )

    async def _carry_out(self, step: Effect, turn: _Turn) -> Wait | None:
        merchant, uid = turn.merchant, turn.uid
        match step:
            case Begin(shipment):
                self._check_planned(shipment)
                turn.entry = await self._ledger.intend(merchant, uid, name=shipment.metadata.name)
            case CreateShipment(shipment):
                turn.entry = await self._create(merchant, uid, shipment)
            case CheckLabel(provider_id):
                found = await self._carrier.get(provider_id)
                turn.is_untouched = found.label is None
                if found.label is not None:
                    turn.entry = await self._record_label(merchant, uid, found.label)
            case BuyLabel(provider_id, rate_id):
                turn.is_untouched = False
                turn.entry = await self._buy(merchant, uid, provider_id, rate_id)
            case CancelShipment():
                turn.entry = await self._ledger.cancel(merchant, uid)
                await self._reread_gate(turn)
            case VoidLabel(provider_id):
                turn.entry = await self._void(merchant, uid, provider_id)
                await self._reread_gate(turn)
        return None

    async def _create(self, merchant: str, uid: str, shipment: Shipment) -> ShipmentEntry:
        try:
            made = await self._carrier.create(
                reference=uid,
                merchant=merchant,
                address=shipment.spec.address,
                parcels=shipment.spec.parcels,
                service=shipment.spec.service,
            )
        except Refused as no:
            return await self._ledger.refuse(merchant, uid, no.reason, no.message)
        return await self._buy(merchant, uid, made.id, made.rate_id)

    async def _buy(self, merchant: str, uid: str, provider_id: str, rate_id: str | None) -> ShipmentEntry:
        """Write down that it is about to be bought, then buy it; an unclear answer is checked later."""
        if rate_id is None:
            message = "No carrier offers a service to this address."
            return await self._ledger.refuse(merchant, uid, Reason.NO_RATE, message)
        entry = await self._ledger.begin_buy(
            merchant, uid, provider_id=provider_id, rate_id=rate_id, now=self._now()
        )
        if entry.provider_id != provider_id or entry.state is not ShipmentState.INTENDED:
            return entry
        try:
            bought = await self._carrier.buy(provider_id, rate_id)
        except Refused as no:
            bought = await self._carrier.get(provider_id)
            if bought.label is None:
                return await self._ledger.refuse(merchant, uid, no.reason, no.message)
        return entry if bought.label is None else await self._record_label(merchant, uid, bought.label)

    async def _record_label(self, merchant: str, uid: str, label: Label) -> ShipmentEntry:
        now = self._now()
        return await self._ledger.record_label(
            merchant, uid, label, now=now, next_poll_at=now + self._first_poll
        )

    async def _void(self, merchant: str, uid: str, provider_id: str) -> ShipmentEntry:
        found = await self._carrier.get(provider_id)
        if found.tracking_status is TrackingStatus.PRE_TRANSIT and found.void is VoidState.NONE:
            found = await self._carrier.void(provider_id)
        if found.tracking_status is not TrackingStatus.PRE_TRANSIT:
            return await self._ledger.record_tracking_status(merchant, uid, found.tracking_status)
        if found.void is VoidState.NONE:
            raise Transient(
                Reason.VOID_UNANSWERED, "the carrier has not answered the request to void the label"
            )
        return await self._ledger.record_void(merchant, uid, found.void)

    def _notify(self, turn: _Turn) -> None:
        super()._notify(turn)
        if turn.gate is not None and turn.gate.state is GateState.COMPENSATING:
            # Once the shipment is settled, payment and stock may be given back.
            for kind in (Kind.PAYMENT, Kind.RESERVATION):
                self._enqueue(kind, turn.key)

    def _status_of(
        self, child: Shipment, entry: ShipmentEntry | None, failure: FailureState | None
    ) -> ShipmentStatus:
        return status_of(child, entry, failure, self._now())
