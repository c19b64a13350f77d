"""All invariants, and the difference between what is wrong and what is only under way."""

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, replace

from orderplane.audit import (
    deliveries,
    events,
    notifications,
    payments,
    refunds,
    resources,
    shipments,
    stock,
    withdrawals,
)
from orderplane.audit.snapshot import Notice, Snapshot, Violation
from orderplane.crds.meta import Kind
from orderplane.ledgers.states import GateState
from orderplane.workers.notifier.plan import State

Invariant = Callable[[Snapshot], Iterator[Violation]]

INVARIANTS: tuple[Invariant, ...] = (
    stock.stock_balances,
    stock.reservations_match_stock,
    stock.movements_match_reservations,
    stock.corrections_change_on_hand_alone,
    stock.orders_have_their_stock,
    stock.no_hold_outlives_its_expiry,
    stock.nothing_moves_after_the_end,
    payments.orders_are_paid_exactly,
    payments.intents_match_the_ledger,
    payments.no_order_is_charged_twice,
    payments.refunds_match_the_ledger,
    refunds.no_more_goes_back_than_was_taken,
    refunds.refunds_were_asked_for,
    refunds.no_piece_comes_back_twice,
    refunds.every_refund_of_a_spec_is_answered,
    withdrawals.withdrawals_match_the_provider,
    withdrawals.withdrawals_are_in_the_ledger,
    withdrawals.no_payment_goes_back_twice,
    shipments.labels_match_the_ledger,
    shipments.orders_have_one_label,
    stock.reservations_are_as_answered,
    stock.holds_have_their_reservation,
    stock.reservations_show_the_ledger,
    resources.accepted_orders_exist,
    resources.gates_have_an_order_or_an_end,
    resources.absent_orders_are_archived,
    resources.archived_phases_show_the_outcome,
    resources.children_have_their_order,
    resources.no_child_comes_after_the_end,
    resources.finalizers_say_why,
    resources.phases_show_the_outcome,
    events.sequences_are_dense,
    events.every_effect_has_its_event,
    events.nothing_happens_after_the_end,
    events.nothing_is_done_after_the_seal,
    events.history_is_in_the_topics,
    events.first_messages_are_in_order,
    notifications.every_due_message_has_a_row,
    notifications.nothing_wanted_is_withheld,
    notifications.nothing_goes_to_an_unconfirmed_address,
    notifications.messages_go_out_once,
    notifications.messages_keep_their_order,
    deliveries.every_subscribed_event_has_a_delivery,
    deliveries.deliveries_are_of_events,
    deliveries.what_is_delivered_was_taken,
)


@dataclass(frozen=True, slots=True)
class Verdict:
    """What an audit found.

    Args:
        open: Orders that are still under way, as `namespace/name`; they are not judged yet.
        counts: How much was looked at.
        notices: What was done at the providers without us, and contradicts nothing.
    """

    violations: tuple[Violation, ...]
    open: tuple[str, ...]
    counts: dict[str, int]
    notices: tuple[Notice, ...] = ()

    @property
    def is_clean(self) -> bool:
        """No invariant is violated by what can be judged now."""
        return not self.violations


def judge(snapshot: Snapshot) -> Verdict:
    """Check every invariant once."""
    found = sorted({violation for check in INVARIANTS for violation in check(snapshot)})
    return Verdict(
        violations=tuple(found),
        open=tuple(sorted(set(_unfinished(snapshot)))),
        counts={
            "orders": len(snapshot.tables["orders"]),
            "events": len(snapshot.tables["history"]),
            "intents": len(snapshot.intents),
            "refunds": len(snapshot.refunds),
            "disputes": len(snapshot.disputes),
            "labels": sum(parcel.label is not None for parcel in snapshot.parcels),
            "messages": len(snapshot.messages or ()),
            "notifications": sum(row["state"] == State.SENT for row in snapshot.tables["notifications"]),
        },
        notices=tuple(sorted(withdrawals.money_that_left_elsewhere(snapshot))),
    )


def _unfinished(snapshot: Snapshot) -> Iterator[str]:
    """Orders whose gate is not sealed, and those so young that they have none yet."""
    gates = {str(row["uid"]) for row in snapshot.tables["orders"]}
    for row in snapshot.tables["orders"]:
        if row["state"] != GateState.SEALED:
            yield f"{row['merchant']}/{row['name']}"
    for order in snapshot.resources[Kind.ORDER]:
        metadata = order["metadata"]
        if metadata["uid"] not in gates:
            yield f"{metadata['namespace']}/{metadata['name']}"


async def audit(
    take: Callable[[], Awaitable[Snapshot]], *, passes: int = 4, pause_seconds: float = 1.0
) -> Verdict:
    """Judge up to `passes` snapshots, until one of them is clean.

    What differs between two snapshots is under way; only what is in every snapshot is a violation.
    """
    verdict = judge(await take())
    lasting = set(verdict.violations)
    for _ in range(passes - 1):
        if not lasting:
            break
        await asyncio.sleep(pause_seconds)
        verdict = judge(await take())
        lasting &= set(verdict.violations)
    return replace(verdict, violations=tuple(sorted(lasting)))
