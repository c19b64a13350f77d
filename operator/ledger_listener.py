"""LISTEN to PostgreSQL for ledgers that another process has changed: a recount, a settlement by hand."""

from collections.abc import Callable
from functools import partial
from typing import TypedDict

import orjson

from orderplane.adapters.halves import Beat
from orderplane.adapters.postgres.listen import listen
from orderplane.crds.meta import Kind
from orderplane.operator.wiring import CHILD_KINDS, Operator

CHANNEL = "ledger"


class _Notification(TypedDict):
    """The JSON payload of a NOTIFY; `order` is None for a Reservation without an order."""

    merchant: str
    child: str
    order: str | None


async def listen_to_ledgers(dsn: Callable[[], str], operator: Operator, beat: Beat) -> None:
    """LISTEN until cancelled; what is missed while disconnected is found by the resync."""
    await listen(dsn, CHANNEL, partial(_on_notify, operator), beat)


def _on_notify(operator: Operator, payload: str) -> None:
    changed: _Notification = orjson.loads(payload)
    for kind in CHILD_KINDS:
        operator.enqueue(kind, (changed["merchant"], changed["child"]))
    if order := changed.get("order"):
        operator.enqueue(Kind.ORDER, (changed["merchant"], order))
