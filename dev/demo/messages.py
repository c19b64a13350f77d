"""Compare the messages that are due by the history with those that have arrived."""

import asyncio
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from orderplane.dev.demo.products import MERCHANT
from orderplane.events.notifications import Channel, message_reference
from orderplane.events.types import EventType
from orderplane.ledgers.postgres.session import Pool, session
from orderplane.workers.notifier.channels import Outgoing
from orderplane.workers.notifier.plan import CHANNELS

_EVENTS = """
SELECT h.event_id, h.type,
       jsonb_build_object('email', u.preferences -> 'email' = 'true' AND u.email_confirmed_at IS NOT NULL,
                          'sms', u.preferences -> 'sms' = 'true' AND u.phone IS NOT NULL) AS preferences
FROM history h
JOIN history first ON first.merchant = h.merchant AND first.subject = h.subject AND first.seq = 1
JOIN users u ON u.merchant = h.merchant AND u.id = first.data ->> 'customer' AND u.deleted_at IS NULL
WHERE h.merchant = $1
"""


@dataclass(frozen=True, slots=True)
class Messages:
    """Messages that arrived, by channel and event type; those that are missing; those that arrived twice."""

    arrived: Mapping[str, Mapping[str, int]]
    missing: tuple[str, ...]
    repeated: tuple[str, ...]


async def collect_messages(
    pool: Pool, channels: Mapping[Channel, Outgoing], *, seconds: float = 20.0
) -> Messages:
    """Read what arrived, again until nothing is missing or `seconds` have passed."""
    deadline = time.monotonic() + seconds
    while True:
        found = await _look(pool, channels)
        if not found.missing or time.monotonic() > deadline:
            return found
        await asyncio.sleep(0.3)


async def _look(pool: Pool, channels: Mapping[Channel, Outgoing]) -> Messages:
    async with session(pool) as connection:
        rows = [dict(row) for row in await connection.fetch(_EVENTS, MERCHANT)]
    outgoing = {
        channel: Counter([reference async for reference in there.references()])
        for channel, there in channels.items()
    }
    return compare(rows, outgoing)


def compare(rows: Sequence[Mapping[str, Any]], outgoing: Mapping[Channel, Counter[str]]) -> Messages:
    """Compare what has arrived with what is due.

    Args:
        rows: Events of customers: event_id, type, and the customer's preferences, for what is confirmed.
        outgoing: How often each reference was sent, by channel.
    """
    arrived: dict[str, Counter[str]] = {channel.value: Counter() for channel in outgoing}
    missing: list[str] = []
    repeated: list[str] = []
    for channel, copies in outgoing.items():
        repeated += [f"{channel} {reference}" for reference, count in copies.items() if count > 1]
        for row in rows:
            if message_reference(row["event_id"], channel) in copies:
                arrived[channel.value][row["type"]] += 1
            elif channel in CHANNELS.get(EventType(row["type"]), ()) and row["preferences"].get(channel):
                missing.append(f"{row['type']} by {channel} ({row['event_id']})")
    return Messages(arrived, tuple(missing), tuple(repeated))
