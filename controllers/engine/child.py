"""What the three controllers of an order's children have in common: whose child it is, and its conditions."""

from datetime import datetime

from orderplane.controllers.engine.backoff import FailureState
from orderplane.controllers.engine.conditions import STALLED, Fact, find, with_facts
from orderplane.crds.meta import Condition


def child_conditions(
    before: tuple[Condition, ...],
    facts: list[Fact],
    waiting_type: str,
    trouble: FailureState | None,
    generation: int,
    now: datetime,
) -> tuple[Condition, ...]:
    """A child's conditions: what its ledger says, why it waits, and whether it has stopped trying.

    Args:
        waiting_type: The condition that carries the reason of `trouble` while nothing better is known.
    """
    told = list(facts)
    if trouble is not None and not trouble.is_quiet:
        if all(fact.type != waiting_type for fact in facts):
            told.append(Fact(waiting_type, "False", trouble.reason, trouble.message))
        if trouble.is_stalled:
            told.append(Fact(STALLED, "True", trouble.reason, trouble.message))
    elif trouble is None and find(before, STALLED) is not None:
        told.append(Fact(STALLED, "False", "Resumed", "It goes on."))
    after = with_facts(before, told, generation, now)
    return tuple(c for c in after if not (c.type == STALLED and c.status == "False"))
