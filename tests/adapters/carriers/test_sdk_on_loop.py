"""Synchronous code that waits on the loop."""

import asyncio
import contextvars

import pytest

from orderplane.adapters.carriers.sdk_on_loop import await_in_sdk, run_sdk


async def echo(what, seconds=0.0):
    await asyncio.sleep(seconds)
    return what


async def refuse():
    await asyncio.sleep(0)
    raise ConnectionResetError("gone")


async def test_it_waits_as_often_as_it_wants():
    assert await run_sdk(lambda: [await_in_sdk(echo(number)) for number in range(5)]) == [0, 1, 2, 3, 4]


async def test_what_never_waits_just_answers():
    assert await run_sdk(lambda: 7) == 7


async def test_the_loop_goes_on_meanwhile():
    def slow(name):
        return await_in_sdk(echo(name, 0.05)), order.append(name)

    order: list[str] = []
    waiting = [asyncio.create_task(run_sdk(lambda name=name: slow(name))) for name in ("a", "b")]
    await asyncio.sleep(0)
    assert order == []
    await asyncio.gather(*waiting)
    assert sorted(order) == ["a", "b"]


async def test_a_failure_is_raised_where_the_sdk_waits():
    def wraps():
        try:
            await_in_sdk(refuse())
        except ConnectionResetError as problem:
            raise ValueError("wrapped") from problem

    with pytest.raises(ValueError, match="wrapped") as told:
        await run_sdk(wraps)
    assert isinstance(told.value.__cause__, ConnectionResetError)


async def test_a_failure_can_be_dealt_with():
    def recovers():
        try:
            return await_in_sdk(refuse())
        except ConnectionResetError:
            return await_in_sdk(echo("again"))

    assert await run_sdk(recovers) == "again"


async def test_a_cancellation_ends_the_call():
    cleaned = []

    def hangs():
        try:
            await_in_sdk(asyncio.Event().wait())
        except Exception:  # as an SDK does that wraps whatever comes
            cleaned.append("swallowed")
        finally:
            cleaned.append("finally")

    call = asyncio.create_task(run_sdk(hangs))
    await asyncio.sleep(0)
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    assert cleaned == ["finally"]


async def test_what_is_awaited_belongs_to_the_task_that_called():
    here = contextvars.ContextVar("here")
    here.set("task")

    async def look():
        return here.get(), asyncio.current_task()

    assert await run_sdk(lambda: await_in_sdk(look())) == ("task", asyncio.current_task())


def test_without_a_loop_it_says_so():
    with pytest.raises(RuntimeError, match="event loop"):
        await_in_sdk(echo("nothing"))
