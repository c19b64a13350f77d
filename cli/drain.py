"""`orderplane drain`: bring an installation to rest before it is taken away."""

import asyncio
import os
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Annotated

import typer

from orderplane.adapters.kubernetes.client import ApiClient
from orderplane.adapters.kubernetes.new_orders import PolicyMissing, allow_new_orders, stop_new_orders
from orderplane.adapters.postgres.pool import open_pool
from orderplane.cli import documents
from orderplane.cli.console import AsJson, console, errors, fail, need, run
from orderplane.cli.documents import print_json
from orderplane.cli.exit_codes import REFUSED, WRONG_USAGE
from orderplane.crds.meta import Kind
from orderplane.ledgers.postgres.gate import PostgresGateLedger

PAGE = 500
LOOK_SECONDS = 1.0
QUIET_SECONDS = 5.0
"""The installation is at rest when no order was open for so long: an API server may need a moment to know
that new ones are refused."""

_SHOWN = 10


@dataclass(frozen=True, slots=True, order=True)
class OpenOrder:
    """An order that is not sealed: it holds stock, money or a label, or may still come to."""

    namespace: str
    name: str
    state: str


def drain(
    look: Annotated[
        bool, typer.Option("--look", help="Look once at what is open, and change nothing.")
    ] = False,
    undo: Annotated[bool, typer.Option("--undo", help="Allow new orders again.")] = False,
    timeout: Annotated[
        float | None, typer.Option(min=0, help="Seconds to wait at most; without it, as long as it takes.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Stop new orders, and wait until every order is sealed.

    An order is sealed when the carrier has its parcel, or when all of it is undone. New orders are refused
    from the gateway and from kubectl alike, until `--undo`. The operator has to run: it finishes the orders.

    Exit code 0: nothing is open. 1: orders are still open. 2: something is missing.

    Examples:

        orderplane drain --timeout 3600 && kubectl delete -k overlays/production

        orderplane drain --look --json
    """
    if look and undo:
        fail("Give --look or --undo, not both.", code=WRONG_USAGE)
    if undo:
        run(_undo())
        if as_json:
            print_json(documents.Drain(drained=False, open=(), new_orders=True))
        else:
            console.print("New orders are allowed again.")
        return
    dsn = need("ORDERPLANE_POSTGRES_DSN")
    try:
        found = run(_open_orders(dsn) if look else _drain(dsn, timeout))
    except PolicyMissing as problem:
        fail(str(problem), code=WRONG_USAGE)
    if as_json:
        print_json(as_document(found, new_orders=None if look else False))
    else:
        console.print(summary(found), markup=False, soft_wrap=True)
    raise typer.Exit(REFUSED if found else 0)


def as_document(found: list[OpenOrder], *, new_orders: bool | None) -> documents.Drain:
    """What is open, as JSON."""
    orders = (
        documents.OpenOrder(namespace=each.namespace, name=each.name, state=each.state) for each in found
    )
    return documents.Drain(drained=not found, open=tuple(orders), new_orders=new_orders)


def summary(found: list[OpenOrder]) -> str:
    """What is open, in a line."""
    if not found:
        return "Drained: every order is sealed."
    named = ", ".join(f"{each.namespace}/{each.name} ({each.state})" for each in found[:_SHOWN])
    more = f" and {len(found) - _SHOWN} more" if len(found) > _SHOWN else ""
    return f"{len(found)} orders are open: {named}{more}."


async def wait_until_at_rest(
    read: Callable[[], Awaitable[list[OpenOrder]]],
    within: float | None,
    *,
    monotonic: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
) -> list[OpenOrder]:
    """Look until nothing was open for `QUIET_SECONDS`, or something still is after `within` seconds.

    What changes is printed. Returns what is open at the end.
    """
    started = quiet_since = monotonic()
    said = ""
    while True:
        found, now = await read(), monotonic()
        if not found:
            if now - quiet_since >= QUIET_SECONDS:
                return []
        elif within is not None and now - started >= within:
            return found
        else:
            quiet_since = now
            if said != (said := summary(found)):
                errors.print(said, markup=False, soft_wrap=True)
        await sleep(LOOK_SECONDS)


async def _undo() -> None:
    async with _api() as api:
        await allow_new_orders(api)


async def _open_orders(dsn: str) -> list[OpenOrder]:
    async with _api() as api, _gates(dsn) as gates:
        return await _read(api, gates)


async def _drain(dsn: str, within: float | None) -> list[OpenOrder]:
    async with _api() as api, _gates(dsn) as gates:
        await stop_new_orders(api)
        errors.print("New orders are refused from now on.")
        return await wait_until_at_rest(lambda: _read(api, gates), within)


async def _read(api: ApiClient, gates: PostgresGateLedger) -> list[OpenOrder]:
    """Every gate that is not sealed, and every Order that has no gate yet."""
    found: dict[tuple[str, str], OpenOrder] = {}
    token = None
    while True:
        page = await api.list_page(
            Kind.ORDER, limit=PAGE, continue_token=token, field_selector="status.phase=Pending"
        )
        for item in page.items:
            namespace, name = item["metadata"]["namespace"], item["metadata"]["name"]
            found[namespace, name] = OpenOrder(namespace, name, "Pending")
        token = page.continue_token
        if token is None:
            break
    after = None
    while gates_page := await gates.unsealed_page(after, PAGE):
        for gate in gates_page:
            found[gate.merchant, gate.name] = OpenOrder(gate.merchant, gate.name, gate.state)
        after = gates_page[-1].merchant, gates_page[-1].uid
    return sorted(found.values())


@asynccontextmanager
async def _api() -> AsyncIterator[ApiClient]:
    async with await ApiClient.connect(
        user_agent="orderplane-cli", timeout_seconds=30, kubeconfig=os.environ.get("KUBECONFIG")
    ) as api:
        yield api


@asynccontextmanager
async def _gates(dsn: str) -> AsyncIterator[PostgresGateLedger]:
    pool = await open_pool(dsn, size=2)
    try:
        yield PostgresGateLedger(pool)
    finally:
        await pool.close()
