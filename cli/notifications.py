"""`orderplane notifications`: how many messages to customers were sent, wait, or failed."""

from typing import Annotated

import typer
from rich.table import Table

from orderplane.adapters.postgres.pool import open_pool
from orderplane.cli.console import AsJson, console, need, run
from orderplane.cli.documents import NotificationCount, Notifications, print_json
from orderplane.workers.notifier.plan import State
from orderplane.workers.notifier.store import Count, NotificationStore


def notifications(
    merchant: Annotated[str | None, typer.Option(help="Only of this merchant: a namespace.")] = None,
    as_json: AsJson = False,
) -> None:
    """Count messages by channel and state, with the age of the oldest waiting one.

    Example:

        orderplane notifications --merchant demo
    """
    counts = run(_counts(merchant))
    if as_json:
        print_json(Notifications(tuple(map(_document, counts))))
        return
    table = Table("channel", "state", "messages", "oldest waits")
    for count in counts:
        age = f"{count.oldest_seconds:.0f} s" if count.state is State.WAITING else ""
        table.add_row(count.channel, count.state, str(count.messages), age)
    console.print(table if counts else "No messages.")


async def _counts(merchant: str | None) -> list[Count]:
    pool = await open_pool(need("ORDERPLANE_POSTGRES_DSN"), size=2)
    try:
        counts = await NotificationStore(pool).counts(merchant)
    finally:
        await pool.close()
    return sorted(counts, key=lambda count: (count.channel, count.state))


def _document(count: Count) -> NotificationCount:
    waits = round(count.oldest_seconds, 1) if count.state is State.WAITING else None
    return NotificationCount(
        channel=count.channel.value,
        state=count.state.value,
        messages=count.messages,
        oldest_waits_seconds=waits,
    )
