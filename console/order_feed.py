"""The changes of a list of orders, for one browser that looks at it."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass

from orderplane.client.responses import Order, OrderPage
from orderplane.client.transport import ApiProblem

EVERY_SECONDS = 1.5
FAILURES = 20
"""So often in a row the API may fail, half a minute in all, before a stream ends; the browser comes back."""

ReadPage = Callable[[], Awaitable[OrderPage]]


@dataclass(frozen=True, slots=True)
class Change:
    """An order of the list as it is now; `is_new` if the browser may not have it yet."""

    order: Order
    is_new: bool


async def changes(read: ReadPage, *, is_over: Callable[[], bool]) -> AsyncIterator[list[Change]]:
    """What changes on the first page of a list; an empty list where nothing did, so that the caller can see
    whether anybody still listens.

    Args:
        read: Reads the page.
        is_over: Whether to end.

    Raises:
        ApiProblem: the login has ended, or the API failed for long.
    """
    known: dict[str, object] | None = None
    failures = 0
    while not is_over():
        try:
            page = (await read())["items"]
            failures = 0
        except ApiProblem as problem:
            failures += 1
            if problem.status in (401, 403) or failures > FAILURES:
                raise
            yield []
            await asyncio.sleep(EVERY_SECONDS)
            continue
        seen = {order["id"]: _shown(order) for order in page}
        if known is None:
            # What has changed since the page was made is sent once more: it replaces itself.
            yield [Change(order, is_new=False) for order in page]
        else:
            before = known
            yield [
                Change(order, is_new=order["id"] not in before)
                for order in reversed(page)
                if before.get(order["id"]) != seen[order["id"]]
            ]
        # An order that has left the page, because newer ones came, must not come back as a new one.
        known = {**dict(list((known or {}).items())[-500:]), **seen}
        await asyncio.sleep(EVERY_SECONDS)


def _shown(order: Order) -> object:
    return (
        order["phase"],
        order["reason"],
        order["cancelRequested"],
        len(order["conditions"]),
        [condition["type"] for condition in order["conditions"] if condition["status"] == "True"],
    )
