"""Which events customers are told of, through which channels, and what becomes of each message. Pure."""

import random
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any
from uuid import UUID

from orderplane.controllers.engine.backoff import FailureState, pause_after
from orderplane.events.notifications import Channel
from orderplane.events.types import EventType
from orderplane.ledgers.errors import Refused, Transient, Unclear

CHANNELS: Mapping[EventType, tuple[Channel, ...]] = {
    EventType.ORDER_CREATED: (Channel.EMAIL,),
    EventType.ORDER_SHIPPED: (Channel.EMAIL, Channel.SMS),
    EventType.ORDER_DELIVERED: (Channel.EMAIL, Channel.SMS),
    EventType.ORDER_FAILED: (Channel.EMAIL, Channel.SMS),
    EventType.ORDER_CANCELLED: (Channel.EMAIL,),
    EventType.PAYMENT_REFUNDED: (Channel.EMAIL,),
}
"""By SMS only what a customer did not ask for and should know soon."""


class State(StrEnum):
    """Where a message stands. Only a Waiting one is ever sent."""

    WAITING = "Waiting"
    SENT = "Sent"
    SUPERSEDED = "Superseded"  # a later one of its order was sent before it
    SKIPPED = "Skipped"  # the customer does not want it, or cannot be reached
    DEAD = "Dead"  # refused for good, or given up; the dead-letter topic has it


@dataclass(frozen=True, slots=True)
class Recipient:
    """The customer as they are now. `address` is where the message's channel reaches them."""

    name: str
    address: str | None
    is_wanting: bool


@dataclass(frozen=True, slots=True)
class Notification:
    """One message that is due, as its row, its event and its customer stand.

    Args:
        order: The Order's name.
        attempt: The number of this attempt: the fence for what is said about its end.
        unknown_attempts: Earlier attempts of which nobody knows whether they sent.
        pending_since: When its event happened, or when it was replayed.
        recipient: None where the customer's account is gone.
        is_overtaken: A later message of the same order and channel was sent.
    """

    merchant: str
    event_id: UUID
    channel: Channel
    type: EventType
    order: str
    data: Mapping[str, Any]
    traceparent: str | None
    attempt: int
    unknown_attempts: int
    pending_since: datetime
    is_forced: bool
    is_overtaken: bool
    recipient: Recipient | None


@dataclass(frozen=True, slots=True)
class End:
    """How a message ended. `reason` is CamelCase; `provider_id` names what was sent at the provider."""

    state: State
    reason: str | None = None
    provider_id: str | None = None


@dataclass(frozen=True, slots=True)
class Again:
    """Nothing was sent; it is tried again after a pause."""

    reason: str
    pause: timedelta


@dataclass(frozen=True, slots=True)
class Doubt:
    """Nobody knows whether it was sent. It is looked into as after a crash: once its claim is over."""

    reason: str


Outcome = End | Again | Doubt
"""What one attempt came to."""


def end_unsent(notice: Notification, now: datetime, good_for: timedelta) -> End | None:
    """How a message ends without being sent, or None where it is to be sent.

    Args:
        good_for: How long after its event a message is still worth sending.
    """
    recipient = notice.recipient
    if recipient is None:
        return End(State.SKIPPED, "NoAccount")
    if not recipient.is_wanting:
        return End(State.SKIPPED, "NotWanted")
    if not recipient.address:
        return End(State.SKIPPED, "NoAddress")
    if notice.is_overtaken and not notice.is_forced:
        return End(State.SUPERSEDED, "LaterWasSent")
    if now - notice.pending_since > good_for:
        return End(State.DEAD, "GivenUp")
    return None


def after_problem(problem: Transient | Refused, attempt: int, rng: random.Random) -> Outcome:
    """What an attempt to send came to that was not simply taken."""
    if isinstance(problem, Refused):
        return End(State.DEAD, problem.reason)
    if isinstance(problem, Unclear):
        return Doubt(problem.reason)
    trouble = FailureState(problem.reason, problem.message, since=0.0, tries=attempt)
    return Again(problem.reason, timedelta(seconds=pause_after(trouble, problem, rng)))
