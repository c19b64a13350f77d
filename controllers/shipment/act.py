"""Bring the carrier to what a Shipment, and the gate of its order, ask for."""

from collections.abc import Callable
from datetime import datetime, timedelta

from orderplane.controllers.engine.backoff import FailureState
from orderplane.controllers.engine.cluster import Cluster
from orderplane.controllers.engine.queue import Key, Wake
from orderplane.controllers.family import ParentOrder
from orderplane.controllers.shipment.plan import Action, plan, status_of
from orderplane.controllers.shipment.ports import Carrier, CarrierShipment
from orderplane.crds.meta import CANCEL_SHIPMENT_FINALIZER, Kind
from orderplane.crds.reasons import Reason
from orderplane.crds.shipment import Shipment
from orderplane.ledgers.errors import Refused, Transient
from orderplane.ledgers.gate import Gate, GateLedger, GateState, ShipmentState, TrackingStatus
from orderplane.ledgers.shipments import ShipmentEntry, ShipmentLedger, VoidState

_MOST_STEPS = 8


class ShipmentReconciler:
    """Buys one label, and takes it back where the order is undone before the first scan.

    Args:
        settle: How long a buying call may still land at the carrier after it was begun. Longer than the
            call's own time-out: what its client gave up can still be carried out.
        first_poll: How soon a parcel is first asked for; no carrier has moved it before that.
    """

    kind = Kind.SHIPMENT

    def __init__(
        self,
        cluster: Cluster,
        gates: GateLedger,
        ledger: ShipmentLedger,
        carrier: Carrier,
        wake: Wake,
        clock: Callable[[], datetime],
        *,
        settle: timedelta,
        first_poll: timedelta,
    ) -> None:
        self._cluster = cluster
        self._ledger = ledger
        self._carrier = carrier
        self._clock = clock
        self._settle = settle
        self._first_poll = first_poll
        self._family = ParentOrder(Kind.SHIPMENT, CANCEL_SHIPMENT_FINALIZER, cluster, gates, wake)
        self._entries: dict[Key, ShipmentEntry | None] = {}

    async def reconcile(
        self, key: Key, trouble: FailureState | None, seen: Gate | None = None
    ) -> float | None:
        shipment = self._cluster.shipments.get(key)
        uid = shipment.spec.order_ref.uid if shipment else await self._ledger.uid_of(*key)
        if uid is None:
            self._entries.pop(key, None)
            return None
        gate = await self._family.gate(key, uid, seen)
        entry = await self._ledger.read(key[0], uid) if gate is not None and gate.shipment else None
        before = entry
        is_unlabelled = False
        for _ in range(_MOST_STEPS):
            action = plan(
                shipment, gate, entry, self._clock(), settle=self._settle, is_unlabelled=is_unlabelled
            )
            if action is Action.WAIT:
                break
            if action is Action.LET_GO:
                assert shipment is not None
                await self._family.let_go(shipment)
                break
            if action is Action.CLOSE_GATE:
                await self._family.close_gate(key, uid)
                gate = await self._family.gate(key, uid)
                continue
            if action is Action.CHECK:
                assert entry is not None
                found = await self._carrier.get(entry.provider_id or "")
                is_unlabelled = found.label is None
                entry = await self._note(key[0], entry, found)
            elif action is Action.VOID:
                assert entry is not None
                entry = await self._void(key[0], entry)
                gate = await self._family.gate(key, uid)
            elif action is Action.FORGET:
                entry = await self._ledger.cancel(key[0], uid)
                gate = await self._family.gate(key, uid)
            else:
                assert shipment is not None
                entry = await self._ship(action, shipment, entry)
            self._entries[key] = entry
        self._entries[key] = entry
        if entry != before:
            self._family.wake_order(key, shipment, gate)
            if gate is not None and gate.state is GateState.COMPENSATING:
                self._family.wake_siblings(key)
        return self._settle.total_seconds() / 4 if self._is_settling(entry, is_unlabelled) else None

    async def report(self, key: Key, trouble: FailureState | None) -> None:
        shipment = self._cluster.shipments.get(key)
        if shipment is None or key not in self._entries:
            return
        status = status_of(shipment, self._entries[key], trouble, self._clock())
        if status != shipment.status:
            await self._cluster.report(Kind.SHIPMENT, shipment, status)

    async def refresh(self, key: Key) -> None:
        await self._cluster.refresh(Kind.SHIPMENT, key)

    def rank(self, key: Key) -> int:
        return self._family.rank(key)

    def traceparent(self, key: Key) -> str | None:
        return self._family.traceparent(key)

    async def _ship(self, action: Action, shipment: Shipment, entry: ShipmentEntry | None) -> ShipmentEntry:
        merchant, uid = shipment.metadata.namespace, shipment.spec.order_ref.uid
        if entry is None:
            self._family.check_planned(shipment)
            return await self._ledger.intend(merchant, uid, name=shipment.metadata.name)
        provider_id, rate_id = entry.provider_id, entry.rate_id
        if action is Action.CREATE:
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
            provider_id, rate_id = made.id, made.rate_id
        if provider_id is None or rate_id is None:
            return await self._ledger.refuse(
                merchant, uid, "NoRate", "No carrier offers a service to this address."
            )
        return await self._buy(merchant, uid, provider_id, rate_id)

    async def _buy(self, merchant: str, uid: str, provider_id: str, rate_id: str) -> ShipmentEntry:
        entry = await self._ledger.begin_buy(
            merchant, uid, provider_id=provider_id, rate_id=rate_id, now=self._clock()
        )
        if entry.provider_id != provider_id or entry.state is not ShipmentState.INTENDED:
            return entry
        try:
            bought = await self._carrier.buy(provider_id, rate_id)
        except Refused as no:
            bought = await self._carrier.get(provider_id)
            if bought.label is None:
                return await self._ledger.refuse(merchant, uid, no.reason, no.message)
        return await self._note(merchant, entry, bought)

    async def _note(self, merchant: str, entry: ShipmentEntry, found: CarrierShipment) -> ShipmentEntry:
        if found.label is None or entry.state is not ShipmentState.INTENDED:
            return entry
        now = self._clock()
        return await self._ledger.record_label(
            merchant, entry.order_uid, found.label, now=now, next_poll_at=now + self._first_poll
        )

    async def _void(self, merchant: str, entry: ShipmentEntry) -> ShipmentEntry:
        found = await self._carrier.get(entry.provider_id or "")
        if found.tracking_status is TrackingStatus.PRE_TRANSIT and found.void is VoidState.NONE:
            found = await self._carrier.void(entry.provider_id or "")
        if found.tracking_status is not TrackingStatus.PRE_TRANSIT:
            return await self._ledger.record_tracking_status(merchant, entry.order_uid, found.tracking_status)
        if found.void is VoidState.NONE:
            raise Transient(Reason.VOID_UNANSWERED, "the carrier has not answered the wish to void the label")
        return await self._ledger.record_void(merchant, entry.order_uid, found.void)

    def _is_settling(self, entry: ShipmentEntry | None, is_unlabelled: bool) -> bool:
        return is_unlabelled and entry is not None and entry.state is ShipmentState.INTENDED
