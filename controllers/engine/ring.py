"""Which replica of the operator works on which shard: the decisions, without input, output or a clock.

Each replica, a *member*, renews one Lease in which it lists the shards that it claims. A shard belongs to the
living member with the highest weight for it. So one that joins or leaves moves its own share and nothing
else, and no member decides for another.

Two members never work on a shard at the same time, because

- the old owner goes first: it takes no more keys of the shard, finishes those in hand, and only then takes
  the shard out of its Lease;
- the new owner claims what no living Lease lists, writes that, lists the Leases *again*, and begins only what
  nobody else lists. Of two who claim at the same time, at least the one who wrote later sees the other;
- a member that could not renew for `OWN_SECONDS` works on nothing, and has cancelled what it had in hand
  `GRACE_SECONDS` later. The others take it for dead after `EXPIRY_SECONDS` without a change, each by its own
  clock: clocks are never compared.

Source: rendezvous hashing, https://en.wikipedia.org/wiki/Rendezvous_hashing; a Lease that expires by the
observer's own clock, as in https://pkg.go.dev/k8s.io/client-go/tools/leaderelection.
"""

import hashlib
import math
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from orderplane.crds.meta import SHARDS

LOOK_SECONDS = 1.0
"""Between two lists of the Leases. What a member gives up waits so long for the next one, at most."""

RENEW_SECONDS = 3.0
"""Between two renewals of a Lease whose claims have not changed."""

OWN_SECONDS = 8.0
"""A member works on so long after the beginning of its last renewal; one or two may fail in that time."""

GRACE_SECONDS = 4.0
"""What is in hand when that time is over has so long to write down what it did."""

EXPIRY_SECONDS = 15.0
"""A Lease that has not changed for so long is of a dead member. More than the two before it together, by
clocks that run differently fast."""

_WEIGHT_BYTES = 8


@dataclass(frozen=True, slots=True)
class Lease:
    """The Lease of one member, as it was read.

    Args:
        member: The name of the replica; one process at a time has it.
        process: Which process of that name has written it; empty once it has left.
        version: Changes with every write.
        claims: The shards that no other member may begin.
        held: Those of them that it works on, for people.
        backlog: How many of its keys wait, for people.
        renewed_at: When it was written, by the clock of its member, for people.
    """

    member: str
    process: str
    version: str
    claims: frozenset[int]
    held: frozenset[int] = field(default=frozenset(), compare=False)
    backlog: int = field(default=0, compare=False)
    renewed_at: datetime | None = field(default=None, compare=False)


def weight(shard: int, member: str) -> bytes:
    """How much a member is meant for a shard; the same in every process."""
    return hashlib.blake2b(f"{shard}/{member}".encode(), digest_size=_WEIGHT_BYTES).digest()


def owner_of(shard: int, members: Collection[str]) -> str:
    """The member that a shard belongs to, of those that live."""
    return max(members, key=lambda member: (weight(shard, member), member))


class Ring:
    """What one member knows and has decided. `held`, `releasing` and `claimed` have no shard in common.

    Args:
        member: Its own name.
        shards: How many there are.
    """

    def __init__(self, member: str, shards: int = SHARDS) -> None:
        self._member = member
        self._shards = range(shards)
        self._own: Lease | None = None
        self._leases: dict[str, Lease] = {}
        self._changed_at: dict[str, float] = {}
        self._seen_at = -math.inf
        self._own_until = -math.inf
        self.claimed: frozenset[int] = frozenset()
        """To be begun once it is seen that nobody else lists them."""
        self.held: frozenset[int] = frozenset()
        """Worked on, while `holds` says so."""
        self.releasing: frozenset[int] = frozenset()
        """Not worked on any more, except for what is in hand."""

    @property
    def claims(self) -> frozenset[int]:
        """What the Lease has to list."""
        return self.claimed | self.held | self.releasing

    @property
    def own_until(self) -> float:
        """When this member stops to work unless it renews its Lease before."""
        return self._own_until

    def holds(self, shard: int, now: float) -> bool:
        """Whether this member may begin something for a shard."""
        return now < self._own_until and shard in self.held

    def see(self, leases: Sequence[Lease], asked_at: float, now: float) -> None:
        """Take in a complete list of all Leases.

        Who lives is judged as of `asked_at`: this process may have stood still between the request and now. A
        Lease that is gone, although it had claims, was deleted by somebody else: its member still works, and
        writes it anew. A member that ends gives its shards up before.
        """
        listed = {lease.member: lease for lease in leases}
        for name, lease in listed.items():
            known = self._leases.get(name)
            if known is None or known.version != lease.version:
                self._changed_at[name] = now
        self._seen_at = asked_at
        deleted = {lease.member: lease for lease in self.others if lease.claims}
        self._own = listed.get(self._member)
        self._leases = deleted | listed
        self._changed_at = {name: self._changed_at[name] for name in self._leases}

    @property
    def own(self) -> Lease | None:
        """This member's Lease, as it was seen last."""
        return self._own

    @property
    def others(self) -> list[Lease]:
        """The Leases of the other members that live."""
        return [
            lease
            for name, lease in self._leases.items()
            if name != self._member
            and lease.process
            and self._seen_at - self._changed_at[name] < EXPIRY_SECONDS
        ]

    def unchanged_for(self, seconds: float) -> list[Lease]:
        """Leases that have not changed for so long."""
        return [
            lease for name, lease in self._leases.items() if self._seen_at - self._changed_at[name] >= seconds
        ]

    def decide(self, is_in_hand: Callable[[int], bool], *, is_leaving: bool = False) -> None:
        """Decide what to claim and what to release, by what was seen last.

        Args:
            is_in_hand: Whether something of a shard is still being worked on.
            is_leaving: This member ends: it claims nothing, and releases everything.
        """
        others = self.others
        living = [self._member, *(lease.member for lease in others)]
        wanted = frozenset(
            shard for shard in self._shards if not is_leaving and owner_of(shard, living) == self._member
        )
        free = wanted - self.held - self.releasing - _listed(others)
        busy = frozenset(shard for shard in self.claims if is_in_hand(shard))
        self.releasing = busy & (self.releasing | (self.claims - wanted))
        self.held &= wanted
        self.claimed = (self.claimed & wanted) | free

    def renewed(self, began_at: float, now: float) -> None:
        """The Lease was written with `claims`; the request was begun at `began_at`, and answered now."""
        if now >= self._own_until:
            # Others may have begun any of them since, so they are claimed like new ones.
            self.claimed |= self.held
            self.held = frozenset()
        self._own_until = began_at + OWN_SECONDS

    def begin(self, now: float) -> frozenset[int]:
        """Hold what was claimed and nobody else lists, by a list that was asked for after the claim was
        written; answers it. What another one lists stays claimed: the other is not meant for it, and goes."""
        if now >= self._own_until:
            return frozenset()
        alone = self.claimed - _listed(self.others)
        self.claimed -= alone
        self.held |= alone
        return alone


def _listed(leases: Iterable[Lease]) -> frozenset[int]:
    return frozenset(shard for lease in leases for shard in lease.claims)
