"""Put the invariants together, and tell what is wrong from what is only under way."""

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass

from orderplane.audit import events, money, notifications, parcels, reservations, resources, stock
from orderplane.audit.snapshot import Snapshot, Violation
from orderplane.crds.meta import Kind

Invariant = Callable[[Snapshot], Iterator[Violation]]

INVARIANTS: tuple[Invariant, ...] = (
    stock.stock_balances,
    stock.reservations_match_stock,
    stock.movements_match_reservations,
    stock.corrections_move_the_shelf_alone,
    stock.orders_have_their_stock,
    stock.no_hold_outlives_its_time,
    stock.nothing_moves_after_the_end,
    money.orders_are_paid_exactly,
    money.intents_match_the_ledger,
    money.no_order_is_charged_twice,
    money.refunds_match_the_ledger,
    parcels.labels_match_the_ledger,
    parcels.orders_have_one_label,
    reservations.reservations_are_as_answered,
    reservations.holds_have_their_reservation,
    reservations.reservations_show_the_ledger,
    resources.accepted_orders_exist,
    resources.gates_have_an_order_or_an_end,
    resources.children_have_their_order,
    resources.finalizers_say_why,
    resources.phases_tell_the_outcome,
    events.sequences_are_dense,
    events.every_effect_is_told,
    events.nothing_happens_after_the_end,
    events.nothing_is_done_after_the_seal,
    events.history_is_in_the_topics,
    events.first_messages_rise,
    notifications.every_due_message_is_noted,
    notifications.nothing_wanted_is_withheld,
    notifications.messages_go_out_once,
    notifications.messages_keep_their_order,
)


@dataclass(frozen=True, slots=True)
class Verdict:
    """What an audit found.

    Args:
        open: Orders that are still under way, as `namespace/name`; nothing is said about them yet.
        counts: How much was looked at.
    """

    violations: tuple[Violation, ...]
    open: tuple[str, ...]
    counts: dict[str, int]

    @property
    def is_clean(self) -> bool:
        """Every promise is kept, as far as can be told now."""
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
            "labels": sum(parcel.label is not None for parcel in snapshot.parcels),
            "messages": len(snapshot.messages or ()),
            "notifications": sum(row["state"] == "Sent" for row in snapshot.tables["notifications"]),
        },
    )


def _unfinished(snapshot: Snapshot) -> Iterator[str]:
    """Orders whose gate is not sealed, and those so young that they have none yet."""
    gates = {str(row["uid"]) for row in snapshot.tables["orders"]}
    for row in snapshot.tables["orders"]:
        if row["state"] != "Sealed":
            yield f"{row['merchant']}/{row['name']}"
    for order in snapshot.resources[Kind.ORDER]:
        metadata = order["metadata"]
        if metadata["uid"] not in gates:
            yield f"{metadata['namespace']}/{metadata['name']}"


async def audit(
    take: Callable[[], Awaitable[Snapshot]], *, passes: int = 4, pause_seconds: float = 1.0
) -> Verdict:
    """Judge until it is clean, or until the same violations are seen again and again.

    What changes between two looks is under way; only what stays through every look is a violation.
    """
    verdict = judge(await take())
    lasting = set(verdict.violations)
    for _ in range(passes - 1):
        if not lasting:
            break
        await asyncio.sleep(pause_seconds)
        verdict = judge(await take())
        lasting &= set(verdict.violations)
    return Verdict(tuple(sorted(lasting)), verdict.open, verdict.counts)
