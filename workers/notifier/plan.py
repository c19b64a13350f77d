"""Which events customers are notified of, through which channels, and what follows an attempt. Pure."""

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
"""By SMS only what a customer has not caused and should know soon."""


class State(StrEnum):
    """State of a message. Only a Waiting one is sent."""

    WAITING = "Waiting"
    SENT = "Sent"
    SUPERSEDED = "Superseded"  # a later message of its order was sent before it
    SKIPPED = "Skipped"  # the customer does not want it, or cannot be reached
    DEAD = "Dead"  # refused, or given up; it goes into the dead-letter topic


@dataclass(frozen=True, slots=True)
class Recipient:
    """The customer as they are now.

    Args:
        address: A mail address or a number, by the channel, that its owner has confirmed.
        has_unconfirmed: There is an address that nobody has confirmed.
    """

    name: str
    address: str | None
    is_wanting: bool
    has_unconfirmed: bool = False


@dataclass(frozen=True, slots=True)
class Notification:
    """One message that is due, as its row, its event and its customer stand.

    Args:
        order: The Order's name.
        attempt: The number of this attempt. The result is written only if no later attempt has begun.
        unknown_attempts: Earlier attempts of which it is not known whether they sent the message.
        pending_since: When its event happened, or when it was replayed.
        tried_for: Since its first attempt, or since its replay, by the database's clock. Before its first
            attempt no time passes for it: a notifier that was away is not the customer's fault.
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
    tried_for: timedelta
    is_forced: bool
    is_overtaken: bool
    recipient: Recipient | None

    @property
    def label(self) -> str:
        """In metrics and the names of spans."""
        return self.type.value

    @property
    def ids(self) -> dict[str, str]:
        """In log lines and spans."""
        return {"event_id": str(self.event_id), "channel": self.channel.value, "order": self.order}


@dataclass(frozen=True, slots=True)
class Final:
    """The message is over. `reason` is CamelCase; `provider_id` is the provider's id of a sent message."""

    state: State
    reason: str | None = None
    provider_id: str | None = None


@dataclass(frozen=True, slots=True)
class Retry:
    """Nothing was sent; try again after a pause."""

    reason: str
    pause: timedelta


@dataclass(frozen=True, slots=True)
class Unknown:
    """It is not known whether the message was sent.

    The next attempt begins when the claim ends, as after a crash, and looks for the message first.
    """

    reason: str


Outcome = Final | Retry | Unknown
"""The result of one attempt."""


def final_unsent(notification: Notification, good_for: timedelta) -> Final | None:
    """How a message ends without being sent; None if it is to be sent.

    Args:
        good_for: How long after its first attempt a message is still sent.
    """
    recipient = notification.recipient
    if recipient is None:
        return Final(State.SKIPPED, "NoAccount")
    if not recipient.is_wanting:
        return Final(State.SKIPPED, "NotWanted")
    if not recipient.address:
        return Final(State.SKIPPED, "NotConfirmed" if recipient.has_unconfirmed else "NoAddress")
    if notification.is_overtaken and not notification.is_forced:
        return Final(State.SUPERSEDED, "LaterWasSent")
    if notification.tried_for > good_for:
        return Final(State.DEAD, "GivenUp")
    return None


def after_failure(problem: Transient | Refused, attempt: int, rng: random.Random) -> Outcome:
    """The result of an attempt that failed."""
    if isinstance(problem, Refused):
        return Final(State.DEAD, problem.reason)
    if isinstance(problem, Unclear):
        return Unknown(problem.reason)
    trouble = FailureState(problem.reason, problem.message, since=0.0, tries=attempt)
    return Retry(problem.reason, timedelta(seconds=pause_after(trouble, problem, rng)))
