"""Run a synchronous SDK on the event loop: where it waits for the network, the loop goes on.

The SDK's code runs in a greenlet of its own, which hands a coroutine out wherever it would wait. No thread
has to be woken, several times a call, to ask for the interpreter; and a call that is cancelled ends.
Source: https://greenlet.readthedocs.io/, and SQLAlchemy, which does the same for its ORM:
https://docs.sqlalchemy.org/en/20/orm/extensions/asyncio.html
"""

from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from greenlet import getcurrent, greenlet

T = TypeVar("T")


async def run_sdk(call: Callable[[], T]) -> T:
    """Make a call of an SDK whose waiting is done by `await_in_sdk`; raises what the SDK raises.

    Whatever else the SDK does that blocks, blocks the loop.
    """
    sdk = greenlet(call)
    # A coroutine while the SDK waits, at the end its answer.
    given: Any = sdk.switch()
    while not sdk.dead:
        try:
            came = await given
        except BaseException as problem:  # it is the SDK's to deal with, a cancellation too
            given = sdk.throw(problem)
        else:
            given = sdk.switch(came)
    answer: T = given
    return answer


def await_in_sdk(work: Coroutine[Any, Any, T]) -> T:
    """Called by the SDK's code inside of `run_sdk`: wait without blocking; raises what `work` raises.

    Raises:
        RuntimeError: the SDK is not run by `run_sdk`.
    """
    outside = getcurrent().parent
    if outside is None:
        work.close()
        raise RuntimeError("there is no event loop to wait on: the SDK has to be called by `run_sdk`")
    came: T = outside.switch(work)
    return came
