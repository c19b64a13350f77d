"""What a live list tells its browser: orders as they become, and nothing after the end."""

import asyncio
from collections.abc import AsyncGenerator
from typing import Any

import pytest

from orderplane.client.order_stream import ChangeKind, OrderChange
from orderplane.client.transport import ApiProblem
from orderplane.console import order_feed
from orderplane.console.order_feed import changes


def told(name: str, phase: str = "Pending") -> OrderChange:
    order: Any = {"id": name, "phase": phase}
    return OrderChange(ChangeKind.ORDER, name, order)


async def stream(*told: OrderChange | Exception) -> AsyncGenerator[OrderChange, None]:
    for each in told:
        if isinstance(each, Exception):
            raise each
        yield each


async def test_orders_are_told_as_they_are_and_as_they_become() -> None:
    source = stream(
        OrderChange(ChangeKind.RESET), told("a"), OrderChange(ChangeKind.SYNCED), told("a", "Paid"),
        OrderChange(ChangeKind.GONE, "a"), told("b"),
    )  # fmt: skip
    seen = [(order["id"], order["phase"]) async for order in changes(source, is_over=lambda: False) if order]
    assert seen == [("a", "Pending"), ("a", "Paid"), ("b", "Pending")]


async def test_a_refusal_is_passed_on() -> None:
    source = stream(told("a"), ApiProblem(401, "invalid_token", "ended"))
    with pytest.raises(ApiProblem):
        [change async for change in changes(source, is_over=lambda: False)]


async def test_a_quiet_stream_is_left_once_it_is_over(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(order_feed, "QUIET_SECONDS", 0.01)
    is_closed = asyncio.Event()

    async def quiet() -> AsyncGenerator[OrderChange, None]:
        try:
            yield told("a")
            await asyncio.Event().wait()
        finally:
            is_closed.set()

    seen: list[Any] = []
    async for change in changes(quiet(), is_over=lambda: len(seen) > 3):
        seen.append(change)  # noqa: PERF401
    assert [change is None for change in seen] == [False, True, True, True]
    assert is_closed.is_set()
