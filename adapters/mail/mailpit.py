"""Read the mails that a test server has received, for the audit: Mailpit's API.

Source: https://mailpit.axllent.org/docs/api-v1/
"""

from collections.abc import AsyncIterator
from functools import partial
from typing import Any, Self

import aiohttp

from orderplane.adapters.providers import ProviderCalls
from orderplane.crds.reasons import Reason
from orderplane.ledgers.errors import Refused, Transient

PAGE_SIZE = 200


class MailpitReader:
    """Implements `workers.notifier.channels.Outgoing`; an async context manager.

    Args:
        url: The base address of Mailpit's HTTP API.
        login: `user:password`.
    """

    def __init__(self, url: str, login: str, *, timeout_seconds: float = 10.0) -> None:
        user, _, password = login.partition(":")
        headers = {"Authorization": aiohttp.encode_basic_auth(user, password)}
        timeout = aiohttp.ClientTimeout(total=timeout_seconds)
        self._http = aiohttp.ClientSession(url, headers=headers, timeout=timeout)
        self._calls = ProviderCalls("mailbox", classify_error)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._http.close()

    async def references(self) -> AsyncIterator[str]:
        """The local part of each Message-ID: in our mails, the event's id."""
        start = 0
        while True:
            page = await self._calls.with_retries("list", partial(self._page, start))
            for found in page["messages"]:
                yield str(found["MessageID"]).partition("@")[0]
            start += len(page["messages"])
            if not page["messages"] or start >= page["total"]:
                return

    async def _page(self, start: int) -> dict[str, Any]:
        query = {"start": str(start), "limit": str(PAGE_SIZE)}
        async with self._http.get("/api/v1/messages", params=query, raise_for_status=True) as answer:
            document: dict[str, Any] = await answer.json()
            return document


def classify_error(problem: Exception) -> Transient | Refused | None:
    """A read has no effect, so every failure is `Transient`."""
    if isinstance(problem, aiohttp.ClientError | TimeoutError):
        return Transient(Reason.MAILBOX_UNAVAILABLE, "the mail server's mailbox cannot be read")
    return None
