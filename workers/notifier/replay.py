"""Replay dead letters: try again to send what was given up."""

from dataclasses import dataclass
from enum import StrEnum

from orderplane.events.dead_letters import DeadLetter
from orderplane.events.notifications import Channel
from orderplane.workers.notifier.dead_letters import mismatch, split_readable
from orderplane.workers.notifier.plan import State
from orderplane.workers.notifier.store import NotificationStore, ReceivedEvent


class Verdict(StrEnum):
    """The result of a replay."""

    TRIED = "Tried"  # it is due again; later it is sent, superseded or given up
    UNCHANGED = "Unchanged"  # none of its messages is dead
    DEAD = "Dead"  # the record itself cannot be used


@dataclass(frozen=True, slots=True)
class Replayed:
    """The result for one dead letter: the states of its messages, or why it is still dead."""

    verdict: Verdict
    detail: str
    states: dict[Channel, State]


async def replay(letter: DeadLetter, store: NotificationStore, *, is_forced: bool) -> Replayed:
    """Make the messages of a dead letter's event due again, as if it had just been received.

    Safe to repeat: only dead messages are tried again. A message older than the last one that was sent of its
    order is superseded, unless forced.

    Raises:
        Transient: the database cannot be reached.
    """
    readable, dead = split_readable([letter])
    if dead:
        return Replayed(Verdict.DEAD, dead[0].detail, {})
    ((_, event),) = readable
    if why := mismatch(event, await store.recorded_events([event.id])):
        return Replayed(Verdict.DEAD, why[1], {})
    before = await store.states(event.merchant, event.id)
    await store.add([ReceivedEvent(event, letter.partition, letter.offset)])
    revived = await store.revive(event.merchant, event.id, letter.channel, is_forced=is_forced)
    after = await store.states(event.merchant, event.id)
    is_tried = revived > 0 or before != after
    detail = ", ".join(f"{channel}: {state}" for channel, state in after.items()) or "no message is due"
    return Replayed(Verdict.TRIED if is_tried else Verdict.UNCHANGED, detail, after)
