"""How customers are notified of events: channels, and the reference by which a message is recognised."""

import re
from enum import StrEnum
from uuid import UUID

_SMS_REFERENCE = re.compile(r"\(ref ([0-9a-f]{12})\)\Z")


class Channel(StrEnum):
    """A way to reach a customer; named as in the preferences of a profile."""

    EMAIL = "email"
    SMS = "sms"


def message_reference(event_id: UUID, channel: Channel) -> str:
    """The reference of an event's message: equal in every attempt, and in no other message of the channel.

    A mail has it in its Message-ID. An SMS ends with it, so it is short there.
    """
    return str(event_id) if channel is Channel.EMAIL else event_id.hex[:12]


def parse_sms_reference(text: str) -> str | None:
    """The reference at the end of an SMS of ours; None in any other."""
    found = _SMS_REFERENCE.search(text)
    return found.group(1) if found else None
