"""Streams of orders, over connections that end and break."""

import json
from contextlib import aclosing

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orderplane.client import order_stream
from orderplane.client.accounts import MemoryTokenStore, Tokens
from orderplane.client.client import Client
from orderplane.client.event_stream import EventReader, ServerEvent
from orderplane.client.order_stream import ChangeKind, OrderChange
from orderplane.client.transport import ApiProblem, Transport

from .conftest import PROBLEM, Script


@pytest.fixture(autouse=True)
def _no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(order_stream, "_FIRST_PAUSE", 0.001)


@pytest.fixture
def client(transport: Transport) -> Client:
    return Client(transport, token_store=MemoryTokenStore(Tokens("t", 1e12)))


def order(phase: str, id_: int | None = None) -> str:
    line = f"id: {id_}-00000000\n" if id_ is not None else ""
    return f"event: order\n{line}data: {json.dumps({'id': 'o-1', 'phase': phase})}"


RESET, SYNCED = 'event: reset\ndata: {"code":"started"}', "event: synced\nid: 1-00000000\ndata: {}"
TOO_OLD = 'event: reset\ndata: {"code":"too_old"}'
END = 'event: end\ndata: {"code":"leaving"}'


async def test_an_order_is_followed_until_it_is_finished(script: Script, client: Client) -> None:
    script.stream("retry: 1", RESET, order("Pending"), SYNCED, order("Pending", 2), order("Paid", 3), END)
    script.hang_up().then(503, PROBLEM, Retry_After="0").then(401, {**PROBLEM, "code": "no"})
    with pytest.raises(ApiProblem, match="no"):
        async for _ in client.orders.watch("o-1"):
            pass
    script.stream(RESET, order("Pending"), SYNCED, order("Paid", 3)).hang_up()
    script.stream(": \nid: 4-00000000", order("Delivered", 5))
    script.asked.clear()
    seen = [each["phase"] async for each in client.orders.watch("o-1")]
    # What looks the same is told once.
    assert seen == ["Pending", "Paid", "Delivered"]
    assert {asked.path for asked in script.asked} == {"/api/orders/o-1/watch"}
    assert [asked.headers.get("Last-Event-ID") for asked in script.asked] == [
        None, "3-00000000", "3-00000000",
    ]  # fmt: skip


async def test_all_orders_are_followed(script: Script, client: Client) -> None:
    script.stream(RESET, SYNCED, "event: news\ndata: {}", END)
    script.stream(TOO_OLD, order("Paid"), SYNCED, 'event: gone\nid: 2-00000000\ndata: {"id":"o-1"}')
    seen: list[OrderChange] = []
    async with aclosing(client.orders.watch_all(phase="Paid", limit=0)) as changes:
        async for change in changes:
            seen.append(change)
            if change.kind is ChangeKind.GONE:
                break
    assert [(change.kind.value, change.id, change.is_gap) for change in seen] == [
        ("reset", "", False), ("synced", "", False),
        ("reset", "", True), ("order", "o-1", False), ("synced", "", False), ("gone", "o-1", False),
    ]  # fmt: skip
    assert [asked.path for asked in script.asked] == ["/api/orders/watch?phase=Paid&limit=0"] * 2


async def test_a_refusal_ends_it_and_so_does_an_order_that_is_gone(script: Script, client: Client) -> None:
    script.then(404, {**PROBLEM, "code": "order_not_found"})
    with pytest.raises(ApiProblem, match="order_not_found"):
        await anext(client.orders.watch("o-1"))
    script.stream(RESET, order("Paid"), SYNCED, 'event: gone\nid: 2-00000000\ndata: {"id":"o-1"}')
    script.then(404, {**PROBLEM, "code": "order_not_found"})
    with pytest.raises(ApiProblem, match="order_not_found"):
        async for _ in client.orders.watch("o-1"):
            pass


async def test_an_order_that_has_left_the_cluster_is_followed_by_reads(
    script: Script, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(order_stream, "_LEFT_SECONDS", 0.001)
    script.stream(RESET, order("Shipped"), SYNCED, 'event: gone\nid: 2-00000000\ndata: {"id":"o-1"}')
    for phase in ("Shipped", "Shipped", "Delivered"):
        script.then(200, {"id": "o-1", "phase": phase})
    assert [seen["phase"] async for seen in client.orders.watch("o-1")] == ["Shipped", "Delivered"]
    assert [asked.path for asked in script.asked][1:] == ["/api/orders/o-1"] * 3


async def test_a_gateway_that_stays_away_is_told(script: Script, client: Client) -> None:
    for _ in range(40):
        script.hang_up()
    with pytest.raises(ApiProblem, match="no_answer"):
        async for _ in order_stream.follow(client.caller, "/api/orders/watch", {}, retry_seconds=1.0):
            pass
    script.answers.clear()


@given(data=st.data())
def test_a_stream_is_read_in_pieces_of_any_size(data: st.DataObject) -> None:
    text = b'retry: 1500\r\n\r\n: comment\nid: 7-a\n\nevent: order\nid: 8-b\ndata: {"a": 1}\n\ndata:x\n\n'
    cuts = sorted(data.draw(st.lists(st.integers(0, len(text)), max_size=6)))
    reader, events = EventReader("1-0"), []
    for start, end in zip([0, *cuts], [*cuts, len(text)], strict=True):
        events += reader.feed(text[start:end])
    assert events == [ServerEvent("order", '{"a": 1}', "8-b"), ServerEvent("message", "x", None)]
    assert (reader.last_id, reader.retry_seconds) == ("8-b", 1.5)
