"""Streams of orders: whatever happens to watches, gateways and clients, each change comes once and in order,
or the client is told to begin anew.
"""

import asyncio
import json
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from orderplane.client.event_stream import EventReader, ServerEvent
from orderplane.crds.meta import Kind
from orderplane.gateway.http.problems import Problem, unavailable
from orderplane.gateway.orders import order_feed, order_streams
from orderplane.gateway.orders.held_orders import Criteria
from orderplane.gateway.orders.listing import ListPosition, OrderFilter, filtered_page
from orderplane.gateway.orders.order_changes import Position
from orderplane.gateway.orders.order_feed import Interest
from orderplane.gateway.orders.order_streams import OrderStream, OrderStreams, Wanted
from orderplane.gateway.principal import Principal, TokenRefused
from orderplane.gateway.traffic.stream_places import OF_A_CUSTOMER, StreamPlaces
from orderplane.ledgers.errors import Transient

from .watched_server import SELLER, SHOP, FrontDoor, WatchedServer, customer, version_of

NAMES = ["o-a", "o-b", "o-c", "o-d"]
CUSTOMERS = ["ada", "eve"]
PHASES = ["Paid", "Shipped"]


class Client:
    """Follows orders, at one gateway after the other, and keeps what it is shown.

    `orders` are their phases by name, as the events have said. `versions` are those of the changes since the
    last `reset`. The state that it began with is `state`, and all changes after `began_at` follow.
    """

    def __init__(
        self, caller: Principal = SELLER, *, phase: str | None = None, name: str | None = None
    ) -> None:
        self.caller, self.phase, self.name = caller, phase, name
        self.events: list[ServerEvent] = []
        self.orders: dict[str, str] = {}
        self.versions: list[int] = []
        self.began_at = 0
        self.state: dict[str, int] = {}
        self.reads = True
        self.is_cut = False
        self.token_problem: Exception | None = None
        self._states: list[tuple[int, dict[str, int]]] = []
        self._received = b""
        self._reader = EventReader()
        self._stream: OrderStream | None = None
        self._task: asyncio.Task[None] | None = None

    def connect(self, door: FrontDoor, *, seconds: float = 1000, streams: OrderStreams | None = None) -> None:
        streams = streams or OrderStreams(door.feed, StreamPlaces(10))
        seen = Position.parse(self.last_id) if self.last_id else None
        self._reader = EventReader(self.last_id)
        criteria = Criteria(self.caller.customer, self.phase)
        interest = Interest(SHOP, self.name, criteria)
        states = self._states = []

        async def state() -> list[Any]:
            read = door.reader.chunks(self.caller, criteria, OrderFilter())
            orders, _ = await filtered_page(read, OrderFilter(), 200, ListPosition())
            found = [order for order in orders if self.name in (None, order["metadata"]["name"])]
            began_at = door.feed.end.version if door.feed.end else door.feed._changes._since
            states.append((began_at, {order["metadata"]["name"]: version_of(order) for order in found}))
            return found

        async def check_token() -> None:
            if self.token_problem is not None:
                raise self.token_problem

        async def write(data: bytes) -> None:
            while not (self.reads or self.is_cut):  # noqa: ASYNC110 - nothing tells of it
                await asyncio.sleep(0)
            self._received += data

        def abort() -> None:
            self.is_cut = True

        answer = streams.open(self.caller, check_token, Wanted(interest, seen, seconds), state)
        assert isinstance(answer.stream, OrderStream)
        self._stream = answer.stream
        self._task = asyncio.create_task(self._stream.run(write, abort))

    @property
    def last_id(self) -> str | None:
        return self._reader.last_id

    async def leave(self, lost: int = 0) -> None:
        """Break the connection; the last bytes are lost with it."""
        if self._task is not None and self._stream is not None:
            self._stream.close()
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        self.read(len(self._received) - lost)

    async def ended(self) -> str:
        """Wait for the end of the stream; answers its code."""
        assert self._task is not None
        await asyncio.wait_for(self._task, 20)
        self.read()
        assert self.events[-1].name == "end"
        code: str = json.loads(self.events[-1].data)["code"]
        return code

    def read(self, most: int | None = None) -> list[str]:
        """Take what was received; answers the names of the events."""
        events = self._reader.feed(self._received if most is None else self._received[: max(0, most)])
        self._received = b""
        for event in events:
            self._take(event)
        return [event.name for event in events]

    def _take(self, event: ServerEvent) -> None:
        self.events.append(event)
        document = json.loads(event.data)
        if event.name == "reset":
            self.orders, self.versions = {}, []
            self.began_at, self.state = self._states.pop(0)
        elif event.name == "order":
            self.orders[document["id"]] = document["phase"]
        elif event.name == "gone":
            self.orders.pop(document["id"], None)
        if event.name in ("order", "gone") and event.id is not None:
            self.versions.append(version_in(event.id))


def version_in(position: str | None) -> int:
    return int(position.split("-")[0]) if position else 0


async def settle() -> None:
    """Let every stream write what it can."""
    for _ in range(40):
        await asyncio.sleep(0)


@pytest.fixture
def server() -> WatchedServer:
    return WatchedServer()


@pytest.fixture
async def door(server: WatchedServer) -> FrontDoor:
    door = FrontDoor(server)
    await door.turn()
    return door


async def follow(door: FrontDoor, client: Client) -> Client:
    client.connect(door)
    await settle()
    assert client.read()[0] == "reset"
    return client


# Single cases


async def test_the_state_comes_first_and_then_each_change(server: WatchedServer, door: FrontDoor) -> None:
    server.place("o-a", "ada")
    await door.turn()
    client = Client()
    client.connect(door)
    await settle()
    assert client.read() == ["reset", "order", "synced"]
    assert [event.id for event in client.events][:2] == [None, None]
    server.report("o-a", "Paid")
    server.place("o-b", "eve")
    server.delete("o-a")
    await door.turn()
    await settle()
    # A deletion is two writes: it is marked, and then its finalizers go.
    assert client.read() == ["order", "order", "order", "gone"]
    assert client.orders == {"o-b": "Pending"}
    await client.leave()


async def test_nobody_is_told_of_the_orders_of_another(server: WatchedServer, door: FrontDoor) -> None:
    server.place("o-a", "ada")
    await door.turn()
    ada, eve = await follow(door, Client(customer("ada"))), await follow(door, Client(customer("eve")))
    rival = Client(Principal("other-shop", "u-rival", SELLER.role))
    one = await follow(door, Client(customer("ada"), name="o-a"))
    server.report("o-a", "Paid")
    server.place("o-b", "eve")
    server.delete("o-a")
    # The name is used again, by another customer.
    server.place("o-a", "eve")
    await door.turn()
    await settle()
    for client in (ada, eve, one, rival):
        client.read()
        await client.leave()
    assert (ada.orders, one.orders) == ({}, {})
    assert eve.orders == {"o-b": "Pending", "o-a": "Pending"}
    assert len(ada.versions) == len(one.versions) == 3


async def test_an_order_that_leaves_a_phase_is_gone_from_it(server: WatchedServer, door: FrontDoor) -> None:
    server.place("o-a", "ada")
    server.place("o-b", "ada")
    await door.turn()
    client = await follow(door, Client(phase="Pending"))
    server.report("o-a", "Paid")
    server.report("o-a", "Shipped")
    await door.turn()
    await settle()
    assert client.read() == ["gone"]
    assert client.orders == {"o-b": "Pending"}
    await client.leave()


@pytest.mark.parametrize("is_other", [False, True])
async def test_a_stream_goes_on_where_the_client_was(
    server: WatchedServer, door: FrontDoor, is_other: bool
) -> None:
    """Here, and at a gateway that has just started."""
    server.place("o-a", "ada")
    await door.turn()
    client = await follow(door, Client())
    await client.leave()
    server.report("o-a", "Paid")
    server.report("o-a", "Shipped")
    await door.turn()
    if is_other:
        door = FrontDoor(server)
        await door.turn()
    client.connect(door)
    await settle()
    assert client.read() == ["order", "order"]
    assert client.orders == {"o-a": "Shipped"}
    await client.leave()


async def test_a_gateway_that_is_behind_does_not_repeat_anything(
    server: WatchedServer, door: FrontDoor
) -> None:
    behind = FrontDoor(server)
    await behind.turn()
    client = await follow(door, Client())
    server.place("o-a", "ada")
    await door.turn()
    await settle()
    assert client.read() == ["order"]
    await client.leave()
    client.connect(behind)
    server.report("o-a", "Paid")
    await behind.turn()
    await settle()
    assert client.read() == ["order"]
    assert client.orders == {"o-a": "Paid"}
    await client.leave()


async def test_a_watch_that_ends_before_it_has_shown_everything(server: WatchedServer) -> None:
    """What comes before the list goes on with the next one."""
    server.place("o-a", "ada")
    client = Client()
    for number in range(4):
        if number == 1:
            door = FrontDoor(server)
            await door.turn()
            await (await follow(door, client)).leave()
        server.report("o-a", PHASES[number % 2])
    door = FrontDoor(server)
    server.events_per_watch = 3
    client.connect(door)
    for _ in range(2):
        await door.turn()
        await settle()
    assert client.read() == ["order"] * 3
    await client.leave()


@pytest.mark.parametrize("tells_oldest", [True, False])
async def test_a_watch_begins_as_far_back_as_the_server_can(tells_oldest: bool) -> None:
    server = WatchedServer()
    server.tells_oldest = tells_oldest
    for _ in range(3000):
        server.api._version += 1  # of other kinds
    server.place("o-a", "ada")
    door = FrontDoor(server)
    await door.turn()
    client = await follow(door, Client())
    await client.leave()
    server.oldest_watch = server.api._version - 1
    server.api._version += 40
    server.report("o-a", "Paid")
    door = FrontDoor(server)
    await door.turn()
    client.connect(door)
    await settle()
    # Without a word from the server, only what is nearer than half of the way is sure to be found.
    assert client.read() == (["order"] if tells_oldest else ["reset", "order", "synced"])
    await client.leave()


@pytest.mark.parametrize("text", ["", "48213", "48213-zzzzzzzz", "x" * 99, "9" * 40 + "-00000000"])
def test_what_is_no_position(text: str) -> None:
    assert Position.parse(text) is None


async def test_what_is_not_known_any_more_is_told(server: WatchedServer, door: FrontDoor) -> None:
    server.place("o-a", "ada")
    await door.turn()
    client = await follow(door, Client())
    await client.leave()
    server.report("o-a", "Paid")
    server.compact()
    door = FrontDoor(server)
    await door.turn()
    client.connect(door)
    await settle()
    assert client.read() == ["reset", "order", "synced"]
    assert json.loads(client.events[-3].data)["code"] == "too_old"
    await client.leave()


async def test_only_so_many_bytes_of_changes_are_kept(server: WatchedServer) -> None:
    door = FrontDoor(server, most_change_bytes=20_000)
    server.place("o-a", "ada")
    await door.turn()
    client = await follow(door, Client())
    await client.leave()
    for number in range(20):
        server.report("o-a", PHASES[number % 2])
    await door.turn()
    assert sum(change.size for change in door.feed._changes._changes) <= 20_000
    client.connect(door)
    await settle()
    assert client.read() == ["reset", "order", "synced"]
    await client.leave()


async def test_who_does_not_read_is_cut_off(
    server: WatchedServer, door: FrontDoor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(order_feed, "MAX_WAITING", 5)
    server.place("o-a", "ada")
    await door.turn()
    slow, quick = await follow(door, Client()), await follow(door, Client())
    slow.reads = False
    for number in range(8):
        server.report("o-a", PHASES[number % 2])
        await door.turn()
        await settle()
    assert slow.is_cut
    assert not quick.is_cut
    assert quick.read() == ["order"] * 8
    await slow.leave(lost=10**6)
    # Nothing was lost: it goes on where it was.
    slow.reads, slow.is_cut = True, False
    slow.connect(door)
    await settle()
    assert slow.read() == ["order"] * 8
    await slow.leave()
    await quick.leave()


async def test_a_stream_ends_with_its_token(
    server: WatchedServer, door: FrontDoor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(order_streams, "LOOK_SECONDS", 0.05)
    monkeypatch.setattr(order_streams, "CHECK_SECONDS", 0.0)
    client = await follow(door, Client())
    client.token_problem = TokenRefused("The token has expired.")
    assert await client.ended() == "invalid_token"


@pytest.mark.parametrize("problem", [Transient("X", "away"), unavailable("away")], ids=repr)
async def test_nothing_is_shown_while_a_token_cannot_be_checked(
    server: WatchedServer, door: FrontDoor, monkeypatch: pytest.MonkeyPatch, problem: Exception
) -> None:
    for name in ("CHECK_SECONDS", "RETRY_SECONDS", "COMMENT_SECONDS"):
        monkeypatch.setattr(order_streams, name, 0.0)
    server.place("o-a", "ada")
    await door.turn()
    client = await follow(door, Client())
    last_id = client.last_id
    client.token_problem = problem
    server.report("o-a", "Paid")
    await door.turn()
    await settle()
    assert client.read() == []
    # The comments meanwhile do not move the id past what was not shown.
    assert client.last_id == last_id
    client.token_problem = None
    await settle()
    assert client.read() == ["order"]
    await client.leave()


async def test_the_end_of_the_time_and_of_the_gateway(server: WatchedServer, door: FrontDoor) -> None:
    server.place("o-a", "ada")
    await door.turn()
    client = Client()
    client.connect(door, seconds=0)
    assert await client.ended() == "timeout"
    assert [event.name for event in client.events] == ["reset", "order", "synced", "end"]

    streams = OrderStreams(door.feed, StreamPlaces(10))
    client = Client()
    client.connect(door, streams=streams)
    streams.leave()
    assert await client.ended() == "leaving"
    with pytest.raises(Problem, match="overloaded"):
        client.connect(door, streams=streams)


async def test_comments_move_the_id_on(
    server: WatchedServer, door: FrontDoor, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So a client that hears nothing for long can still go on: the changes of others are many."""
    monkeypatch.setattr(order_streams, "COMMENT_SECONDS", 0.05)
    client = await follow(door, Client(customer("ada")))
    before = client.last_id
    server.place("o-b", "eve")
    await door.turn()
    async with asyncio.timeout(10):
        while client.last_id == before:
            await asyncio.sleep(0.02)
            assert client.read() == []
    assert version_in(client.last_id) == server.api._version
    await client.leave()


def test_places() -> None:
    places = StreamPlaces(OF_A_CUSTOMER + 1)
    for _ in range(OF_A_CUSTOMER):
        places.enter(SHOP, "ada", is_shop=False)
    with pytest.raises(Problem) as refused:
        places.enter(SHOP, "ada", is_shop=False)
    assert (refused.value.type.code, refused.value.headers["Retry-After"]) == ("too_many_streams", "10")
    places.enter(SHOP, "eve", is_shop=False)
    with pytest.raises(Problem) as refused:
        places.enter(SHOP, "u-seller", is_shop=True)
    assert (refused.value.type.code, refused.value.headers["Retry-After"]) == ("overloaded", "10")
    places.leave(SHOP, "ada")
    places.enter(SHOP, "u-seller", is_shop=True)


# Everything at random

STEP = st.tuples(
    st.sampled_from(
        ["place"] * 3 + ["report"] * 6 + ["delete"] + ["turn"] * 6 + ["connect"] * 4
        + ["cut turn", "short turn", "stale turn", "restart", "compact", "backup", "restore", "remember"]
    ),
    st.sampled_from(NAMES),
    st.integers(0, 3),
)  # fmt: skip


@example([("place", "o-a", 0), ("cut turn", "o-a", 0), ("place", "o-b", 0), ("connect", "o-a", 0)], 9_000)
@settings(max_examples=300)
@given(steps=st.lists(STEP, max_size=50), kept=st.sampled_from([9_000, 1_000_000]))
def test_every_change_comes_once_and_in_order(steps: list[tuple[str, str, int]], kept: int) -> None:
    asyncio.run(walk(steps, kept))


async def walk(steps: list[tuple[str, str, int]], kept: int) -> None:
    server = WatchedServer()
    doors = [FrontDoor(server, most_change_bytes=kept) for _ in range(2)]
    clients = [
        Client(), Client(customer("ada")), Client(customer("eve"), name="o-a"), Client(phase="Paid"),
    ]  # fmt: skip
    backup: Any = None
    for action, name, number in steps:
        there = server.api.objects.get((Kind.ORDER, SHOP, name))
        door, client = doors[number % 2], clients[number]
        if action == "place" and there is None:
            server.at += timedelta(seconds=1)
            server.place(name, CUSTOMERS[number % 2])
        elif action == "report" and there is not None:
            server.report(name, PHASES[number % 2])
        elif action == "delete" and there is not None:
            server.delete(name)
        elif action == "remember" and there is not None:
            door.reader.remember(there)
        elif action == "compact":
            server.compact()
        elif action == "backup":
            backup = server.api.snapshot()
        elif action == "restore" and backup is not None:
            server.restore(backup)
        elif action == "restart":
            doors[number % 2] = FrontDoor(server, most_change_bytes=kept)
        elif action == "connect":
            await client.leave(lost=number * 700)
            client.connect(door)
        elif action.endswith("turn"):
            server.is_cut = action == "cut turn"
            server.events_per_watch = number if action == "short turn" else 1000
            door.now += 100 if action == "stale turn" else 0
            await door.turn()
            server.is_cut, server.events_per_watch = False, 1000
        await settle()
    for number, client in enumerate(clients):
        await client.leave(lost=number * 300)
        client.connect(doors[number % 2])
    for door in (*doors, *doors):
        await door.turn()
    await settle()
    for client in clients:
        await client.leave()
        check(server, client)


def check(server: WatchedServer, client: Client) -> None:
    """What a client was told since the last `reset` is what has happened since; so it knows what is.

    Where the state was read before the watch had told of it, and the client came back then, it hears once
    more of what the state has shown.
    """
    names = server.names(client.caller.customer, client.phase)
    assert set(client.orders) == {name for name in names if client.name in (None, name)}
    if client.phase is None:
        happened = {
            version_of(document): document["metadata"]["name"]
            for _, _, document in server.api.events
            if version_of(document) > client.began_at
            and client.caller.customer in (None, document["spec"]["customer"])
            and client.name in (None, document["metadata"]["name"])
        }
        assert client.versions == sorted(set(client.versions)), "each once, in order"
        shown = {version for version, name in happened.items() if version <= client.state.get(name, 0)}
        assert [version for version in client.versions if version not in shown] == [
            version for version in happened if version not in shown
        ]
