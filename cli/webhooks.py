"""`orderplane webhooks`: where a shop's systems are told of events, and what became of each event there."""

import json
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Annotated, Any, TypeVar
from uuid import uuid4

import typer
from rich.markup import escape
from rich.table import Table

from orderplane.cli import gateway
from orderplane.cli.console import AsJson, console, errors
from orderplane.cli.documents import WebhookEndpointDeletion, print_json
from orderplane.cli.exit_codes import IN_SHORT, TRY_LATER
from orderplane.client.responses import EventDelivery, WebhookEndpoint
from orderplane.client.transport import ApiProblem
from orderplane.client.webhook_endpoints import WebhookEndpoints

app = typer.Typer(
    help=f"Webhook endpoints: where a shop's systems are told of events.\n\n{IN_SHORT}",
    no_args_is_help=True,
)

T = TypeVar("T")

Endpoint = Annotated[str, typer.Argument(help="Its id, as `webhooks list` shows it.")]
EventId = Annotated[str, typer.Argument(help="The id of the event, as `webhooks deliveries` shows it.")]
Key = Annotated[
    str | None, typer.Option(help="Idempotency key; by default a new one. With the same one it is done once.")
]
EventTypes = Annotated[
    list[str] | None, typer.Option("--event", help="A type of events, such as order.shipped; repeat it.")
]


@app.command("list")
def list_command(as_json: AsJson = False) -> None:
    """List the endpoints of the shop.

    Example:

        orderplane webhooks list
    """
    found = _call(lambda endpoints: endpoints.list())
    if as_json:
        typer.echo(json.dumps(found, indent=2))
        return
    table = Table("id", "url", "events", "state", "failing since")
    for endpoint in found["items"]:
        table.add_row(
            endpoint["id"], escape(endpoint["url"]), "\n".join(endpoint["eventTypes"]) or "all",
            _state(endpoint), endpoint["failingSince"] or "",
        )  # fmt: skip
    console.print(table if found["items"] else "No endpoints.")


@app.command()
def add(
    url: Annotated[str, typer.Argument(help="Where events are sent to: https, a public address.")],
    event: EventTypes = None,
    description: Annotated[str, typer.Option(help="For people.")] = "",
    key: Key = None,
    as_json: AsJson = False,
) -> None:
    """Have events sent to a URL, from now on; all types, unless some are named.

    Example:

        orderplane webhooks add https://erp.example.com/orderplane --event order.shipped
    """
    body = {"url": url, "description": description, "eventTypes": event or []}
    made = _keyed(key, lambda endpoints, key: endpoints.add(body, key=key))
    if as_json:
        typer.echo(json.dumps(made, indent=2))
    else:
        console.print(
            f"{made['id']} gets events from now on. Its secret: orderplane webhooks secret {made['id']}",
            markup=False,
            soft_wrap=True,
        )


@app.command()
def show(endpoint: Endpoint, as_json: AsJson = False) -> None:
    """Show one endpoint.

    Example:

        orderplane webhooks show we-4f7kq2m3pl5v8r4t
    """
    _print(_call(lambda endpoints: endpoints.get(endpoint)), as_json=as_json)


@app.command()
def update(
    endpoint: Endpoint,
    url: Annotated[str | None, typer.Option(help="Another URL.")] = None,
    event: EventTypes = None,
    description: Annotated[str | None, typer.Option(help="Another description.")] = None,
    enable: Annotated[
        bool | None, typer.Option("--enable/--disable", help="A disabled endpoint gets nothing.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Change one endpoint; what is not named stays. Enable one that was disabled because it failed.

    Examples:

        orderplane webhooks update we-4f7kq2m3pl5v8r4t --event order.shipped --event order.delivered

        orderplane webhooks update we-4f7kq2m3pl5v8r4t --enable
    """
    wanted = {"url": url, "eventTypes": event, "description": description, "enabled": enable}
    patch = {name: value for name, value in wanted.items() if value is not None}
    _print(_call(lambda endpoints: endpoints.change(endpoint, patch)), as_json=as_json)


@app.command()
def delete(endpoint: Endpoint, as_json: AsJson = False) -> None:
    """Send nothing to an endpoint any more, and forget its secret.

    Example:

        orderplane webhooks delete we-4f7kq2m3pl5v8r4t
    """
    _call(lambda endpoints: endpoints.delete(endpoint))
    if as_json:
        print_json(WebhookEndpointDeletion(endpoint=endpoint))
    else:
        console.print(f"{endpoint} gets nothing any more.", markup=False)


@app.command()
def secret(endpoint: Endpoint, as_json: AsJson = False) -> None:
    """Print the secret by which requests to an endpoint are signed.

    Example:

        orderplane webhooks secret we-4f7kq2m3pl5v8r4t
    """
    found = _call(lambda endpoints: endpoints.secret(endpoint))
    typer.echo(json.dumps(found, indent=2) if as_json else found["secret"])


@app.command()
def rotate(
    endpoint: Endpoint,
    overlap_seconds: Annotated[
        int, typer.Option(min=0, max=604_800, help="For how long the secret before is valid, too.")
    ] = 86_400,
    key: Key = None,
    as_json: AsJson = False,
) -> None:
    """Replace the secret of an endpoint. For a while requests are signed by both.

    Example:

        orderplane webhooks rotate we-4f7kq2m3pl5v8r4t --overlap-seconds 3600
    """
    changed = _keyed(
        key,
        lambda endpoints, key: endpoints.rotate_secret(endpoint, key=key, overlap_seconds=overlap_seconds),
    )
    if as_json:
        typer.echo(json.dumps(changed, indent=2))
    else:
        console.print(
            f"{endpoint} has a new secret. The one before is valid until {changed['previousSecretUntil']}.",
            markup=False,
            soft_wrap=True,
        )


@app.command()
def test(endpoint: Endpoint, key: Key = None, as_json: AsJson = False) -> None:
    """Send a test event to an endpoint, also to a disabled one.

    Example:

        orderplane webhooks test we-4f7kq2m3pl5v8r4t
    """
    made = _keyed(key, lambda endpoints, key: endpoints.test(endpoint, key=key))
    if as_json:
        typer.echo(json.dumps(made, indent=2))
    else:
        console.print(
            f"It is sent. What became of it: orderplane webhooks delivery {endpoint} {made['eventId']}",
            markup=False,
            soft_wrap=True,
        )


@app.command()
def deliveries(
    endpoint: Endpoint,
    state: Annotated[str | None, typer.Option(help="Waiting, Delivered or Parked.")] = None,
    event: Annotated[str | None, typer.Option(help="Only events of this type.")] = None,
    order: Annotated[str | None, typer.Option(help="Only events of this order.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=200, help="How many on a page.")] = 50,
    cursor: Annotated[str | None, typer.Option(help="`next` of the previous page.")] = None,
    as_json: AsJson = False,
) -> None:
    """List what became of each event at an endpoint, the newest first.

    Example:

        orderplane webhooks deliveries we-4f7kq2m3pl5v8r4t --state Parked
    """
    page = _call(
        lambda endpoints: endpoints.deliveries(
            endpoint, state=state, type_=event, order=order, limit=limit, cursor=cursor
        )
    )
    if as_json:
        typer.echo(json.dumps(page, indent=2))
        return
    table = Table("event", "type", "subject", "number", "state", "attempts", "at")
    for each in page["items"]:
        table.add_row(
            each["eventId"], escape(each["type"]), escape(each["subject"] or ""), str(each["sequence"] or ""),
            _outcome(each), str(each["attempts"]), each["createdAt"],
        )  # fmt: skip
    console.print(table)
    if page["next"]:
        errors.print(f"There are more: --cursor {page['next']}", markup=False, soft_wrap=True)


@app.command()
def delivery(endpoint: Endpoint, event_id: EventId, as_json: AsJson = False) -> None:
    """Show one delivery: what is sent, and every attempt with the beginning of its answer.

    Example:

        orderplane webhooks delivery we-4f7kq2m3pl5v8r4t 0c0d4e0e-8a1e-5a52-9d9f-1f3a0b0c2d4e
    """
    found = _call(lambda endpoints: endpoints.delivery(endpoint, event_id))
    if as_json:
        typer.echo(json.dumps(found, indent=2))
        return
    console.print(f"{found['type']}: {_outcome(found)}", markup=False)
    console.print(found["request"]["body"], markup=False, soft_wrap=True)
    table = Table("attempt", "at", "status", "milliseconds", "answer")
    for each in found["log"]:
        table.add_row(
            str(each["attempt"]), each["at"], str(each["status"] or each["reason"]),
            str(each["latencyMilliseconds"]), escape(each["answer"][:200]),
        )  # fmt: skip
    console.print(table)


@app.command()
def replay(endpoint: Endpoint, event_id: EventId, key: Key = None, as_json: AsJson = False) -> None:
    """Send one event to an endpoint again.

    Example:

        orderplane webhooks replay we-4f7kq2m3pl5v8r4t 0c0d4e0e-8a1e-5a52-9d9f-1f3a0b0c2d4e
    """
    made = _keyed(key, lambda endpoints, key: endpoints.replay(endpoint, event_id, key=key))
    if as_json:
        typer.echo(json.dumps(made, indent=2))
    else:
        console.print(f"{made['type']}: {_outcome(made)}", markup=False)


@app.command("replay-range")
def replay_range(
    endpoint: Endpoint,
    since: Annotated[datetime, typer.Option(help="Events from this time on (UTC).")],
    until: Annotated[datetime | None, typer.Option(help="And before this one; by default now.")] = None,
    delivered_too: Annotated[
        bool, typer.Option("--delivered-too", help="Also those that were delivered; else the parked ones.")
    ] = False,
    key: Key = None,
    as_json: AsJson = False,
) -> None:
    """Send the parked events of a time range to an endpoint again.

    Example:

        orderplane webhooks replay-range we-4f7kq2m3pl5v8r4t --since 2026-03-01 --until 2026-03-02
    """
    begin = since.replace(tzinfo=UTC)
    end = until.replace(tzinfo=UTC) if until else datetime.now(UTC)
    made = _keyed(
        key,
        lambda endpoints, key: endpoints.replay_range(
            endpoint, begin, end, key=key, delivered_too=delivered_too
        ),
    )
    if as_json:
        typer.echo(json.dumps(made, indent=2))
    else:
        console.print(f"{made['replayed']} are sent again.", markup=False)


def _call(ask: Callable[[WebhookEndpoints], Awaitable[T]]) -> T:
    async def asked() -> T:
        async with gateway.client() as client:
            return await ask(client.webhook_endpoints)

    return gateway.call(asked())


def _keyed(key: str | None, ask: Callable[[WebhookEndpoints, str], Awaitable[T]]) -> T:
    key = key or str(uuid4())

    async def asked(endpoints: WebhookEndpoints) -> T:
        try:
            return await ask(endpoints, key)
        except ApiProblem as problem:
            if gateway.exit_code_of(problem) == TRY_LATER:
                errors.print(f"Try it again with --key {key}: it is done once.", markup=False)
            raise

    return _call(asked)


def _print(endpoint: WebhookEndpoint, *, as_json: bool) -> None:
    if as_json:
        typer.echo(json.dumps(endpoint, indent=2))
        return
    table = Table.grid(padding=(0, 2))
    rows: dict[str, Any] = {
        "id": endpoint["id"],
        "url": endpoint["url"],
        "description": endpoint["description"],
        "events": " ".join(endpoint["eventTypes"]) or "all",
        "state": _state(endpoint),
        "failing since": endpoint["failingSince"] or "-",
        "created": endpoint["createdAt"],
        "by": endpoint["actor"] or "-",
    }
    for name, value in rows.items():
        table.add_row(name, escape(value))
    console.print(table)


def _state(endpoint: WebhookEndpoint) -> str:
    return "enabled" if endpoint["enabled"] else f"disabled: {endpoint['disabledReason']}"


def _outcome(delivery: EventDelivery) -> str:
    return " ".join(word for word in (delivery["state"], delivery["reason"]) if word)
