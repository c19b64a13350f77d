"""Set conditions the way the Kubernetes API conventions ask for."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from orderplane.crds.meta import Condition


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
