"""Steps that more than one kind's plan can answer."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Wait:
    """Nothing is to be done now; `seconds` until the next look, None where only a change brings one."""

    seconds: float | None = None


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
