"""SMS through Twilio's SDK: https://www.twilio.com/docs/messaging/api/message-resource"""

import logging
from collections.abc import AsyncIterator, Mapping
from functools import partial
from typing import Any, Self

import aiohttp
from twilio.base.exceptions import TwilioException, TwilioRestException, TwilioServiceException
from twilio.http import AsyncHttpClient
from twilio.http.response import Response
from twilio.rest import Client

from orderplane.adapters.providers import NEVER_SENT, RECOVERY_SECONDS, ProviderCalls, open_session
from orderplane.crds.reasons import Reason
from orderplane.events.notifications import parse_sms_reference
from orderplane.ledgers.errors import Refused, Transient, Unclear

log = logging.getLogger(__name__)

TWILIO = "https://api.twilio.com"
PAGE_SIZE = 200
MAX_MESSAGES_SEARCHED = 200
"""How many messages to a number are searched, newest first, for one whose sending was not confirmed."""


class TwilioSms:
    """Implements `SmsProvider` and `Outgoing` of `workers.notifier.channels`; an async context manager.

    Args:
        login: `ACCOUNT_SID:AUTH_TOKEN`.
        sender: The number or alphanumeric name that messages come from.
        url: The API's base address.
        timeout_seconds: The most that one call may take.
    """

    def __init__(
        self,
        login: str,
        sender: str,
        url: str = TWILIO,
        *,
        timeout_seconds: float = 8.0,
        failure_threshold: int = 8,
        recovery_seconds: float = RECOVERY_SECONDS,
    ) -> None:
        self._login = login
        self._sender = sender
        self._url = url
        self._timeout_seconds = timeout_seconds
        self._calls = ProviderCalls(
            "sms", classify_error, failure_threshold=failure_threshold, recovery_seconds=recovery_seconds
        )
        self._session: aiohttp.ClientSession | None = None
        self._client: Client | None = None

    async def __aenter__(self) -> Self:
        self._session = open_session(self._timeout_seconds)
        await self.use_login(self._login)
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._session is not None:
            await self._session.close()

    async def use_login(self, login: str) -> None:
        """Make every later call with this login."""
        assert self._session is not None, "the SMS provider is not open"
        account, _, token = login.partition(":")
        client = Client(account, token, http_client=_HttpClient(self._session))
        client.api.base_url = self._url
        self._client = client

    async def send(self, to: str, text: str) -> str:
        async def create() -> str:
            return str((await self._messages.create_async(to=to, from_=self._sender, body=text)).sid)

        return await self._calls.once("send", create)

    async def find(self, to: str, reference: str) -> str | None:
        async def search() -> str | None:
            async for message in await self._messages.stream_async(
                to=to, limit=MAX_MESSAGES_SEARCHED, page_size=PAGE_SIZE
            ):
                if parse_sms_reference(message.body or "") == reference:
                    return str(message.sid)
            return None

        return await self._calls.with_retries("find", search)

    async def references(self) -> AsyncIterator[str]:
        read = partial(self._messages.page_async, from_=self._sender, page_size=PAGE_SIZE)
        while True:
            page = await self._calls.with_retries("list", read)
            for message in page:
                yield parse_sms_reference(message.body or "") or str(message.sid)
            if not page.next_page_url:
                return
            read = partial(self._messages.get_page_async, page.next_page_url)

    @property
    def _messages(self) -> Any:
        assert self._client is not None, "the SMS provider is not open"
        return self._client.messages


class _HttpClient(AsyncHttpClient):  # type: ignore[misc]
    """Replaces the SDK's HTTP client, whose use of `aiohttp.BasicAuth` makes aiohttp warn."""

    def __init__(self, session: aiohttp.ClientSession) -> None:
        super().__init__(log, True, None)
        self._session = session

    async def request(
        self,
        method: str,
        url: str,
        params: Mapping[str, Any] | None = None,
        data: Mapping[str, Any] | None = None,
        headers: Mapping[str, str] | None = None,
        auth: tuple[str, str] | None = None,
        timeout: float | None = None,  # noqa: ASYNC109
        allow_redirects: bool = False,
    ) -> Response:
        all_headers = dict(headers or {})
        if auth is not None:
            all_headers["Authorization"] = aiohttp.encode_basic_auth(*auth)
        async with self._session.request(
            method, url, params=params, data=data, headers=all_headers, allow_redirects=allow_redirects
        ) as answer:
            return Response(answer.status, await answer.text(), answer.headers)


def classify_error(problem: Exception) -> Transient | Refused | None:
    """What an exception of the SDK or of aiohttp means for the message.

    Source: https://www.twilio.com/docs/usage/twilios-response
    """
    match problem:
        case TwilioRestException() | TwilioServiceException() if problem.status < 500:
            return _refusal(problem.status, problem.code)
        case _ if isinstance(problem, NEVER_SENT):
            return Transient(Reason.SMS_UNAVAILABLE, "the SMS provider cannot be reached")
        case TwilioException() | aiohttp.ClientError() | OSError() | ValueError():
            # ValueError: the answer is not JSON.
            return Unclear(Reason.SMS_UNCLEAR, "the SMS provider did not say whether it took the message")
        case _:
            return None


def _refusal(status: int, code: int | None) -> Transient | Refused:
    if status == 429:
        return Transient(Reason.SMS_BUSY, "the SMS provider asks to wait", retry_after=1.0)
    if status in (401, 403):
        # A fault of our account, not of the customer's number: no message may be given up because of it.
        return Transient(Reason.SMS_UNAUTHORIZED, "the SMS provider refuses our account; check its login")
    return Refused(Reason.SMS_REFUSED, f"The SMS provider refuses the message (error {code}).")
