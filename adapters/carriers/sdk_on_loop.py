"""Run the synchronous EasyPost SDK on the event loop, without threads.

The SDK runs in a greenlet. Where it would block on the network, it switches a coroutine out to the task that
called it, and continues when that task has awaited it. So a call needs no thread and can be cancelled.
SQLAlchemy does the same: https://docs.sqlalchemy.org/en/20/orm/extensions/asyncio.html. The reasons and
measurements are in docs/decisions/0016-sdks-on-the-loop.md.
"""

from collections.abc import Callable, Coroutine, Mapping
from typing import Any, NamedTuple, TypeVar
from urllib.parse import urlencode

import aiohttp
from greenlet import getcurrent, greenlet
from yarl import URL

T = TypeVar("T")


async def run_sdk(call: Callable[[], T]) -> T:
    """Call SDK code that does its waiting through `await_in_sdk`; raises what the SDK raises.

    Anything else in it that blocks, blocks the event loop.
    """
    sdk = greenlet(call)
    # Each switch returns a coroutine to await, or the call's result when the greenlet has ended.
    switched: Any = sdk.switch()
    while not sdk.dead:
        try:
            result = await switched
        except BaseException as problem:  # CancelledError too: the SDK's `finally` blocks have to run
            switched = sdk.throw(problem)
        else:
            switched = sdk.switch(result)
    returned: T = switched
    return returned


def await_in_sdk(work: Coroutine[Any, Any, T]) -> T:
    """Await a coroutine from synchronous code inside `run_sdk`; raises what `work` raises.

    Raises:
        RuntimeError: the caller does not run inside `run_sdk`.
    """
    caller = getcurrent().parent
    if caller is None:
        work.close()
        raise RuntimeError("no event loop to await on: call the SDK through `run_sdk`")
    result: T = caller.switch(work)
    return result


class SdkResponse(NamedTuple):
    """The attributes that the SDK reads of a `requests.Response`."""

    text: str
    status_code: int
    headers: Mapping[str, str]


class SdkSession:
    """Replaces the SDK's `requests.Session`: sends each request once, through aiohttp."""

    def __init__(self, session: aiohttp.ClientSession) -> None:
        self._session = session

    def request(
        self,
        *,
        method: str,
        url: str,
        params: Mapping[str, Any] | None,
        headers: Mapping[str, str],
        json: object,
        timeout: float,  # ignored: the session has the same
        verify: bool,  # ignored: aiohttp verifies certificates by default
    ) -> SdkResponse:
        query = f"?{urlencode(params, doseq=True)}" if params else ""
        return await_in_sdk(self._send(method, URL(url + query, encoded=True), headers, json))

    async def _send(self, method: str, url: URL, headers: Mapping[str, str], body: object) -> SdkResponse:
        async with self._session.request(
            method, url, headers=headers, json=body, allow_redirects=False
        ) as response:
            return SdkResponse(await response.text(), response.status, response.headers)
