"""The channels that tell customers, and the reference by which a message of ours is recognised."""

import re
from enum import StrEnum
from uuid import UUID

_REFERENCE = re.compile(r"\(ref ([0-9a-f]{12})\)\Z")


class Channel(StrEnum):
    """How a customer is reached; named as in the preferences of a profile."""

    EMAIL = "email"
    SMS = "sms"


def message_reference(event_id: UUID, channel: Channel) -> str:
    """The mark of a message: the same for every attempt, and no other message's."""
    return str(event_id) if channel is Channel.EMAIL else event_id.hex[:12]


def parse_sms_reference(text: str) -> str | None:
    """The reference at the end of an SMS of ours."""
    found = _REFERENCE.search(text)
    return found.group(1) if found else None
