"""Providers with bad manners: lost answers, late effects, stored failures, refusals."""

import contextlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from random import Random
from typing import Any

from orderplane.controllers.payment.ports import Dispute, DisputeState, Intent, IntentState, Refund, Returns
from orderplane.controllers.shipment.ports import CarrierShipment, TrackingUpdate
from orderplane.ledgers.errors import Refused, Transient, Unclear
from orderplane.ledgers.payments import ProviderRefundState
from orderplane.ledgers.shipments import Label
from orderplane.ledgers.states import STILL_VALID, TrackingStatus, VoidState

from .steps import point

SETTLE = timedelta(seconds=30)


@dataclass
class Manners:
    """How a provider behaves now.

    Args:
        share: How often a call goes wrong.
        unanswered: How many of the next answers to a call are lost, by call.
    """

    rng: Random
    now: Callable[[], datetime]
    share: float = 0.0
    always_late: str = ""
    unanswered: dict[str, int] = field(default_factory=dict)
    late: list[tuple[datetime, Callable[[], Any]]] = field(default_factory=list)

    async def call(self, what: str, effect: Callable[[], Any]) -> Any:
        """Carry a call out, or not, or later, and answer, or not."""
        await point(what)
        is_late = what == self.always_late and self.share > 0
        if is_late or self.rng.random() < self.share:
            match "late" if is_late else self.rng.choice(("before", "after", "late", "unreached")):
                case "before":
                    raise Unclear("NoAnswer", f"{what}: nothing happened, but nobody knows")
                case "after":
                    effect()
                    raise Unclear("NoAnswer", f"{what}: it happened, but nobody knows")
                case "late":
                    # Shorter than the time after which "there is none" is believed.
                    delay = timedelta(seconds=self.rng.uniform(0, SETTLE.total_seconds() * 0.9))
                    self.late.append((self.now() + delay, effect))
                    raise Unclear("NoAnswer", f"{what}: it will happen, and nobody knows")
                case _:
                    raise Transient("Unavailable", f"{what}: not reached")
        answer = effect()
        if self.unanswered.get(what, 0) > 0:
            self.unanswered[what] -= 1
            raise Unclear("NoAnswer", f"{what}: it happened, but nobody knows")
        await point(f"{what} done")
        return answer

    def land(self) -> None:
        """Carry out what is due although its client has gone."""
        due = [effect for at, effect in self.late if at <= self.now()]
        self.late = [(at, effect) for at, effect in self.late if at > self.now()]
        for effect in due:
            with contextlib.suppress(Refused):
                effect()


class PaymentProvider:
    """Implements PaymentProvider over intents that can take money once."""

    def __init__(self, manners: Manners) -> None:
        self._manners = manners
        self.intents_by_id: dict[str, Intent] = {}
        self.refunds_by_id: dict[str, Refund] = {}
        self.disputes_by_id: dict[str, Dispute] = {}
        self._keys: dict[str, Any] = {}
        self.declined: set[str] = set()
        self.pending_refunds: set[str] = set()
        self.refused_refunds: set[str] = set()
        self.answered: set[str] = set()

    def _once(self, key: str, effect: Callable[[], Any]) -> Callable[[], Any]:
        """The same key gets the same answer, also where that is a refusal."""

        def run() -> Any:
            if key not in self._keys:
                try:
                    self._keys[key] = effect()
                except Refused as no:
                    self._keys[key] = no
            if isinstance(self._keys[key], Refused):
                raise self._keys[key]
            return self._keys[key]

        return run

    async def create_intent(
        self, *, key: str, amount: int, currency: str, method: str, merchant: str, reference: str
    ) -> Intent:
        def effect() -> Intent:
            intent = Intent(
                f"pi_{len(self.intents_by_id)}", IntentState.UNCONFIRMED, amount, currency, 0, reference
            )
            self.intents_by_id[intent.id] = intent
            return intent

        intent: Intent = await self._manners.call("create intent", self._once(key, effect))
        self.answered.add(intent.id)
        return intent

    async def confirm(self, intent_id: str, *, key: str) -> Intent:
        def effect() -> Intent:
            intent = self.intents_by_id[intent_id]
            if intent.state is not IntentState.UNCONFIRMED:
                raise Refused("PaymentRejected", "unexpected state")
            if intent.reference in self.declined:
                after = replace(intent, state=IntentState.REFUSED, reason="CardDeclined", message="no")
            else:
                after = replace(intent, state=IntentState.CAPTURED, received=intent.amount)
                taken = [
                    i for i in self.intents_by_id.values() if i.reference == intent.reference and i.received
                ]
                assert not taken, f"{intent.reference} is charged twice"
            self.intents_by_id[intent_id] = after
            return after

        return await self._manners.call("confirm", self._once(key, effect))  # type: ignore[no-any-return]

    async def get_intent(self, intent_id: str) -> Intent:
        return await self._manners.call("get intent", lambda: self.intents_by_id[intent_id])  # type: ignore[no-any-return]

    async def cancel_intent(self, intent_id: str) -> Intent:
        def effect() -> Intent:
            intent = self.intents_by_id[intent_id]
            if intent.state in (IntentState.UNCONFIRMED, IntentState.REFUSED):
                self.intents_by_id[intent_id] = replace(intent, state=IntentState.CANCELLED)
            return self.intents_by_id[intent_id]

        return await self._manners.call("cancel intent", effect)  # type: ignore[no-any-return]

    async def refund(self, intent_id: str, *, key: str, amount: int, currency: str, reference: str) -> Refund:
        def effect() -> Refund:
            intent = self.intents_by_id[intent_id]
            is_possible = 0 < amount <= self.refundable(intent_id)
            if intent.reference in self.refused_refunds or not is_possible:
                raise Refused("PaymentRejected", "nothing, more than is left, or disputed")
            state = (
                ProviderRefundState.PENDING
                if intent.reference in self.pending_refunds
                else ProviderRefundState.SUCCEEDED
            )
            refund = Refund(
                f"re_{len(self.refunds_by_id)}", intent_id, state, amount, intent.currency, reference
            )
            self.refunds_by_id[refund.id] = refund
            return refund

        return await self._manners.call("refund", self._once(key, effect))  # type: ignore[no-any-return]

    async def get_refund(self, refund_id: str) -> Refund:
        def effect() -> Refund:
            refund = self.refunds_by_id[refund_id]
            if refund.state is ProviderRefundState.PENDING:
                self.refunds_by_id[refund_id] = replace(refund, state=ProviderRefundState.SUCCEEDED)
            return self.refunds_by_id[refund_id]

        return await self._manners.call("get refund", effect)  # type: ignore[no-any-return]

    async def returns(self, intent_id: str) -> Returns:
        def effect() -> Returns:
            return Returns(
                tuple(r for r in self.refunds_by_id.values() if r.intent_id == intent_id),
                tuple(d for d in self.disputes_by_id.values() if d.intent_id == intent_id),
            )

        return await self._manners.call("returns", effect)  # type: ignore[no-any-return]

    def refundable(self, intent_id: str) -> int:
        """What is left of an intent; nothing while a bank has its money."""
        disputes = [d for d in self.disputes_by_id.values() if d.intent_id == intent_id]
        if any(d.state is DisputeState.OPEN for d in disputes):
            return 0
        back = sum(
            r.amount
            for r in self.refunds_by_id.values()
            if r.intent_id == intent_id and r.state is not ProviderRefundState.FAILED
        )
        lost = sum(d.amount for d in disputes if d.state is DisputeState.LOST)
        return self.intents_by_id[intent_id].received - back - lost

    def refund_elsewhere(self, intent_id: str, amount: int) -> None:
        """The merchant refunds in the provider's dashboard; `amount` as far as it is left."""
        amount = min(amount, self.refundable(intent_id))
        if amount > 0:
            id_ = f"re_{len(self.refunds_by_id)}"
            self.refunds_by_id[id_] = Refund(id_, intent_id, ProviderRefundState.SUCCEEDED, amount, "EUR", "")

    def dispute(self, intent_id: str, amount: int) -> None:
        """The customer's bank takes the money until it has decided."""
        amount = min(amount, self.refundable(intent_id))
        if amount > 0:
            id_ = f"du_{len(self.disputes_by_id)}"
            self.disputes_by_id[id_] = Dispute(id_, intent_id, DisputeState.OPEN, amount, "EUR")

    def decide(self, dispute_id: str, state: DisputeState) -> None:
        """The bank decides."""
        self.disputes_by_id[dispute_id] = replace(self.disputes_by_id[dispute_id], state=state)

    def prune_keys(self) -> None:
        """A day has passed: no request is under way that was sent before."""
        if not self._manners.late:
            self._keys.clear()


class Carrier:
    """Implements Carrier over shipments that have at most one label."""

    def __init__(self, manners: Manners) -> None:
        self._manners = manners
        self.by_id: dict[str, CarrierShipment] = {}
        self.refused_at_create: set[str] = set()
        self.refused_at_buy: set[str] = set()
        self.voids: dict[str, VoidState] = {}
        """What a void of a label is answered before the first scan, by order; else SUBMITTED."""

    async def create(self, *, reference: str, **_: Any) -> CarrierShipment:
        def effect() -> CarrierShipment:
            if reference in self.refused_at_create:
                raise Refused("AddressRejected", "no such address")
            made = CarrierShipment(
                f"shp_{len(self.by_id)}", reference, "rate", None, VoidState.NONE, TrackingStatus.PRE_TRANSIT
            )
            self.by_id[made.id] = made
            return made

        return await self._manners.call("create shipment", effect)  # type: ignore[no-any-return]

    async def buy(self, shipment_id: str, rate_id: str) -> CarrierShipment:
        def effect() -> CarrierShipment:
            found = self.by_id[shipment_id]
            if found.reference in self.refused_at_buy:
                raise Refused("ShipmentRejected", "not there")
            if found.label is not None:
                raise Refused("AlreadyBought", "bought already")
            alive = [
                s
                for s in self.by_id.values()
                if s.reference == found.reference and s.label and s.void in STILL_VALID
            ]
            assert not alive, f"{found.reference} has two labels"
            label = Label(f"code-{shipment_id}", "trk", "https://track", "Post", "Ground", 500, "EUR")
            self.by_id[shipment_id] = replace(found, label=label)
            return self.by_id[shipment_id]

        return await self._manners.call("buy", effect)  # type: ignore[no-any-return]

    async def get(self, shipment_id: str) -> CarrierShipment:
        return await self._manners.call("get shipment", lambda: self.by_id[shipment_id])  # type: ignore[no-any-return]

    async def void(self, shipment_id: str) -> CarrierShipment:
        def effect() -> CarrierShipment:
            found = self.by_id[shipment_id]
            if found.label is not None and found.void in STILL_VALID:
                is_at_home = found.tracking_status is TrackingStatus.PRE_TRANSIT
                answer = self.voids.get(found.reference, VoidState.SUBMITTED)
                found = replace(found, void=answer if is_at_home else VoidState.REJECTED)
                self.by_id[shipment_id] = found
            return found

        return await self._manners.call("void", effect)  # type: ignore[no-any-return]

    async def track(self, tracking_codes: Sequence[str]) -> Sequence[TrackingUpdate]:
        def effect() -> list[TrackingUpdate]:
            return [
                TrackingUpdate(s.label.tracking_code, s.tracking_status)
                for s in self.by_id.values()
                if s.label and s.label.tracking_code in tracking_codes
            ]

        return await self._manners.call("track", effect)  # type: ignore[no-any-return]

    def scan(self, shipment_id: str, *, trouble: TrackingStatus | None = None) -> None:
        """The parcel moves one step on, or gets into trouble, if its label is alive."""
        found = self.by_id[shipment_id]
        status = found.tracking_status
        if found.label is None or found.void not in STILL_VALID or status is TrackingStatus.DELIVERED:
            return
        further = (
            TrackingStatus.IN_TRANSIT if status is TrackingStatus.PRE_TRANSIT else TrackingStatus.DELIVERED
        )
        self.by_id[shipment_id] = replace(found, tracking_status=trouble or further)
