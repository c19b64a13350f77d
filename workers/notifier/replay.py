"""Try again what was given up."""

from dataclasses import dataclass
from enum import StrEnum

from orderplane.events.dead_letters import DeadLetter
from orderplane.events.notifications import Channel
from orderplane.workers.notifier.letters import disagreement, sort
from orderplane.workers.notifier.plan import State
from orderplane.workers.notifier.store import Noted, NotificationStore


class Verdict(StrEnum):
    """What a replay came to."""

    TRIED = "Tried"  # it waits now; whether it is sent, superseded or given up again shows later
    UNCHANGED = "Unchanged"  # nothing of it is dead (any more)
    DEAD = "Dead"  # the record itself is still the problem


@dataclass(frozen=True, slots=True)
class Replayed:
    """The verdict on one dead letter: with where its messages stand now, or with why it is still dead."""

    verdict: Verdict
    detail: str
    states: dict[Channel, State]


async def replay(letter: DeadLetter, book: NotificationStore, *, is_forced: bool) -> Replayed:
    """Have the messages of a dead letter's event tried again, as if it had just come.

    Doing it twice is doing it once: only what is dead is tried again. A message older than the last one that
    was sent of its order is superseded instead; forced, it is sent all the same.

    Raises:
        Transient: the database cannot be reached.
    """
    read, dead = sort([letter])
    if dead:
        return Replayed(Verdict.DEAD, dead[0].detail, {})
    ((_, event),) = read
    if why := disagreement(event, await book.told([event.id])):
        return Replayed(Verdict.DEAD, why[1], {})
    before = await book.states(event.merchant, event.id)
    await book.note([Noted(event, letter.partition, letter.offset)])
    revived = await book.revive(event.merchant, event.id, letter.channel, is_forced=is_forced)
    after = await book.states(event.merchant, event.id)
    is_tried = revived > 0 or before != after
    detail = ", ".join(f"{channel}: {state}" for channel, state in after.items()) or "nobody is to be told"
    return Replayed(Verdict.TRIED if is_tried else Verdict.UNCHANGED, detail, after)
