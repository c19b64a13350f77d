"""Thousands of runs of the protocol by which replicas share the shards, each from one number.

`SIMULATION_SEED=1234 scripts/test tests/simulation/test_ring.py` plays one again. Every process has a clock
that runs a little wrong, requests are late or lost, and so are answers; processes freeze, crash, end and are
started, and are cut off from the API server.
"""

import contextlib
import os
from collections.abc import Callable, Coroutine, Iterator
from random import Random
from typing import Any

import pytest

from orderplane.controllers.engine import ring as protocol
from orderplane.controllers.engine.ring import GRACE_SECONDS, LOOK_SECONDS, Lease, Ring, owner_of
from orderplane.crds.api_errors import ApiError, Conflict, NotFound, Unavailable
from orderplane.operator import membership
from orderplane.operator.membership import Membership

from .world.steps import point

ONE = os.environ.get("SIMULATION_SEED")
SEEDS = [int(ONE)] if ONE else range(int(os.environ.get("RING_SEEDS", "500")))

TICK = 0.25
CHAOS_SECONDS = 90
DRIFT = 0.1
"""How wrong a clock may run, each way: a tenth is a thousand times what quartz does."""
HAND_OVER_SECONDS = 12.0
"""A reconcile takes so long at most, then it is cancelled."""
LATE_SECONDS = 20.0
"""A request may be carried out so long after its client gave up."""
BOUND_SECONDS = LATE_SECONDS + protocol.EXPIRY_SECONDS / (1 - DRIFT) + HAND_OVER_SECONDS + 10 * LOOK_SECONDS
"""After the last fault, every shard has its owner within these seconds: the last request of a dead member is
carried out, its Lease expires, a living one gives up what it has in hand, and a few turns are taken."""
SHARDS = 6


class Server:
    """The Leases, as the API server has them."""

    def __init__(self, rng: Random) -> None:
        self.rng = rng
        self.leases: dict[str, Lease] = {}
        self.version = 0
        self.late: list[tuple[float, Callable[[], Any]]] = []
        self.now = 0.0
        self.fault_share = 0.0

    def write(self, lease: Lease) -> Lease:
        known = self.leases.get(lease.member)
        if known is None and lease.version:
            raise NotFound(404, "NotFound", lease.member)
        if known is not None and known.version != lease.version:
            raise Conflict(409, "Conflict", lease.member)
        self.version += 1
        written = Lease(lease.member, lease.process, str(self.version), lease.claims)
        self.leases[lease.member] = written
        return written

    def delete(self, lease: Lease) -> None:
        known = self.leases.get(lease.member)
        if known is None:
            raise NotFound(404, "NotFound", lease.member)
        if known.version != lease.version:
            raise Conflict(409, "Conflict", lease.member)
        del self.leases[lease.member]

    def work_late(self) -> None:
        """Carry out the requests whose clients have given up."""
        due = [do for at, do in self.late if at <= self.now]
        self.late = [(at, do) for at, do in self.late if at > self.now]
        for do in due:
            with contextlib.suppress(Conflict, NotFound):
                do()


class Store:
    """One process's way to the server."""

    def __init__(self, replica: "Replica") -> None:
        self._replica = replica

    async def list(self) -> list[Lease]:
        return await self._send(lambda: list(self._replica.server.leases.values()))

    async def write(self, lease: Lease) -> Lease:
        return await self._send(lambda: self._replica.server.write(lease))

    async def delete(self, lease: Lease) -> None:
        await self._send(lambda: self._replica.server.delete(lease))

    async def _send(self, do: Callable[[], Any]) -> Any:
        server, replica = self._replica.server, self._replica
        await point("before")
        if replica.is_cut_off:
            raise Unavailable(0, "NoAnswer", "cut off")
        roll = server.rng.random() / max(server.fault_share, 1e-9)
        if roll < 0.3:
            raise Unavailable(0, "NoAnswer", "lost request")
        if roll < 0.6:
            server.late.append((server.now + server.rng.uniform(0, LATE_SECONDS), do))
            raise Unavailable(0, "NoAnswer", "late request")
        answer = do()
        await point("after")
        if roll < 1:
            raise Unavailable(0, "NoAnswer", "lost answer")
        return answer


class Replica:
    """One process: takes turns, works on keys of the shards that it holds."""

    def __init__(self, server: Server, name: str, number: int, ring: type[Ring]) -> None:
        rng = server.rng
        self.server = server
        self.name = name
        self.rate = 1 + rng.uniform(-DRIFT, DRIFT)
        self.offset = rng.uniform(-1000, 1000)
        self.frozen_until = 0.0
        self.is_cut_off = False
        self.is_leaving = False
        self.is_gone = False
        self.in_hand: dict[int, float] = {}
        self.next_turn = self.clock()
        self.turn: Coroutine[Any, Any, None] | None = None
        self.membership = Membership(
            Store(self), name, str(number), clock=self.clock, is_in_hand=self.in_hand.__contains__
        )
        self.membership._ring = ring(name, SHARDS)

    def clock(self) -> float:
        return self.offset + self.server.now * self.rate

    @property
    def is_awake(self) -> bool:
        return not self.is_gone and self.server.now >= self.frozen_until

    def act(self) -> None:
        """What the process does in one moment."""
        rng, now = self.server.rng, self.clock()
        self.end_what_is_over()
        for shard in self.working():
            if rng.random() < 0.2:
                # The call of a provider: in hand until it is answered, or is cancelled.
                self.in_hand[shard] = now + rng.choice((0.1, 1, HAND_OVER_SECONDS)) * self.rate
        if self.turn is None:
            if now < self.next_turn:
                return
            self.turn = self.one_turn()
        for _ in range(rng.choice((1, 1, 5))):
            try:
                self.turn.send(None)
            except StopIteration:
                self.turn, self.next_turn = None, now + LOOK_SECONDS
                return

    def end_what_is_over(self) -> None:
        """What was in hand is answered, or cancelled."""
        now, until = self.clock(), self.membership.own_until + GRACE_SECONDS
        for shard, end in list(self.in_hand.items()):
            if now >= min(end, until):
                del self.in_hand[shard]

    async def one_turn(self) -> None:
        try:
            await self.membership.take_turn(is_leaving=self.is_leaving)
            if self.is_leaving and not self.membership._ring.claims:
                await self.membership.resign()
                self.is_gone = True
        except ApiError:
            pass

    def working(self) -> set[int]:
        """The shards for which it would begin something now."""
        return {shard for shard in range(SHARDS) if self.membership.term_of(shard) is not None}

    def touching(self) -> set[int]:
        """The shards that it works on, or still has something of in hand."""
        self.end_what_is_over()
        return self.working() | set(self.in_hand)


class Story:
    """One run."""

    def __init__(self, seed: int, ring: type[Ring] = Ring) -> None:
        self.rng = Random(seed)
        self.server = Server(self.rng)
        self.ring = ring
        self.count = 0
        self.replicas: list[Replica] = []
        for _ in range(self.rng.choice((1, 2, 3))):
            self.start()

    def start(self, name: str | None = None) -> None:
        self.count += 1
        self.replicas.append(Replica(self.server, name or f"pod-{self.count}", self.count, self.ring))

    def play(self) -> None:
        self.server.fault_share = self.rng.choice((0.0, 0.1, 0.3))
        for _ in self.ticks(CHAOS_SECONDS):
            if self.rng.random() < 0.03:
                self.disturb()
        self.server.fault_share = 0.0
        for replica in self.replicas:
            replica.is_cut_off, replica.frozen_until = False, 0.0
        if not any(self.stays(replica) for replica in self.replicas):
            self.start()
        for _ in self.ticks(BOUND_SECONDS):
            if self.is_settled():
                return
        raise AssertionError(f"not settled after {BOUND_SECONDS:.0f} s: {self.shares()}")

    def ticks(self, seconds: float) -> Iterator[None]:
        end = self.server.now + seconds
        while self.server.now < end:
            self.server.now += TICK
            self.server.work_late()
            for replica in self.rng.sample(self.replicas, len(self.replicas)):
                if replica.is_awake:
                    replica.act()
                    self.check()
            self.replicas = [replica for replica in self.replicas if not replica.is_gone]
            yield

    def disturb(self) -> None:
        rng = self.rng
        if not self.replicas:
            return self.start()
        replica = rng.choice(self.replicas)
        match rng.choice(("start", "crash", "restart", "freeze", "cut off", "leave")):
            case "start" if len(self.replicas) < 5:
                self.start()
            case "crash":
                replica.is_gone = True
            case "restart":
                replica.is_gone = True
                self.start(replica.name)
            case "freeze":
                replica.frozen_until = self.server.now + rng.uniform(1, 60)
            case "cut off":
                replica.is_cut_off = not replica.is_cut_off
            case "leave":
                replica.is_leaving = True
        return None

    def check(self) -> None:
        """No shard has two owners; what stands still does nothing."""
        owners: dict[int, str] = {}
        for replica in self.replicas:
            for shard in replica.touching() if replica.is_awake else ():
                assert shard not in owners, (
                    f"at {self.server.now} both {owners[shard]} and {replica.name} have shard {shard}"
                )
                owners[shard] = replica.name

    def stays(self, replica: Replica) -> bool:
        return not replica.is_gone and not replica.is_leaving

    def is_settled(self) -> bool:
        members = [replica.name for replica in self.replicas if self.stays(replica)]
        wanted = {name: {s for s in range(SHARDS) if owner_of(s, members) == name} for name in members}
        return self.shares() == wanted

    def shares(self) -> dict[str, set[int]]:
        return {replica.name: replica.working() for replica in self.replicas}


@pytest.fixture(autouse=True)
def quiet(monkeypatch: pytest.MonkeyPatch) -> None:
    """A thousand runs have too much to say."""
    monkeypatch.setattr(membership.log, "info", lambda *_, **__: None)


def judge(seed: int, ring: type[Ring] = Ring) -> None:
    try:
        Story(seed, ring).play()
    except AssertionError as broken:
        raise AssertionError(f"seed {seed}: {broken}") from broken


def test_no_shard_has_two_owners_and_each_gets_one_within_a_bound() -> None:
    for seed in SEEDS:
        judge(seed)


class WithoutSecondList(Ring):
    """Begins what it has claimed without a look at who claimed it, too."""

    def renewed(self, began_at: float, now: float) -> None:
        super().renewed(began_at, now)
        self.begin(now)


class WithoutWaiting(Ring):
    """Takes what it is meant for, whoever has it."""

    def begin(self, now: float) -> frozenset[int]:
        claimed, self.claimed = self.claimed, frozenset()
        self.held |= claimed
        return claimed

    def decide(self, is_in_hand: Callable[[int], bool], *, is_leaving: bool = False) -> None:
        super().decide(is_in_hand, is_leaving=is_leaving)
        members = [self._member, *(lease.member for lease in self.others)]
        wanted = {s for s in self._shards if not is_leaving and owner_of(s, members) == self._member}
        self.claimed |= wanted - self.held - self.releasing


class WithoutFinishing(Ring):
    """Gives a shard up at once, with its keys in hand."""

    def decide(self, is_in_hand: Callable[[int], bool], *, is_leaving: bool = False) -> None:
        super().decide(lambda _: False, is_leaving=is_leaving)


class WithoutDeadline(Ring):
    """Works on, whether its Lease was renewed or not."""

    def renewed(self, began_at: float, now: float) -> None:
        self._own_until = float("inf")


@pytest.mark.parametrize("careless", [WithoutSecondList, WithoutWaiting, WithoutFinishing, WithoutDeadline])
def test_it_notices_a_protocol_that_leaves_something_out(careless: type[Ring]) -> None:
    for seed in range(300):
        try:
            judge(seed, careless)
        except AssertionError as broken:
            assert "both" in str(broken)
            return
    pytest.fail("300 runs without two owners")
