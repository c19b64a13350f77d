"""Steps that more than one kind's plan can answer."""

from dataclasses import dataclass

from orderplane.crds.reasons import Reason


@dataclass(frozen=True, slots=True)
class Wait:
    """Nothing is to be done now.

    Args:
        seconds: Until the next look; None where only a change brings one.
        reason: What is waited for, where there is something to say; `message` says it in words.
    """

    seconds: float | None = None
    reason: Reason | None = None
    message: str = ""


@dataclass(frozen=True, slots=True)
class CompensateOrder:
    """This child of an open order was deleted: the whole order is compensated."""


@dataclass(frozen=True, slots=True)
class ReleaseFinalizer:
    """Nothing is left to compensate: take this controller's finalizer off the child that is being deleted."""


@dataclass(frozen=True, slots=True)
class DeleteLeftover:
    """This child's order is undone and over: somebody created it on an old plan. Nothing is done for it."""


SharedStep = Wait | CompensateOrder | ReleaseFinalizer | DeleteLeftover
"""What the plan of every child can answer."""
