"""What consumers rely on, written down as pacts: pacts/CONSUMER.json.

A pact changes only on purpose: ORDERPLANE_WRITE_PACTS=1 scripts/test tests/contracts writes them anew.
"""

import asyncio
import json
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from aiohttp import web
from pact import Pact, Verifier, match

from orderplane.client.accounts import MemoryTokenStore, Tokens
from orderplane.client.client import Client
from orderplane.client.transport import ApiProblem, Transport, connect

FOLDER = Path(__file__).parent / "pacts"
GATEWAY, TOPICS = "gateway", "topics"
"""The providers."""

_TOKEN = "eyJ.e30.c2ln"
_BEARER = match.regex(f"Bearer {_TOKEN}", regex=r"Bearer [\w-]+\.[\w-]+\.[\w-]+")


@dataclass(frozen=True, slots=True)
class Wanted:
    """One thing that a consumer relies on.

    Args:
        state: What has to be so at the gateway, and with what it is told (see `test_provider.STATES`).
        ask: Sends the request, by the client's own code.
        body: JSON, or a form as text.
        answer: What the consumer needs of the answer; its types count, and of a problem its code. None: there
            is no body.
    """

    what: str
    state: tuple[str, Mapping[str, str]] | None
    ask: Callable[[Transport], Awaitable[object]]
    method: str
    path: str
    status: int
    answer: Any
    query: Mapping[str, str] = field(default_factory=dict)
    headers: Mapping[str, Any] = field(default_factory=dict)
    body: Any = None
    answer_headers: Mapping[str, Any] = field(default_factory=dict)
    is_public: bool = False


async def tell(consumer: str, wanted: Sequence[Wanted]) -> None:
    """Ask a stand-in for all that is wanted, and see that the committed pact says the same."""
    pact = Pact(consumer, GATEWAY).with_specification("V4")
    for one in wanted:
        _describe(pact, one)
    with pact.serve("127.0.0.1", raises=True) as server:
        async with connect(str(server.url)) as transport:
            for one in wanted:
                await one.ask(transport)
    keep(pact, consumer)


def keep(pact: Pact, consumer: str) -> None:
    """See that the committed pact is this one; or make it this one, where that is asked for."""
    with TemporaryDirectory() as folder:
        pact.write_file(folder)
        (file,) = Path(folder).iterdir()
        told = json.loads(file.read_text())
    # Which library wrote it is no part of the contract.
    told["metadata"] = {"pactSpecification": told["metadata"]["pactSpecification"]}
    told["interactions"].sort(key=lambda interaction: interaction["description"])
    text = json.dumps(told, indent=2, sort_keys=True) + "\n"
    committed = FOLDER / f"{consumer}.json"
    if os.environ.get("ORDERPLANE_WRITE_PACTS"):
        committed.write_text(text)
    assert committed.exists(), f"There is no pact of {consumer} yet. {__doc__}"
    assert committed.read_text() == text, f"The pact of {consumer} is not what it relies on. {__doc__}"


def _describe(pact: Pact, wanted: Wanted) -> None:
    interaction = pact.upon_receiving(wanted.what)
    if wanted.state is not None:
        name, parameters = wanted.state
        interaction.given(name, **parameters)
    interaction.with_request(wanted.method, wanted.path)
    interaction.with_query_parameters(wanted.query)
    headers = wanted.headers if wanted.is_public else {"Authorization": _BEARER, **wanted.headers}
    interaction.with_headers(headers, "Request")
    if isinstance(wanted.body, str):
        interaction.with_body(wanted.body, "application/x-www-form-urlencoded", "Request")
    elif wanted.body is not None:
        interaction.with_body(wanted.body, "application/json", "Request")
    interaction.will_respond_with(wanted.status).with_headers(wanted.answer_headers, "Response")
    if wanted.answer is not None:
        kind = "application/json" if wanted.status < 400 else "application/problem+json"
        interaction.with_body(wanted.answer, kind, "Response")


def logged_in(transport: Transport) -> Client:
    """Somebody who has a token."""
    return Client(transport, token_store=MemoryTokenStore(Tokens(_TOKEN, 1e12)))


async def refused(request: Awaitable[object], code: str) -> None:
    """The client tells the problem by its code."""
    try:
        await request
    except ApiProblem as refusal:
        assert refusal.code == code
    else:
        raise AssertionError(f"{code} was not told")


def problem(code: str, status: int) -> dict[str, Any]:
    """What a consumer needs of a problem."""
    return {"code": code, "status": status, "detail": match.like("What to do.")}


async def kept(verifier: Verifier) -> None:
    """See that a provider does as a pact says; what it does otherwise is told in full."""
    verifier.set_request_timeout(60_000).set_coloured_output(enabled=False).set_error_on_empty_pact()
    try:
        await asyncio.to_thread(verifier.verify)
    except RuntimeError as broken:
        raise AssertionError(verifier.output(strip_ansi=True)) from broken


@asynccontextmanager
async def listening(answer: Callable[[web.Request], Awaitable[web.Response]]) -> AsyncIterator[int]:
    """Where the verifier asks us to do something: the port. (The library's own server leaves its socket.)"""
    app = web.Application()
    app.router.add_post("/", answer)
    runner = web.AppRunner(app)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        yield runner.addresses[0][1]
    finally:
        await runner.cleanup()
