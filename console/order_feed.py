"""The changes of a list of orders, for one browser that looks at it."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing
from typing import Protocol

from orderplane.client.order_stream import ChangeKind, OrderChange
from orderplane.client.responses import Order

QUIET_SECONDS = 10.0
"""After so long without a change, something is said, so that it is seen whether anybody still listens."""


class Stream(Protocol):
    """The changes of `client.orders.Orders.watch_all`, which can be ended."""

    def __aiter__(self) -> AsyncIterator[OrderChange]: ...
    async def __anext__(self) -> OrderChange: ...
    async def aclose(self) -> None: ...


async def changes(stream: Stream, *, is_over: Callable[[], bool]) -> AsyncIterator[Order | None]:
    """The orders of the list, and again whenever one changes; None now and then where nothing does.

    Args:
        is_over: Whether to end.

    Raises:
        ApiProblem: the login has ended, or the API failed for long.
    """
    async with aclosing(stream):
        while not is_over():
            following = asyncio.ensure_future(anext(stream))
            try:
                while not (await asyncio.wait({following}, timeout=QUIET_SECONDS))[0]:
                    if is_over():
                        return
                    yield None
                change = following.result()
            except StopAsyncIteration:
                return
            finally:
                if not following.done():
                    following.cancel()
                    await asyncio.gather(following, return_exceptions=True)
            if change.kind is ChangeKind.ORDER and change.order is not None:
                yield change.order
