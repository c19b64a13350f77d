"""What a live list tells its browser: what is new, what has changed, and nothing twice."""

from collections.abc import Sequence
from typing import Any

import pytest

from orderplane.client.transport import ApiProblem
from orderplane.console import order_feed
from orderplane.console.order_feed import changes


def order(name: str, phase: str = "Pending") -> Any:
    return {"id": name, "phase": phase, "reason": None, "cancelRequested": False, "conditions": []}


class Pages:
    """Answers one page after the other, then says that it is over."""

    def __init__(self, pages: Sequence[Any]) -> None:
        self._pages = list(pages)

    async def read(self) -> Any:
        page = self._pages.pop(0)
        if isinstance(page, ApiProblem):
            raise page
        return {"items": page, "next": None}

    def is_over(self) -> bool:
        return not self._pages


async def told(monkeypatch: pytest.MonkeyPatch, *pages: Any) -> list[list[tuple[str, str, bool]]]:
    monkeypatch.setattr(order_feed, "EVERY_SECONDS", 0.0)
    source = Pages(pages)
    return [
        [(change.order["id"], change.order["phase"], change.is_new) for change in batch]
        async for batch in changes(source.read, is_over=source.is_over)
    ]


async def test_new_orders_and_changed_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = await told(
        monkeypatch,
        [order("b"), order("a")],
        [order("b"), order("a")],
        [order("d"), order("c"), order("b", "Paid")],
        # `a` is on the page again, because `b` is gone; nobody is to take it for a new one.
        [order("d"), order("c"), order("a")],
    )
    assert seen == [
        [("b", "Pending", False), ("a", "Pending", False)],
        [],
        [("b", "Paid", False), ("c", "Pending", True), ("d", "Pending", True)],
        [],
    ]


async def test_a_short_failure_is_waited_for_and_an_ended_login_is_not(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    away = ApiProblem(0, "no_answer", "away")
    assert await told(monkeypatch, [order("a")], away, [order("a", "Paid")]) == [
        [("a", "Pending", False)], [], [("a", "Paid", False)],
    ]  # fmt: skip
    with pytest.raises(ApiProblem):
        await told(monkeypatch, [order("a")], ApiProblem(401, "invalid_token", "ended"), [])
    with pytest.raises(ApiProblem):
        await told(monkeypatch, *([away] * (order_feed.FAILURES + 1)), [])
