"""Which messages about accounts are sent. Pure."""

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from uuid import UUID

from orderplane.events.account_messages import VALID_FOR, AccountMessageKind
from orderplane.events.notifications import Channel
from orderplane.workers.notifier.plan import Final, State

PER_HOUR = 3
PER_DAY = 10
"""How many messages of one kind a recipient gets, over all merchants. Notices are not limited: they follow
what the owner of an account has done, or should know that somebody else did."""


@dataclass(frozen=True, slots=True)
class AccountMessage:
    """One message that is due, as its row and its account stand.

    Args:
        recipient: A mail address or a number, by the channel.
        secret: Of this attempt; None for a notice.
        requested_at: When it was asked for.
        about: The id of what it is about, where that is not the account.
        is_wanted: Its account is still there, and still waits for this address. For a registration, the
            merchant sells something.
        is_address_known: The recipient is the address of an account of the merchant.
        earlier_in_hour, earlier_in_day: Messages of its kind to the recipient that were asked for before it.
    """

    id: UUID
    merchant: str
    channel: Channel
    kind: AccountMessageKind
    recipient: str = field(repr=False)
    secret: str | None = field(repr=False)
    attempt: int
    unknown_attempts: int
    requested_at: datetime
    about: str | None
    is_wanted: bool
    is_address_known: bool
    earlier_in_hour: int
    earlier_in_day: int

    @property
    def label(self) -> str:
        """In metrics and the names of spans."""
        return f"account.{self.kind.value}"

    @property
    def ids(self) -> dict[str, str]:
        """In log lines and spans."""
        return {"account_message": str(self.id), "channel": self.channel.value}

    @property
    def traceparent(self) -> str | None:
        """None: a trace would join a request with the mailbox that it is about."""
        return None


def final_unsent_account_message(message: AccountMessage, now: datetime, good_for: timedelta) -> Final | None:
    """How a message ends without being sent; None if it is to be sent.

    Args:
        good_for: How long after it was asked for a message is still sent.
    """
    if not message.is_wanted:
        is_registration = message.kind is AccountMessageKind.REGISTRATION
        return Final(State.SKIPPED, "NoMerchant" if is_registration else "NoAccount")
    is_limited = message.earlier_in_hour >= PER_HOUR or message.earlier_in_day >= PER_DAY
    if message.kind in VALID_FOR and is_limited:
        return Final(State.SKIPPED, "TooMany")
    if now - message.requested_at > good_for:
        return Final(State.DEAD, "GivenUp")
    return None
