"""What has to hold when a run has come to rest: the audit's promises, on the simulated tables."""

from orderplane.controllers.payment.ports import DisputeState, IntentState
from orderplane.crds.meta import Kind
from orderplane.events.types import EventType
from orderplane.ledgers.payments import ProviderRefundState
from orderplane.ledgers.states import (
    RESERVING,
    STILL_VALID,
    GateState,
    Outcome,
    RefundState,
    ReservationState,
    TrackingStatus,
    VoidState,
)

from .audited import violations
from .run import World

GONE_OUT = (Outcome.SHIPPED, Outcome.DELIVERED)


def check(world: World) -> None:
    """Raise AssertionError on the first promise that is not kept."""
    stock_balances(world)
    for uid in world.orders:
        ends_as_it_should(world, uid)
        money_is_exact(world, uid)
        goods_are_where_they_should(world, uid)
        story_is_told_once(world, uid)
    nothing_is_left_hanging(world)
    every_order_is_somewhere(world)
    the_audit_has_nothing_to_say(world)
    no_phase_goes_back(world)


def the_audit_has_nothing_to_say(world: World) -> None:
    found = violations(world)
    assert not found, found


def stock_balances(world: World) -> None:
    tables = world.tables
    for sku in tables.on_hand:
        assert tables.on_hand[sku] == tables.opening[sku] + tables.moved[sku], f"{sku} does not balance"
        kept = sum(
            tables.lines[uid].get(sku, 0)
            for uid, entry in tables.reservations.items()
            if entry.state in RESERVING
        )
        assert tables.reserved[sku] == kept, f"{sku}: {tables.reserved[sku]} reserved, {kept} kept"


def ends_as_it_should(world: World, uid: str) -> None:
    gate = world.tables.gates.get(uid)
    if gate is None:
        # Its resource was torn off before anybody saw it: then nothing was promised to anybody.
        assert uid in world.disturbed, f"{uid} was never opened"
        return
    assert gate.state is GateState.SEALED, f"{uid} is still {gate.state}"
    assert gate.finished_at is not None, f"{uid} never finished"
    if gate.is_returned:
        assert world.tables.shipments[uid].tracking_status is TrackingStatus.RETURNED
        assert world.tables.requests[uid], f"{uid} came back, and nobody settled it"
        return
    if uid in world.disturbed:
        return
    is_refused = (
        uid in world.payment_provider.declined
        or uid in world.carrier.refused_at_create
        or uid in world.carrier.refused_at_buy
        or world.tables.reservations[uid].state is ReservationState.REJECTED
    )
    expected = Outcome.FAILED if is_refused else Outcome.DELIVERED
    assert gate.outcome is expected, f"{uid} ended {gate.outcome} ({gate.reason}), not {expected}"


def money_is_exact(world: World, uid: str) -> None:
    gate = world.tables.gates.get(uid)
    intents = [i for i in world.payment_provider.intents_by_id.values() if i.reference == uid]
    taken = sum(intent.received for intent in intents)
    ids = {intent.id for intent in intents}
    payment = world.tables.payments.get(uid)
    refunds = [r for r in world.payment_provider.refunds_by_id.values() if r.intent_id in ids]
    back = sum(r.amount for r in refunds if r.state is ProviderRefundState.SUCCEEDED)
    ours = sum(r.amount for r in refunds if r.reference)
    lost = sum(
        d.amount
        for d in world.payment_provider.disputes_by_id.values()
        if d.intent_id in ids and d.state is DisputeState.LOST
    )
    refunds_here = payment.refunds if payment else ()
    by_hand = sum(r.amount for r in refunds_here if r.state is RefundState.SETTLED_BY_HAND)
    if gate and gate.outcome in GONE_OUT:
        assert payment is not None
        assert taken == world.tables.totals[uid][0], f"{uid}: {taken} taken"
        assert ours + by_hand == payment.refunded, f"{uid}: {ours} refunded, {payment.refunded} recorded"
        assert payment.refunded + payment.withdrawn <= taken, f"{uid}: more went back than came in"
        assert not payment.unsettled, f"{uid}: {payment.unsettled} never settled"
    else:
        gone = back + lost + by_hand
        assert taken == gone, f"{uid}: {taken} taken, {back} given back, {by_hand} by hand, {lost} lost"
        withdrawn = payment.withdrawn if payment else 0
        assert back - ours + lost == withdrawn, f"{uid}: {withdrawn} withdrawn in the ledger"
    known = payment.intent_id if payment else None
    answers_get_lost = world.has_crashed or len(world.processes) > 1
    for intent in intents:
        if intent.id != known:
            # A create whose answer was lost: nobody can confirm it any more.
            assert intent.state in (IntentState.UNCONFIRMED, IntentState.CANCELLED), f"{intent} is unknown"
            assert answers_get_lost or intent.id not in world.payment_provider.answered, (
                f"{intent} was forgotten"
            )
    if payment:
        assert payment.captured == taken, f"{uid}: the ledger has {payment.captured}, {taken} were taken"


def goods_are_where_they_should(world: World, uid: str) -> None:
    gate = world.tables.gates.get(uid)
    live = [
        s
        for s in world.carrier.by_id.values()
        if s.reference == uid
        and s.label is not None
        and (s.void in STILL_VALID or s.tracking_status is not TrackingStatus.PRE_TRANSIT)
        and not is_settled_by_hand(world, uid)
    ]
    has_left = gate is not None and gate.outcome in GONE_OUT
    assert len(live) == int(has_left), f"{uid}: {len(live)} live labels"
    entry = world.tables.reservations.get(uid)
    state = entry.state if entry else None
    if has_left:
        assert state is ReservationState.COMMITTED, f"{uid} has left, but its stock is {state}"
    else:
        assert state not in (*RESERVING, ReservationState.COMMITTED), (
            f"{uid} is undone, but its stock is {state}"
        )


def is_settled_by_hand(world: World, uid: str) -> bool:
    entry = world.tables.shipments.get(uid)
    return entry is not None and entry.void is VoidState.SETTLED_BY_HAND


def story_is_told_once(world: World, uid: str) -> None:
    types = [type_ for type_, _ in world.tables.history.get(uid, [])]
    # Each withdrawal, refund and retry is told; the ledger itself sees to it that each is told once.
    gate = world.tables.gates.get(uid)
    several = {EventType.PAYMENT_WITHDRAWN, EventType.ORDER_RETRIED}
    if gate is not None and gate.outcome in GONE_OUT:
        several |= {EventType.REFUND_REQUESTED, EventType.PAYMENT_REFUNDED}
    once = [type_ for type_ in types if type_ not in several]
    assert len(once) == len(set(once)), f"{uid} was told {types}"
    if gate is not None and gate.outcome is not None:
        last = {
            Outcome.DELIVERED: "order.delivered",
            Outcome.FAILED: "order.failed",
            Outcome.CANCELLED: "order.cancelled",
            Outcome.SHIPPED: "order.returned",
        }[gate.outcome]
        assert once[-1] == last, f"{uid} ended {gate.outcome}, but the last event is {once[-1]}"


def nothing_is_left_hanging(world: World) -> None:
    alive = {d["metadata"]["uid"] for d in world.api.objects.values()}
    for (kind, _, name), document in world.api.objects.items():
        metadata = document["metadata"]
        assert not metadata.get("deletionTimestamp"), f"{kind} {name} is still held"
        for owner in metadata.get("ownerReferences", ()):
            assert owner["uid"] in alive, f"{kind} {name} outlived its order"
        if kind is Kind.ORDER:
            outcome = world.tables.gates[metadata["uid"]].outcome
            phase = document["status"]["phase"]
            assert outcome is not None
            is_returned = world.tables.gates[metadata["uid"]].is_returned
            ended = "Returned" if is_returned else outcome.value
            assert phase == ended, f"Order {name} ended {ended} but shows {phase}"


def every_order_is_somewhere(world: World) -> None:
    """In the API server, or in the archive, which tells how it ended."""
    alive = {d["metadata"]["uid"] for d in world.api.objects.values()}
    for uid, gate in world.tables.gates.items():
        row = world.tables.archived.get(uid)
        if row is None:
            is_torn_off = uid in world.stripped or gate.reason == "OrderMissing"
            assert uid in alive or is_torn_off, f"{uid} is in neither"
        elif uid not in alive:
            assert gate.outcome is not None
            ended = "Returned" if gate.is_returned else gate.outcome.value
            assert row[0].phase == ended, f"{uid} ended {ended} but is archived as {row[0].phase}"


def no_phase_goes_back(world: World) -> None:
    """Who was told that an order is undone is not told that it goes on; a parcel may have been faster."""
    undone: set[str] = set()
    for kind, _, document in world.api.events:
        if kind is not Kind.ORDER:
            continue
        uid, phase = document["metadata"]["uid"], document["status"]["phase"]
        if phase in ("Compensating", "Failed", "Cancelled"):
            undone.add(uid)
        assert uid not in undone or phase not in ("Pending", "Reserved", "Paid"), f"{uid} is {phase} again"
