"""Set conditions the way the Kubernetes API conventions ask for."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from orderplane.controllers.engine.backoff import FailureState
from orderplane.crds.meta import Condition
from orderplane.crds.reasons import Reason

STALLED = "Stalled"


@dataclass(frozen=True, slots=True)
class Fact:
    """What is to be said about one condition type now.

    Args:
        reason: A `Reason`, or what a ledger or a child's condition has kept of one.
    """

    type: str
    status: Literal["True", "False", "Unknown"]
    reason: str
    message: str = ""


def with_facts(
    conditions: tuple[Condition, ...], facts: Iterable[Fact], generation: int, now: datetime
) -> tuple[Condition, ...]:
    """The conditions after `facts` are known; types without a fact stay as they are.

    `lastTransitionTime` moves only with the status, so that nothing changes where nothing is new.
    """
    known = {condition.type: condition for condition in conditions}
    for fact in facts:
        before = known.get(fact.type)
        known[fact.type] = Condition(
            type=fact.type,
            status=fact.status,
            reason=fact.reason,
            message=fact.message[:1024],
            observed_generation=generation,
            last_transition_time=(
                before.last_transition_time if before and before.status == fact.status else now
            ),
        )
    return tuple(known.values())


def find(conditions: tuple[Condition, ...], type_: str) -> Condition | None:
    """The condition of that type."""
    return next((condition for condition in conditions if condition.type == type_), None)


def is_true(conditions: tuple[Condition, ...], type_: str) -> bool:
    """Whether that condition is there and holds."""
    condition = find(conditions, type_)
    return condition is not None and condition.status == "True"


def trouble_of(conditions: tuple[Condition, ...]) -> Condition | None:
    """What an order shows of its child as the reason why it is stalled itself, if there is anything."""
    stalled, refunded = find(conditions, STALLED), find(conditions, "Refunded")
    if stalled is not None and stalled.status == "True":
        return stalled
    return refunded if refunded is not None and refunded.reason == Reason.REFUND_FAILED else None


def child_conditions(
    before: tuple[Condition, ...],
    facts: list[Fact],
    waiting_type: str,
    failure: FailureState | None,
    generation: int,
    now: datetime,
) -> tuple[Condition, ...]:
    """A child's conditions: what its ledger says, why it waits, and whether it is stalled.

    Args:
        waiting_type: The condition that carries the reason of `failure` while no fact is known about it.
    """
    shown = list(facts)
    if failure is not None and not failure.is_quiet:
        if all(fact.type != waiting_type for fact in facts):
            shown.append(Fact(waiting_type, "False", failure.reason, failure.message))
        if failure.is_stalled:
            shown.append(Fact(STALLED, "True", failure.reason, failure.message))
    elif failure is None and find(before, STALLED) is not None:
        shown.append(Fact(STALLED, "False", Reason.RESUMED, "It goes on."))
    return without_idle_stall(with_facts(before, shown, generation, now))


def without_idle_stall(conditions: tuple[Condition, ...]) -> tuple[Condition, ...]:
    """`Stalled` is shown only while it is True."""
    return tuple(c for c in conditions if not (c.type == STALLED and c.status == "False"))
