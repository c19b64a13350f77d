"""SMS by Twilio, through its own SDK.

Source: https://www.twilio.com/docs/messaging/api/message-resource, https://www.twilio.com/docs/api/errors
"""

from collections.abc import AsyncIterator, Callable
from functools import partial
from typing import Any, Self, TypeVar

import requests
from requests.adapters import HTTPAdapter
from twilio.base.exceptions import TwilioException, TwilioRestException, TwilioServiceException
from twilio.http.http_client import TwilioHttpClient
from twilio.rest import Client
from urllib3.exceptions import NewConnectionError

from orderplane.adapters.provider_calls import ProviderCalls
from orderplane.adapters.sdk_threads import SdkThreads
from orderplane.controllers.errors import Refused, Transient, Unclear
from orderplane.notifications.words import reference_in

T = TypeVar("T")

TWILIO = "https://api.twilio.com"
PAGE = 200
LOOKED_AT = 200
"""So many messages to one number are looked at, the newest first, for one that is in doubt."""


class TwilioSms:
    """Implements `notifications.ports.SmsProvider` and `Outgoing`; an async context manager.

    Args:
        login: `ACCOUNT_SID:AUTH_TOKEN`.
        sender: The number, or name, that messages come from.
        seconds: The most that one call may take.
        threads: How many calls are under way at once.
        line: How many more may wait for a thread; the next is turned away.
    """

    def __init__(
        self,
        login: str,
        sender: str,
        url: str = TWILIO,
        *,
        seconds: float = 8.0,
        threads: int = 8,
        line: int = 64,
        threshold: int = 8,
        recovery_seconds: float = 5.0,
    ) -> None:
        self._account, _, self._token = login.partition(":")
        self._sender = sender
        self._url = url
        self._seconds = seconds
        self._threads = SdkThreads("sms", make=self._client, close=_close, threads=threads, line=line)
        self._calls = ProviderCalls("sms", verdict_on, threshold=threshold, recovery_seconds=recovery_seconds)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *error: object) -> None:
        await self._threads.__aexit__(*error)

    async def send(self, to: str, text: str) -> str:
        def create(client: Client) -> str:
            return str(client.messages.create(to=to, from_=self._sender, body=text).sid)

        with self._threads.place():
            return await self._calls.once("send", lambda: self._threads.run(create))

    async def find(self, to: str, reference: str) -> str | None:
        def look(client: Client) -> str | None:
            for message in client.messages.stream(to=to, limit=LOOKED_AT, page_size=PAGE):
                if reference_in(message.body or "") == reference:
                    return str(message.sid)
            return None

        return await self._safe("find", look)

    async def references(self) -> AsyncIterator[str]:
        def first(client: Client) -> Any:
            return client.messages.page(from_=self._sender, page_size=PAGE)

        page = await self._safe("list", first)
        while True:
            for message in page:
                yield reference_in(message.body or "") or str(message.sid)
            if not page.next_page_url:
                return
            page = await self._safe("list", partial(_after, page.next_page_url))

    async def _safe(self, operation: str, call: Callable[[Client], T]) -> T:
        with self._threads.place():
            return await self._calls.safe(operation, lambda: self._threads.run(call))

    def _client(self) -> Client:
        http = TwilioHttpClient(timeout=self._seconds, max_retries=0)
        assert http.session is not None
        http.session.mount("http://", HTTPAdapter(max_retries=0))
        http.session.trust_env = False
        client = Client(self._account, self._token, http_client=http)
        client.api.base_url = self._url
        return client


def verdict_on(problem: Exception) -> Transient | Refused | None:
    """What an exception of the SDK, or of the requests under it, means for the message that was tried."""
    match problem:
        case TwilioRestException() | TwilioServiceException() if problem.status < 500:
            return _refusal(problem.status, problem.code)
        case requests.exceptions.ConnectTimeout():
            return Transient("SmsUnavailable", "the SMS provider cannot be reached")
        case requests.exceptions.ConnectionError() if _was_never_sent(problem):
            return Transient("SmsUnavailable", "the SMS provider cannot be reached")
        case TwilioException() | requests.exceptions.RequestException() | ValueError():
            # The last is an answer that is no JSON.
            return Unclear("SmsUnclear", "the SMS provider did not say whether it took the message")
        case _:
            return None


def _refusal(status: int, code: int | None) -> Transient | Refused:
    if status == 429:
        return Transient("SmsBusy", "the SMS provider asks to wait", retry_after=1.0)
    if status in (401, 403):
        # Our account, not the customer's number: no message is to be given up for it.
        return Transient("SmsUnauthorized", "the SMS provider refuses our account; check its login")
    return Refused("SmsRefused", f"The SMS provider refuses the message (error {code}).")


def _was_never_sent(problem: requests.exceptions.ConnectionError) -> bool:
    reason = getattr(problem.args[0], "reason", None) if problem.args else None
    return isinstance(reason, NewConnectionError)


def _after(address: str, client: Client) -> Any:
    return client.messages.get_page(address)


def _close(client: Client) -> None:
    http = client.http_client
    if isinstance(http, TwilioHttpClient) and http.session is not None:
        http.session.close()
