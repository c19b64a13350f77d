"""Requests to receivers that misbehave, and to addresses that must not be reached."""

import asyncio
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from aiohttp.abc import AbstractResolver

from orderplane.adapters.webhook_endpoints.addresses import Networks, parse_networks
from orderplane.adapters.webhook_endpoints.client import MAX_ANSWER, Answer, open_client

PUBLIC = parse_networks("public")
LOOPBACK = parse_networks("public, 127.0.0.0/8, ::1/128")
Answering = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


class Names(AbstractResolver):
    """A name server that says something else each time."""

    def __init__(self, *answers: list[str]) -> None:
        self.answers = list(answers)
        self.asked = 0

    async def resolve(self, host: str, port: int = 0, family: Any = socket.AF_INET) -> list[Any]:
        found = self.answers[min(self.asked, len(self.answers) - 1)]
        self.asked += 1
        return [
            {"hostname": host, "host": each, "port": port, "proto": 0, "flags": 0,
             "family": socket.AF_INET6 if ":" in each else socket.AF_INET}
            for each in found
        ]  # fmt: skip

    async def close(self) -> None:
        pass


class Receiver:
    """A server on loopback, which counts its connections."""

    def __init__(self) -> None:
        self.connections = 0
        self.port = 0


@asynccontextmanager
async def receiver(answering: Answering) -> AsyncIterator[Receiver]:
    made = Receiver()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        made.connections += 1
        try:
            await answering(reader, writer)
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    made.port = server.sockets[0].getsockname()[1]
    try:
        yield made
    finally:
        server.close()


def says(text: bytes, *, then: bytes = b"", after: float = 0.0) -> Answering:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        assert b"whsec" not in head
        writer.write(text)
        await writer.drain()
        await asyncio.sleep(after)
        writer.write(then)
        await writer.drain()

    return answer


async def never(reader: asyncio.StreamReader, _: asyncio.StreamWriter) -> None:
    while await reader.read(1024):
        pass


async def hang_up(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.close()


async def post(
    url: str, networks: Networks = LOOPBACK, *, seconds: float = 0.5, names: AbstractResolver | None = None
) -> Answer:
    async with open_client(timeout_seconds=seconds, networks=networks, resolver=names) as client:
        return await client.post(url, {"Content-Type": "application/json"}, b"{}")


OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


@pytest.mark.parametrize(
    ("answering", "status", "failure", "text"),
    [
        (says(OK), 200, None, "ok"),
        (says(b"HTTP/1.1 204 No Content\r\n\r\n"), 204, None, ""),
        (says(b"HTTP/1.1 500 Oops\r\nContent-Length: 4\r\n\r\n\x00\xffno"), 500, None, "\ufffd\ufffdno"),
        (says(b"HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1/\r\n\r\n"), 302, None, ""),
        (never, None, "TimedOut", ""),
        (says(b"", then=OK, after=2), None, "TimedOut", ""),
        (says(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nbegin", then=b"!end", after=2), 200, None, ""),
        (hang_up, None, "Disconnected", ""),
        (says(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nbegin"), 200, None, ""),
        (says(b"SSH-2.0-OpenSSH_9.6\r\n\r\n"), None, "NotHttp", ""),
        (says(b"HTTP/1.1 200 OK\r\nX: " + b"x" * 100_000), None, "NotHttp", ""),
    ],
    ids=[
        "answers", "answers with nothing", "answers with what is no text", "redirects", "hangs",
        "answers late", "ends its answer late", "closes", "closes in its answer", "is no server of HTTP",
        "has endless headers",
    ],
)  # fmt: skip
async def test_every_receiver_gives_an_answer_in_time(
    answering: Answering, status: int | None, failure: str | None, text: str
) -> None:
    async with receiver(answering) as there:
        answer = await post(f"http://127.0.0.1:{there.port}/")
    assert (answer.status, answer.failure, answer.text) == (status, failure, text)
    assert answer.seconds < 1.5
    assert there.connections == 1, "no redirect is followed, and nothing is sent twice"


async def test_a_long_answer_is_read_to_its_bound() -> None:
    body = b"a" * 10_000_000
    async with receiver(says(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body) + body)) as there:
        answer = await post(f"http://127.0.0.1:{there.port}/")
    assert (answer.status, answer.text) == (200, "a" * MAX_ANSWER)


@pytest.mark.parametrize(
    ("value", "seconds"), [("120", 120), ("soon", None), ("-1", None), ("9999999", None)]
)
async def test_a_wish_to_wait_is_read(value: str, seconds: float | None) -> None:
    head = f"HTTP/1.1 429 Slow\r\nRetry-After: {value}\r\nContent-Length: 0\r\n\r\n"
    async with receiver(says(head.encode())) as there:
        answer = await post(f"http://127.0.0.1:{there.port}/")
    assert (answer.status, answer.retry_after) == (429, seconds)


async def test_nobody_is_there() -> None:
    async with receiver(never) as there:
        port = there.port
    assert (await post(f"http://127.0.0.1:{port}/")).failure == "NotConnected"
    names = Names(["127.0.0.1"])
    assert (await post("https://erp.example/", names=names, seconds=2)).failure in (
        "NotConnected",
        "TlsFailed",
    )


LITERALS = [
    "127.0.0.1", "[::1]", "[::ffff:127.0.0.1]", "[::ffff:7f00:1]", "2130706433", "0x7f000001", "0177.0.0.1",
    "0x7f.1", "127.1", "0", "localhost", "LOCALHOST", "localhost.", "127.0.0.1.",
]  # fmt: skip


@pytest.mark.parametrize("host", LITERALS)
async def test_no_spelling_of_loopback_is_connected_to(host: str) -> None:
    """Whatever the URL says, it is the address of the socket that counts."""
    async with receiver(says(OK)) as there:
        answer = await post(f"http://{host}:{there.port}/", PUBLIC)
        assert answer.status is None
        assert answer.failure in ("AddressRefused", "NoSuchHost", "NotHttp")
        assert there.connections == 0


@pytest.mark.parametrize(
    "addresses",
    [
        ["127.0.0.1"], ["::1"], ["::ffff:127.0.0.1"], ["10.0.0.1"], ["169.254.169.254"], ["64:ff9b::7f00:1"],
        ["2002:7f00:1::1"], ["fe80::1"], ["0.0.0.0"], ["127.0.0.1", "::1"],  # noqa: S104
    ],
    ids=" ".join,
)  # fmt: skip
async def test_a_name_of_a_private_address_is_refused(addresses: list[str]) -> None:
    async with receiver(says(OK)) as there:
        answer = await post(f"http://erp.example:{there.port}/", PUBLIC, names=Names(addresses))
        assert (answer.status, answer.failure) == (None, "AddressRefused")
        assert there.connections == 0


async def test_a_name_that_changes_its_address_reaches_nothing() -> None:
    """Rebinding: public when it is looked at, loopback when it is connected to."""
    async with receiver(says(OK)) as there:
        names = Names(["192.0.2.1"], ["127.0.0.1"])
        async with open_client(timeout_seconds=0.5, networks=PUBLIC, resolver=names) as client:
            for _ in range(3):
                answer = await client.post(f"http://erp.example:{there.port}/", {}, b"{}")
                assert answer.status is None
        assert there.connections == 0


async def test_of_several_addresses_only_the_allowed_ones_are_tried() -> None:
    async with receiver(says(OK)) as there:
        names = Names(["10.255.255.1", "127.0.0.1"])
        answer = await post(f"http://erp.example:{there.port}/", names=names)
    assert answer.status == 200
