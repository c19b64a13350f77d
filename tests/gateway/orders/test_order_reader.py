"""Orders from memory: whatever happens to the watch, nobody reads what is not, or is not theirs."""

import asyncio
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from structlog.testing import capture_logs

from orderplane.adapters.kubernetes.reflector import STALE_SECONDS
from orderplane.crds.api_errors import Gone
from orderplane.crds.meta import Kind
from orderplane.gateway.http.problems import Problem
from orderplane.gateway.orders import views
from orderplane.gateway.orders.held_orders import ORDER_BYTES, Criteria, HeldOrder
from orderplane.gateway.orders.listing import ListPosition, OrderFilter, filtered_page, place_of

from .watched_server import ALL, SELLER, SHOP, FrontDoor, WatchedServer, customer, version_of

NAMES = ["o-a", "o-b", "o-c", "o-d", "o-e"]
CUSTOMERS = ["ada", "eve"]
PHASES = ["Paid", "Shipped"]


@pytest.fixture
def server() -> WatchedServer:
    return WatchedServer()


@pytest.fixture
async def door(server: WatchedServer) -> FrontDoor:
    door = FrontDoor(server)
    await door.turn()
    return door


async def is_missing(door: FrontDoor, name: str, caller: Any = SELLER) -> bool:
    try:
        await door.reader.read(caller, name)
    except Problem as problem:
        assert "order_not_found" in str(problem)
        return True
    return False


def place_later(server: WatchedServer, name: str, **spec: Any) -> None:
    server.at += timedelta(seconds=1)
    server.place(name, "ada", **spec)


# Single cases


async def test_a_known_order_asks_nobody(server: WatchedServer, door: FrontDoor) -> None:
    server.place("o-a", "ada")
    await door.turn()
    for caller in (SELLER, customer("ada")):
        order = await door.reader.read(caller, "o-a")
        assert views.order_view(order)["id"] == "o-a"
    assert await door.names(SELLER) == await door.names(customer("ada")) == ["o-a"]
    assert server.reads == 0


async def test_an_order_is_found_before_the_watch_tells_of_it(server: WatchedServer, door: FrontDoor) -> None:
    created = server.place("o-a", "ada")
    assert (await door.reader.read(customer("ada"), "o-a"))["metadata"]["name"] == "o-a"
    assert server.reads == 1
    door.reader.remember(created)
    assert (await door.reader.read(customer("ada"), "o-a"))["metadata"]["name"] == "o-a"
    assert await door.names(customer("ada")) == ["o-a"]
    assert server.reads == 1


async def test_nobody_sees_the_order_of_another(server: WatchedServer, door: FrontDoor) -> None:
    server.place("o-a", "ada")
    await door.turn()
    assert await is_missing(door, "o-a", customer("eve"))
    assert await is_missing(door, "o-a", customer("ada", "other-shop"))
    assert await door.names(customer("eve")) == await door.names(customer("ada", "other-shop")) == []


async def test_a_late_answer_brings_no_order_back(server: WatchedServer, door: FrontDoor) -> None:
    created = server.place("o-a", "ada")
    server.delete("o-a")
    await door.turn()
    door.reader.remember(created)
    assert await is_missing(door, "o-a")
    # A list that has no deletions to tell is no reason to believe it either.
    server.compact()
    await door.turn()
    door.reader.remember(created)
    assert await is_missing(door, "o-a")
    assert await door.names(SELLER) == []


async def test_a_watch_without_its_events_lists_again(server: WatchedServer, door: FrontDoor) -> None:
    server.place("o-a", "ada")
    await door.turn()
    server.delete("o-a")
    server.place("o-b", "ada")
    server.compact()
    await door.turn()
    assert await door.names(SELLER) == ["o-b"]
    assert await is_missing(door, "o-a")


@pytest.mark.parametrize(("is_hidden", "writes"), [(False, 1), (False, 9), (True, 1)])
async def test_a_restored_etcd_is_noticed_and_its_orders_are_read(
    server: WatchedServer, door: FrontDoor, is_hidden: bool, writes: int
) -> None:
    """Also when its versions have passed those before; unless something hides that the server went away."""
    server.place("o-a", "ada")
    backup = server.api.snapshot()
    server.report("o-a", "Shipped")
    server.place("o-b", "ada")
    await door.turn()
    server.restore(backup)
    server.restarts -= is_hidden
    for number in range(writes):
        server.place(f"o-c{number}", "ada")
    with capture_logs() as logs:
        await door.turn()
    assert await door.names(SELLER) == server.names()
    assert (await door.reader.read(SELLER, "o-a"))["status"]["phase"] == "Pending"
    assert await is_missing(door, "o-b")
    assert any(line.get("why") == ("restored" if is_hidden else "break") for line in logs)


async def test_after_some_seconds_without_a_watch_the_api_server_is_asked(
    server: WatchedServer, door: FrontDoor
) -> None:
    server.place("o-a", "ada")
    await door.turn()
    server.is_cut = True
    server.report("o-a", "Shipped")
    door.now += STALE_SECONDS - 1
    assert (await door.reader.read(SELLER, "o-a"))["status"]["phase"] == "Pending"
    door.now += 2
    assert (await door.reader.read(SELLER, "o-a"))["status"]["phase"] == "Shipped"
    assert await door.names(SELLER, Criteria(phase="Shipped")) == ["o-a"]
    server.is_cut = False
    await door.turn()
    reads = server.reads
    assert (await door.reader.read(SELLER, "o-a"))["status"]["phase"] == "Shipped"
    assert server.reads == reads


async def test_beyond_the_bound_the_rest_is_read_from_the_api_server(server: WatchedServer) -> None:
    door = FrontDoor(server, most=3)
    with capture_logs() as logs:
        for name in NAMES:
            place_later(server, name)
        server.place("o-z", "ada", "zoo")
        await door.turn()
    assert len(door.held) == 3
    assert [line["event"] for line in logs].count(
        "there are more orders than are held; the others are read from the API server"
    ) == 1
    # The two newest of the shop, then the others by name.
    assert await door.names(SELLER) == ["o-e", "o-d", "o-a", "o-b", "o-c"]
    for name in NAMES:
        assert not await is_missing(door, name)
    # A merchant of which all is held is not concerned.
    assert door.held.holds_all_of("zoo")
    assert not door.held.holds_all_of(SHOP)


async def test_what_is_older_than_a_dropped_order_is_not_held_again(server: WatchedServer) -> None:
    """Else a walk by time would leave out what was dropped."""
    door = FrontDoor(server, most=2)
    for name in NAMES[:4]:
        place_later(server, name)
    await door.turn()
    for name in ("o-c", "o-d"):
        server.delete(name)
    server.report("o-a", "Shipped")
    await door.turn()
    assert len(door.held) == 0
    assert await door.names(SELLER, limit=1) == ["o-a", "o-b"]


async def test_much_metadata_is_bounded_as_well(server: WatchedServer) -> None:
    door = FrontDoor(server, most=3)
    for name in NAMES:
        place_later(server, name, metadata={"note": "x" * ORDER_BYTES})
    await door.turn()
    assert len(door.held) == 2
    assert await door.names(SELLER) == ["o-e", "o-d", "o-a", "o-b", "o-c"]
    server.delete("o-e")
    await door.turn()
    assert len(door.held) == 1
    place_later(server, "o-f")
    await door.turn()
    assert await door.names(SELLER) == ["o-f", "o-d", "o-a", "o-b", "o-c"]


@pytest.mark.parametrize("is_current", [True, False])
async def test_orders_are_found_by_customer_and_reference(
    server: WatchedServer, door: FrontDoor, is_current: bool
) -> None:
    place_later(server, "o-a", reference="2026-1, a=b")
    place_later(server, "o-b", reference="2026-2")
    server.place("o-c", "eve", reference="2026-2")
    await door.turn()
    door.now += 0 if is_current else STALE_SECONDS + 1
    assert await door.names(SELLER, Criteria(customer="ada")) == (
        ["o-b", "o-a"] if is_current else ["o-a", "o-b"]
    )
    for caller, criteria, names in (
        (SELLER, Criteria(reference="2026-2"), {"o-b", "o-c"}),
        (SELLER, Criteria(reference="2026-2", customer="eve"), {"o-c"}),
        (SELLER, Criteria(reference="2026-2", phase="Paid"), set()),
        (SELLER, Criteria(reference="2026"), set()),
        (customer("eve"), Criteria(reference="2026-2"), {"o-c"}),
        (customer("eve"), Criteria(reference="2026-2", customer="ada"), {"o-c"}),
    ):
        assert set(await door.names(caller, criteria)) == names


@pytest.mark.parametrize("is_current", [True, False])
async def test_orders_that_wait_for_a_person_are_found(
    server: WatchedServer, door: FrontDoor, is_current: bool
) -> None:
    for name in ("o-a", "o-b", "o-c"):
        place_later(server, name)
    server.report("o-a", "Paid", stalled=True)
    server.report("o-b", "Compensating", stalled=True)
    server.report("o-c", "Paid")
    await door.turn()
    door.now += 0 if is_current else STALE_SECONDS + 1
    for criteria, names in (
        (Criteria(stalled=True), {"o-a", "o-b"}),
        (Criteria(stalled=True, phase="Paid"), {"o-a"}),
        (Criteria(stalled=False), {"o-c"}),
    ):
        assert set(await door.names(SELLER, criteria)) == names
    server.report("o-a", "Paid")
    await door.turn()
    assert set(await door.names(SELLER, Criteria(stalled=True))) == {"o-b"}


async def test_a_walk_by_time_ends_where_nothing_newer_can_follow(
    server: WatchedServer, door: FrontDoor
) -> None:
    for name in NAMES:
        place_later(server, name)
    await door.turn()
    since = datetime(2026, 1, 1, 0, 0, 3, tzinfo=UTC)
    order_filter = OrderFilter(since=since)
    read = door.reader.chunks(SELLER, ALL, order_filter)
    page, position = await filtered_page(read, order_filter, 50, ListPosition())
    assert ([order["metadata"]["name"] for order in page], position) == (["o-e", "o-d", "o-c"], None)


async def test_an_address_is_read_where_nobody_holds_it(server: WatchedServer, door: FrontDoor) -> None:
    server.place("o-a", "ada")
    await door.turn()
    assert "address" not in (await door.reader.read(customer("ada"), "o-a"))["spec"]
    whole = await door.reader.read_whole(customer("ada"), "o-a")
    assert views.addressed_view(whole)["address"]["city"] == "C"
    with pytest.raises(Problem, match="order_not_found"):
        await door.reader.read_whole(customer("eve"), "o-a")


async def test_what_cannot_be_read_stops_nothing(server: WatchedServer, door: FrontDoor) -> None:
    server.place("o-a", "ada")
    key = Kind.ORDER, SHOP, "o-a"
    server.api._store(key, {**server.api.objects[key], "spec": {}}, "MODIFIED")
    server.place("o-b", "ada")
    server.api.objects.pop(key)
    await FrontDoor(server).turn()
    await door.turn()
    assert not await is_missing(door, "o-b")


def test_what_is_held_has_no_personal_data() -> None:
    server = WatchedServer()
    held = HeldOrder.of(server.place("o-a", "ada"))
    for word in (b"address", b"managedFields", b"labels"):
        assert word not in held.json


async def test_a_name_that_is_used_again_is_the_younger_order(server: WatchedServer, door: FrontDoor) -> None:
    server.place("o-a", "ada")
    await door.turn()
    server.delete("o-a")
    door.reader.remember(server.place("o-a", "eve"))
    assert not await is_missing(door, "o-a", customer("eve"))
    await door.turn()
    assert await is_missing(door, "o-a", customer("ada"))
    assert await door.names(customer("eve")) == ["o-a"]
    assert await door.names(customer("ada")) == []


async def test_a_walk_goes_on_when_the_memory_comes_and_goes(server: WatchedServer, door: FrontDoor) -> None:
    for name in NAMES:
        place_later(server, name)
    await door.turn()
    for first_is_memory in (True, False):
        names: list[str] = []
        position: ListPosition | None = ListPosition()
        is_memory = first_is_memory
        while position is not None:
            door.now += 0 if is_memory else STALE_SECONDS + 1
            assert door.watch.is_current is is_memory
            read = door.reader.chunks(customer("ada"), ALL, OrderFilter())
            page, position = await filtered_page(read, OrderFilter(), 1, position)
            names += [order["metadata"]["name"] for order in page]
            is_memory = not is_memory
            await door.turn()
        # What the API server lists comes by name.
        assert names == (["o-e", "o-a", "o-b", "o-c", "o-d"] if first_is_memory else NAMES)


async def test_a_cursor_of_the_version_before_goes_on_at_the_api_server(
    server: WatchedServer, door: FrontDoor
) -> None:
    for name in NAMES:
        server.place(name, "ada")
    await door.turn()
    token = (await server.list_page(Kind.ORDER, SHOP, limit=2)).continue_token
    read = door.reader.chunks(SELLER, ALL, OrderFilter())
    of_before = ListPosition(continue_token=token)
    page, position = await filtered_page(read, OrderFilter(), 2, of_before)
    assert [order["metadata"]["name"] for order in page] == ["o-c", "o-d"]
    assert position is not None
    assert position.after == "o-d"
    page, rest = await filtered_page(read, OrderFilter(), 2, position)
    assert ([order["metadata"]["name"] for order in page], rest) == (["o-e"], None)
    server.compact()
    with pytest.raises(Gone):
        await filtered_page(read, OrderFilter(), 2, position)
    # Of one from memory.
    page, rest = await filtered_page(read, OrderFilter(), 2, ListPosition(after="o-c"))
    assert ([order["metadata"]["name"] for order in page], rest) == (["o-d", "o-e"], None)


async def test_what_a_watch_shows_from_before_the_list_is_not_taken_in(server: WatchedServer) -> None:
    server.place("o-a", "ada")
    server.delete("o-a")
    server.place("o-b", "ada")
    server.events_per_watch = 1
    door = FrontDoor(server)
    await door.turn()
    assert door.held.get((SHOP, "o-a")) is None
    assert await door.names(SELLER) == ["o-b"]


# Everything at random


@dataclass
class Town:
    """Two front doors, and what each may still believe."""

    server: WatchedServer = field(default_factory=WatchedServer)
    doors: list[FrontDoor] = field(default_factory=list)
    backup: Any = None
    is_rewritten: list[bool] = field(default_factory=lambda: [False, False])
    """Etcd was restored, and this door has not looked since: it may show the past for so long as promised."""

    def do(self, name: str, action: str, number: int) -> Any:
        there = (Kind.ORDER, SHOP, name) in self.server.api.objects
        if action == "place" and not there:
            # An order that has left took longer than a second: no two of a name are placed in the same one.
            is_again = any(order["metadata"]["name"] == name for order in self.server.archived)
            self.server.at += timedelta(seconds=max(number // 2, is_again))
            created = self.server.place(name, CUSTOMERS[number % 2])
            self.doors[number % 2].reader.remember(created)
        elif action == "report" and there:
            self.server.report(name, PHASES[number % 2])
        elif action == "delete" and there:
            self.server.delete(name)
        elif action == "leave" and there:
            self.server.leave(name)
        elif action == "compact":
            self.server.compact()
        elif action == "backup":
            self.backup = self.server.api.snapshot()
        elif action == "restore" and self.backup is not None:
            self.server.restore(self.backup)
            self.is_rewritten = [True, True]


STEP = st.tuples(
    st.sampled_from(
        ["place"] * 4 + ["report"] * 2 + ["delete"] + ["leave"] * 3 + ["turn"] * 4
        + ["cut turn", "short turn", "compact", "backup", "restore", "wait"]
    ),
    st.sampled_from(NAMES),
    st.integers(0, 3),
)  # fmt: skip


@example(
    [
        ("place", "o-a", 0),
        ("backup", "o-a", 0),
        ("report", "o-a", 0),
        ("leave", "o-a", 0),
        ("restore", "o-a", 0),
    ],
    2,
)
@settings(max_examples=150)
@given(steps=st.lists(STEP, max_size=40), most=st.sampled_from([2, 100]))
def test_two_front_doors_show_what_is(steps: list[tuple[str, str, int]], most: int) -> None:
    asyncio.run(walk(steps, most))


async def walk(steps: list[tuple[str, str, int]], most: int) -> None:
    town = Town()
    server = town.server
    town.doors = [FrontDoor(server, most), FrontDoor(server, most)]
    for action, name, number in steps:
        which = number % 2
        door = town.doors[which]
        if action.endswith("turn"):
            server.is_cut = action == "cut turn"
            server.events_per_watch = number if action == "short turn" else 1000
            await door.turn()
            server.is_cut, server.events_per_watch = False, 1000
            town.is_rewritten[which] = False
        elif action == "wait":
            door.now += STALE_SECONDS + 1
        else:
            town.do(name, action, number)
        for each, is_rewritten in zip(town.doors, town.is_rewritten, strict=True):
            if not is_rewritten:
                await check_reads(server, each)
    for each in town.doors:
        await each.turn()
        await check_exact(server, each)


async def check_reads(server: WatchedServer, door: FrontDoor) -> None:
    """What exists is found, by who may see it; nothing is shown that never was."""
    for name in NAMES:
        there = server.api.objects.get((Kind.ORDER, SHOP, name))
        for caller in (SELLER, customer("ada"), customer("eve")):
            kept = there or max(
                (order for order in server.archived if order["metadata"]["name"] == name),
                key=place_of, default=None,
            )  # fmt: skip
            is_theirs = kept is not None and caller.customer in (None, kept["spec"]["customer"])
            try:
                order: Any = await door.reader.read(caller, name)
            except Problem:
                assert not is_theirs, f"{name} is there"
                continue
            assert caller.customer in (None, order["spec"]["customer"])
            if order in server.archived:
                assert there is None, f"{name} is live"
                continue
            seen = [
                event
                for event in server.api.events
                if event[2]["metadata"]["uid"] == order["metadata"]["uid"]
                and version_of(event[2]) == version_of(order)
            ]
            assert len(seen) == 1, f"{name} was never so"
            deleted_at = [
                version_of(event[2])
                for event in server.api.events
                if event[1] == "DELETED" and event[2]["metadata"]["uid"] == order["metadata"]["uid"]
            ]
            assert not deleted_at or door.watch.seen < deleted_at[0], f"{name} came back"


async def check_exact(server: WatchedServer, door: FrontDoor) -> None:
    """A door that has heard everything shows the same as the server."""
    assert door.watch.is_current
    await check_reads(server, door)
    # An order that is back with a backup is shown as it is there, whatever phase the archive has of it.
    in_memory = {name for name in NAMES if door.held.get((SHOP, name))}
    for caller in (SELLER, customer("ada"), customer("eve")):
        for phase in (None, "Pending", *PHASES):
            newest_first = server.names(caller.customer, phase)
            held = [name for name in newest_first if name in in_memory]
            rest = sorted(set(newest_first) - set(held))
            assert held + rest == newest_first or not door.held.holds_all_of(SHOP)
            by_time = server.by_time(caller.customer, phase, in_memory)
            for limit in (1, 3):
                assert await door.names(caller, Criteria(phase=phase), limit) == by_time + rest
    for name in server.names():
        order: Any = await door.reader.read(SELLER, name)
        assert version_of(order) == version_of(server.api.objects[Kind.ORDER, SHOP, name])
