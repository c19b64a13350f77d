"""Requests to webhook endpoints: to allowed addresses only, each within its time, with a bounded answer."""

import asyncio
import socket
import ssl
import time
from collections.abc import AsyncIterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import aiohttp
from aiohttp.abc import AbstractResolver

from orderplane import __version__
from orderplane.adapters.webhook_endpoints.addresses import Networks, is_allowed

MAX_ANSWER = 2048
"""Bytes of an answer that are read and kept."""

CONNECT_SHARE = 1 / 3
"""The part of the time of an attempt in which the host has to be found and connected to."""

LOOKUPS = 64
"""Names that are looked up at the same time: a name server that does not answer must not delay others."""


class AddressRefused(OSError):  # noqa: N818
    """The address of the host is none that requests may go to. Nothing was sent there."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What came of a request.

    Args:
        status: None where there was no answer in time.
        failure: Why there was none; CamelCase.
        text: The first 2 kB.
        retry_after: Seconds after which the endpoint wants the next request.
        seconds: How long it took.
    """

    status: int | None
    failure: str | None
    text: str
    retry_after: float | None
    seconds: float


class EndpointClient:
    """Sends requests to endpoints. Redirects are not followed, and no cookie is kept.

    Args:
        timeout_seconds: In which an answer has to be complete.
    """

    def __init__(self, session: aiohttp.ClientSession, timeout_seconds: float) -> None:
        self._session = session
        self._timeout_seconds = timeout_seconds

    async def post(self, url: str, headers: Mapping[str, str], body: bytes) -> Answer:
        """Send one request. Every failure of the endpoint is an answer, too."""
        began = time.monotonic()
        status, failure, text, retry_after = None, None, "", None
        try:
            async with (
                asyncio.timeout(self._timeout_seconds),
                self._session.post(url, headers=headers, data=body, allow_redirects=False) as response,
            ):
                # From here on the endpoint has decided, whatever becomes of the rest of its answer.
                status, retry_after = response.status, _retry_after(response.headers)
                text = await _read(response)
        except TimeoutError:
            failure = "TimedOut"
        except aiohttp.ClientError as problem:
            failure = _failure(problem)
        except ValueError:
            # aiohttp raises it for URLs, and for answers that are not HTTP.
            failure = "NotHttp"
        failure = None if status is not None else failure
        return Answer(status, failure, text, retry_after, time.monotonic() - began)


@asynccontextmanager
async def open_client(
    *,
    timeout_seconds: float,
    networks: Networks,
    resolver: AbstractResolver | None = None,
    tls: ssl.SSLContext | None = None,
) -> AsyncIterator[EndpointClient]:
    """A client with its own connections.

    Args:
        networks: Where endpoints may be.
        resolver: By default that of the system.
        tls: By default with the authorities of the system.
    """

    def open_socket(address: Any) -> socket.socket:
        # The last moment before a connection, on the very address: no name is looked up after it.
        family, kind, protocol, _, (host, port, *_) = address
        if not is_allowed(host, port, networks):
            raise AddressRefused("the address is not public")
        return socket.socket(family, kind, protocol)

    executor = ThreadPoolExecutor(LOOKUPS, thread_name_prefix="lookup")
    connector = aiohttp.TCPConnector(
        limit=0,  # the deliverer bounds what is under way
        ssl=tls if tls is not None else True,
        resolver=resolver or _Resolver(executor),
        socket_factory=open_socket,
    )
    try:
        async with aiohttp.ClientSession(
            connector=connector,
            cookie_jar=aiohttp.DummyCookieJar(),
            timeout=aiohttp.ClientTimeout(total=None, connect=timeout_seconds * CONNECT_SHARE),
            headers={"User-Agent": f"Orderplane/{__version__}", "Accept-Encoding": "identity"},
            auto_decompress=False,
        ) as session:
            yield EndpointClient(session, timeout_seconds)
    finally:
        executor.shutdown(wait=False, cancel_futures=True)


class _Resolver(AbstractResolver):
    """The system's resolver, with threads of its own."""

    def __init__(self, executor: ThreadPoolExecutor) -> None:
        self._executor = executor

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[Any]:
        def look_up() -> list[Any]:
            return socket.getaddrinfo(host, port, family=family, type=socket.SOCK_STREAM)

        found = await asyncio.get_running_loop().run_in_executor(self._executor, look_up)
        return [
            {
                "hostname": host, "host": str(address[0]), "port": port, "family": kind,
                "proto": protocol, "flags": socket.AI_NUMERICHOST,
            }
            for kind, _, protocol, _, address in found
        ]  # fmt: skip

    async def close(self) -> None:
        """Nothing is open."""


async def _read(response: aiohttp.ClientResponse) -> str:
    """The beginning of the answer, as text that PostgreSQL can keep; a longer one ends the connection."""
    kept = bytearray()
    while len(kept) < MAX_ANSWER and (chunk := await response.content.read(MAX_ANSWER - len(kept))):
        kept += chunk
    return kept.decode(errors="replace").replace("\0", "\ufffd")


def _failure(problem: aiohttp.ClientError) -> str:
    if isinstance(problem, aiohttp.ClientConnectorDNSError):
        return "NoSuchHost"
    if isinstance(problem, aiohttp.ClientSSLError | aiohttp.ClientConnectorCertificateError):
        return "TlsFailed"
    if isinstance(problem, aiohttp.ClientConnectorError):
        return "AddressRefused" if isinstance(problem.os_error, AddressRefused) else "NotConnected"
    if isinstance(problem, aiohttp.ServerTimeoutError):
        return "TimedOut"
    if isinstance(problem, aiohttp.ClientResponseError | aiohttp.InvalidURL):
        return "NotHttp"
    return "Disconnected"


def _retry_after(headers: Mapping[str, str]) -> float | None:
    """RFC 9110, 10.2.3; a date is left out, because the clocks may differ."""
    text = headers.get("Retry-After", "").strip()
    return float(text) if text.isdecimal() and len(text) <= 6 else None
