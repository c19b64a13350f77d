"""One replica among others: it renews its Lease, claims shards and gives them up as the ring decides."""

import asyncio
import math
from collections.abc import Callable
from dataclasses import replace
from typing import Protocol

import structlog
from prometheus_client import Gauge

from orderplane.adapters.halves import Beat
from orderplane.controllers.engine.ring import LOOK_SECONDS, RENEW_SECONDS, Lease, Ring
from orderplane.crds.api_errors import ApiError, Conflict, NotFound

log = structlog.get_logger(__name__)

SHARDS_HELD = Gauge("orderplane_shards_held", "Shards that this replica works on; 64 over all replicas.")
SHARDS_MOVING = Gauge("orderplane_shards_moving", "Shards that this replica claims or gives up right now.")
MEMBERS = Gauge("orderplane_operator_members", "Replicas of the operator that this one takes for living.")

LEAVING_SECONDS = 0.1
"""Between two looks of a member that ends."""

FORGET_SECONDS = 120.0
"""The Lease of a member that has been gone for so long is deleted."""


class NameTaken(Exception):  # noqa: N818
    """Another process has taken this member's name: this one must not work any more."""


class LeaseStore(Protocol):
    """The Leases of all members. Every method raises the types of `crds.api_errors`."""

    async def list(self) -> list[Lease]:
        """All of them, as they are now: not from a cache."""
        ...

    async def write(self, lease: Lease) -> Lease:
        """Create a Lease whose version is empty; replace another if it still has that version.

        Raises:
            Conflict: it was written since, or is there already.
            NotFound: it was deleted.
        """
        ...

    async def delete(self, lease: Lease) -> None:
        """Delete it if it still has that version.

        Raises:
            Conflict: it was written since.
            NotFound: it is gone.
        """
        ...


class Membership:
    """The part of one process in the ring.

    Args:
        member: Its name: of the pod. A process that is started under it takes it over from the one before,
            which has to be dead; a pod's container is started anew only then.
        process: Tells this process from others of that name.
        clock: Seconds, by a clock that also runs while this process stands still.
        is_in_hand: Whether something of a shard is being worked on.
        backlog: How many keys wait.
    """

    def __init__(
        self,
        store: LeaseStore,
        member: str,
        process: str,
        *,
        clock: Callable[[], float],
        is_in_hand: Callable[[int], bool],
        backlog: Callable[[], int] = lambda: 0,
    ) -> None:
        self._store = store
        self._member = member
        self._process = process
        self._clock = clock
        self._is_in_hand = is_in_hand
        self._backlog = backlog
        self._ring = Ring(member)
        self._terms: dict[int, int] = {}
        self._last_term = 0
        self._is_joined = False
        self._lease: Lease | None = None
        self._written_at = -math.inf
        self.changed = asyncio.Event()
        """Set when shards were begun or given up."""

    @property
    def own_until(self) -> float:
        """When this process stops to work unless it renews its Lease before."""
        return self._ring.own_until

    def term_of(self, shard: int) -> int | None:
        """The number of the term in which this process holds a shard now; None where it may begin nothing."""
        return self._terms[shard] if self._ring.holds(shard, self._clock()) else None

    def claims(self, shard: int) -> bool:
        """Whether no other process may begin anything for a shard, as far as this one knows."""
        return shard in self._ring.claims

    async def run(self, beat: Beat) -> None:
        """Look and renew until cancelled.

        Raises:
            NameTaken: another process has this one's name.
        """
        while True:
            beat()
            try:
                await self.take_turn()
            except (Conflict, NotFound) as race:
                # An answer was lost, or the Lease was deleted: the next list shows how it is.
                log.debug("the Lease of this member has changed", why=str(race))
            except ApiError as problem:
                log.warning("the Lease could not be renewed; it is tried again", why=str(problem))
            await asyncio.sleep(LOOK_SECONDS)

    async def take_turn(self, *, is_leaving: bool = False) -> None:
        """Look at all Leases, write the own one where that is due, and begin what was claimed before.

        Raises:
            ApiError: a request failed.
            NameTaken: another process has this one's name.
        """
        ring = self._ring
        await self._look()
        self._check_name()
        ring.decide(self._is_in_hand, is_leaving=is_leaving)
        self._count_terms()
        if self._is_write_due():
            await self._write()
            self._count_terms()
        if ring.claimed:
            # What was listed before the claim was written does not show who claims the same.
            await self._look()
            ring.begin(self._clock())
            self._count_terms()
        await self._forget_dead()

    async def leave(self) -> None:
        """Give everything up, and say so once nothing is in hand.

        Raises:
            ApiError: a request failed; the others wait until the Lease is expired.
        """
        await self.take_turn(is_leaving=True)
        while self._ring.claims:
            await asyncio.sleep(LEAVING_SECONDS)
            await self.take_turn(is_leaving=True)
        await self.resign()

    async def resign(self) -> None:
        """Leave the ring, after everything was given up: the Lease has no process any more.

        It is not deleted at once. Others could take it for one that somebody else has deleted, whose member
        still works.

        Raises:
            ApiError: it could not be written.
        """
        if self._lease is not None and not self._lease.claims:
            self._lease = await self._store.write(replace(self._lease, process=""))

    async def _look(self) -> None:
        asked_at = self._clock()
        leases = await self._store.list()
        self._ring.see(leases, asked_at, self._clock())

    def _check_name(self) -> None:
        own = self._ring.own
        if own is None or own.process in ("", self._process) or not self._is_joined:
            self._lease = own
            return
        raise NameTaken(
            f"process {own.process} is operator {self._member}, too; give each its own ORDERPLANE_MEMBER"
        )

    def _is_write_due(self) -> bool:
        lease = self._lease
        is_as_written = lease is not None and lease.process == self._process
        is_same = is_as_written and lease is not None and lease.claims == self._ring.claims
        return not is_same or self._clock() - self._written_at >= RENEW_SECONDS

    async def _write(self) -> None:
        began_at = self._clock()
        ring = self._ring
        wanted = Lease(
            self._member,
            self._process,
            self._lease.version if self._lease else "",
            ring.claims,
            ring.held,
            self._backlog(),
        )
        self._lease = await self._store.write(wanted)
        self._is_joined = True
        self._written_at = began_at
        ring.renewed(began_at, self._clock())

    async def _forget_dead(self) -> None:
        for lease in self._ring.unchanged_for(FORGET_SECONDS):
            if lease.member != self._member:
                log.info("deleting the Lease of an operator that is gone", member=lease.member)
                await self._store.delete(lease)

    def _count_terms(self) -> None:
        ring = self._ring
        MEMBERS.set(1 + len(ring.others))
        SHARDS_HELD.set(len(ring.held))
        SHARDS_MOVING.set(len(ring.claimed | ring.releasing))
        begun, given_up = ring.held - set(self._terms), set(self._terms) - ring.held
        if begun or given_up:
            self._last_term += 1
            self._terms |= dict.fromkeys(begun, self._last_term)
            for shard in given_up:
                del self._terms[shard]
            log.info("shards", held=len(ring.held), begun=len(begun), given_up=len(given_up))
            self.changed.set()
