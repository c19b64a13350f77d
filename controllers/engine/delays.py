"""What an object waits for, since when, and whether only a person can help: one decision for all kinds. Pure.

It is shown as kstatus has it: `Reconciling` while something is left to be done, with what is waited for as
its reason; `Stalled` instead of it while it waits for a person. Each is there only while it is True.
Source: https://github.com/kubernetes-sigs/cli-utils/blob/master/pkg/kstatus/README.md
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import TypeVar

from orderplane.controllers.engine.backoff import QUIET_SECONDS, FailureState
from orderplane.controllers.engine.conditions import Fact, find, with_facts
from orderplane.crds.meta import Condition, ResourceStatus
from orderplane.crds.order import Order
from orderplane.crds.payment import Payment
from orderplane.crds.reasons import Reason
from orderplane.crds.reservation import Reservation
from orderplane.crds.shipment import Shipment
from orderplane.ledgers.awaiting import TELL_SECONDS, Awaited

RECONCILING = "Reconciling"
STALLED = "Stalled"

S = TypeVar("S", bound=ResourceStatus)

_SILENCES = {
    "postgres": (Reason.LEDGER_UNAVAILABLE, "PostgreSQL"),
    "kubernetes": (Reason.API_SERVER_UNAVAILABLE, "the API server"),
    "payments": (Reason.PAYMENTS_UNCLEAR, "the payment provider"),
    "carrier": (Reason.CARRIER_UNCLEAR, "the carrier"),
}
"""Who has to answer: the reason, which is the one of the time-out that may follow, and the name."""

OUTAGES = frozenset(
    {
        Reason.LEDGER_UNAVAILABLE, Reason.API_SERVER_UNAVAILABLE,
        Reason.PAYMENTS_UNAVAILABLE, Reason.PAYMENTS_UNCLEAR,
        Reason.CARRIER_UNAVAILABLE, Reason.CARRIER_UNCLEAR,
    }
)  # fmt: skip
"""Reasons that say nothing about the object: somebody does not answer."""


@dataclass(frozen=True, slots=True)
class Delay:
    """Why an object does not get on.

    Args:
        since: Monotonic seconds; None where it is not known.
        whom: Who does not answer, as in `Awaited`; None where it is not that.
        is_stalled: Only a person can help, or it was tried for too long.
        is_quiet: Too young to be shown. What is shown of an earlier one stays nevertheless.
    """

    reason: str
    message: str
    since: float | None = None
    whom: str | None = None
    is_stalled: bool = False
    is_quiet: bool = False

    def is_same(self, other: "Delay | None") -> bool:
        """Whether it is one delay that goes on, and is told only once."""
        return other is not None and (self.reason, self.is_stalled) == (other.reason, other.is_stalled)

    def dated(self, now: float, unix_time: float) -> "Delay":
        """The same with the time since when, which is told once and then stays.

        Args:
            now: Monotonic seconds.
            unix_time: The same moment.
        """
        if self.since is None:
            return self
        at = datetime.fromtimestamp(unix_time - (now - self.since), UTC)
        return replace(self, message=f"{self.message} (since {at:%Y-%m-%dT%H:%M:%SZ})")


def delay_of(failure: FailureState | None, awaited: Awaited | None, now: float) -> Delay | None:
    """The delay of one key, from its failures in a row and the call that it waits for now."""
    if failure is not None and (failure.is_stalled or now - failure.since >= QUIET_SECONDS):
        return Delay(
            failure.reason, failure.message, failure.since, failure.whom, is_stalled=failure.is_stalled
        )
    if awaited is not None and now - awaited.since >= TELL_SECONDS and awaited.whom in _SILENCES:
        reason, name = _SILENCES[awaited.whom]
        return Delay(reason, f"{name} has not answered yet ({awaited.what})", awaited.since, awaited.whom)
    if failure is not None:
        return Delay(failure.reason, failure.message, is_quiet=True)
    return None


def delay_shown(conditions: Iterable[Condition]) -> Condition | None:
    """The condition that says what an object waits for; None where it does not wait."""
    for condition in conditions:
        if condition.status == "True" and (
            condition.type == STALLED
            or (condition.type == RECONCILING and condition.reason != Reason.PROGRESSING)
        ):
            return condition
    return None


def delay_type(resource: Order | Reservation | Payment | Shipment) -> str | None:
    """`Stalled`, or `Reconciling` where it waits; None where it does not."""
    shown = delay_shown(resource.status.conditions)
    return shown.type if shown is not None else None


def with_delay(status: S, delay: Delay | None, generation: int, now: datetime, *, is_under_way: bool) -> S:
    """A status that says whether there is something left to be done, and what that waits for.

    Args:
        is_under_way: Something is left to be done: without that, only a stall is shown.
    """
    shown = delay_shown(status.conditions)
    if delay is not None and delay.is_quiet:
        if shown is not None:
            return status.model_copy(update={"reason": shown.reason})
        delay = None
    fact = _fact(delay, is_under_way=is_under_way)
    before = tuple(c for c in status.conditions if c.type not in (RECONCILING, STALLED))
    if fact is not None and (kept := find(status.conditions, fact.type)) is not None:
        before = (*before, kept)
    conditions = with_facts(before, [fact] if fact is not None else [], generation, now)
    waits_for = delay_shown(conditions)
    return status.model_copy(
        update={
            "conditions": conditions,
            "reason": waits_for.reason if waits_for is not None else status.reason,
            "stalled": True if find(conditions, STALLED) is not None else None,
        }
    )


def reported(
    status: S, facts: Sequence[Fact], waits_as: str, delay: Delay | None, now: datetime, *, is_under_way: bool
) -> S:
    """The status of a child after `facts` are known, with why it waits.

    Args:
        status: With the conditions that are shown now.
        waits_as: The condition that is False meanwhile, as long as no fact is known about it.
    """
    shown, generation = list(facts), status.observed_generation
    is_waiting = delay is not None and not delay.is_quiet and is_under_way
    if delay is not None and is_waiting and all(fact.type != waits_as for fact in facts):
        shown.append(Fact(waits_as, "False", delay.reason, delay.message))
    conditions = with_facts(status.conditions, shown, generation, now)
    known = status.model_copy(update={"conditions": conditions})
    return with_delay(known, delay, generation, now, is_under_way=is_under_way)


def _fact(delay: Delay | None, *, is_under_way: bool) -> Fact | None:
    if delay is not None and delay.is_stalled:
        return Fact(STALLED, "True", delay.reason, delay.message)
    if not is_under_way:
        return None
    if delay is not None:
        return Fact(RECONCILING, "True", delay.reason, delay.message)
    return Fact(RECONCILING, "True", Reason.PROGRESSING, "It is being worked on.")
