"""Set what is really on the shelf, and take back what was promised beyond it."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, TypeVar

import orjson

from orderplane.events.types import EventType
from orderplane.ledgers.postgres.session import Connection, Pool, transaction
from orderplane.ledgers.postgres.stock import about, move, tell_of_stock

T = TypeVar("T")

_MOST_TRIES = 10

_KEEPERS = """
SELECT r.holder, r.order_uid, r.name, r.state, l.quantity, o.name AS order_name
FROM reservations r
JOIN reservation_lines l ON l.merchant = r.merchant AND l.holder = r.holder
LEFT JOIN orders o ON o.merchant = r.merchant AND o.uid = r.order_uid
WHERE r.merchant = $1 AND l.sku = $2 AND r.state IN ('Held', 'Pinned')
ORDER BY r.state = 'Pinned', r.created_at DESC, r.holder
"""


class StockConflict(Exception):  # noqa: N818
    """Orders came and went faster than the shelf could be counted; count again."""


class StockNotCounted(Exception):  # noqa: N818
    """The product was never counted, so there is nothing to add to or to take from."""


class StockReserved(Exception):  # noqa: N818
    """An adjustment would take what is kept for somebody.

    Args:
        free: How many can be taken.
    """

    def __init__(self, free: int) -> None:
        super().__init__(f"{free} are free")
        self.free = free


@dataclass(frozen=True, slots=True)
class Recount:
    """What a recount or an adjustment did.

    Args:
        before, after: How many were on hand, and are.
        reserved: How many of those are kept for somebody.
        lost: The names of the reservations that lost theirs.
    """

    before: int
    after: int
    reserved: int
    lost: tuple[str, ...] = ()


async def recount(pool: Pool, merchant: str, sku: str, on_hand: int, *, note: str) -> Recount:
    """Set the stock of one SKU, in one transaction.

    What is HELD goes first, then what is PINNED, the newest of each first, until what is left fits the
    count. Whoever lost is told through the `ledger` channel. A SKU without stock begins with this count.

    Raises:
        ValueError: a negative count.
        StockConflict: no consistent view after ten tries.
    """

    async def attempt() -> Recount:
        async with transaction(pool) as connection:
            return await set_count(connection, merchant, sku, on_hand, note=note)

    return await retry_on_conflict(attempt)


async def retry_on_conflict(attempt: Callable[[], Awaitable[T]]) -> T:
    """Try whole transactions until one has had a consistent view.

    Raises:
        StockConflict: none of ten had.
    """
    for _ in range(_MOST_TRIES - 1):
        try:
            return await attempt()
        except StockConflict:
            continue
    return await attempt()


async def adjust(connection: Connection, merchant: str, sku: str, delta: int, *, note: str) -> Recount:
    """Add to the stock of one SKU, or take from what of it is free, in the caller's transaction.

    Raises:
        StockNotCounted: it was never counted.
        StockReserved: that many are not free.
    """
    row = await connection.fetchrow(
        "SELECT * FROM stock WHERE merchant = $1 AND sku = $2 FOR UPDATE", merchant, sku
    )
    if row is None:
        raise StockNotCounted(f"stock of {merchant}/{sku} was never counted")
    before, reserved = row["on_hand"], row["reserved"]
    if before + delta < reserved:
        raise StockReserved(before - reserved)
    await _set(connection, merchant, sku, before, before + delta, kind="Adjust", note=note)
    return Recount(before, before + delta, reserved)


async def set_count(connection: Connection, merchant: str, sku: str, on_hand: int, *, note: str) -> Recount:
    """One try of `recount`, in the caller's transaction, which must not be kept where this raises.

    Raises:
        ValueError: a negative count.
        StockConflict: the view was not consistent; try again in a new transaction.
    """
    if on_hand < 0:
        raise ValueError(f"{sku} cannot have {on_hand} on hand; give zero or more")
    # The order of locks is gate, reservation, stock; so the losers are guessed, locked, and seen again.
    guess = {row["holder"] for row in _losers(await _keepers(connection, merchant, sku), on_hand)}
    gates = {
        row["uid"]: row
        for row in await connection.fetch(
            "SELECT * FROM orders WHERE merchant = $1 AND uid = ANY($2) ORDER BY uid FOR UPDATE",
            merchant, list(guess),
        )
    }  # fmt: skip
    await connection.fetch(
        "SELECT 1 FROM reservations WHERE merchant = $1 AND holder = ANY($2) ORDER BY holder FOR UPDATE",
        merchant, list(guess),
    )  # fmt: skip
    skus = await _skus_of(connection, merchant, guess) | {sku}
    stock = {
        row["sku"]: row
        for row in await connection.fetch(
            "SELECT * FROM stock WHERE merchant = $1 AND sku = ANY($2) ORDER BY sku FOR UPDATE",
            merchant, list(skus),
        )
    }  # fmt: skip
    if sku not in stock:
        is_first = await connection.fetchval(
            "INSERT INTO stock (merchant, sku, opening, on_hand) VALUES ($1, $2, $3, $3) "
            "ON CONFLICT DO NOTHING RETURNING true",
            merchant, sku, on_hand,
        )  # fmt: skip
        if not is_first:
            raise _raced(merchant, sku)
        return Recount(0, on_hand, 0)
    losers = _losers(await _keepers(connection, merchant, sku), on_hand)
    if not {row["holder"] for row in losers} <= guess:
        raise _raced(merchant, sku)
    for row in losers:
        await _lose(connection, merchant, row, gates.get(row["holder"]))
    before = stock[sku]["on_hand"]
    await _set(connection, merchant, sku, before, on_hand, kind="Recount", note=note)
    reserved = stock[sku]["reserved"] - sum(row["quantity"] for row in losers)
    return Recount(before, on_hand, reserved, tuple(row["name"] for row in losers))


def _raced(merchant: str, sku: str) -> StockConflict:
    return StockConflict(f"stock of {merchant}/{sku} could not be set; nothing was changed, try again")


async def _set(
    connection: Connection, merchant: str, sku: str, before: int, after: int, *, kind: str, note: str
) -> None:
    if before == after:
        return
    await connection.execute(
        "UPDATE stock SET on_hand = $3 WHERE merchant = $1 AND sku = $2", merchant, sku, after
    )
    await connection.execute(
        "INSERT INTO stock_movements (merchant, sku, on_hand_delta, reserved_delta, kind, note) "
        "VALUES ($1, $2, $3, 0, $4, $5)",
        merchant, sku, after - before, kind, note,
    )  # fmt: skip


async def _keepers(connection: Connection, merchant: str, sku: str) -> list[Any]:
    rows: list[Any] = await connection.fetch(_KEEPERS, merchant, sku)
    return rows


def _losers(keepers: list[Any], on_hand: int) -> list[Any]:
    """The first of `keepers`, already in the order in which they lose, until the rest fits."""
    excess = sum(row["quantity"] for row in keepers) - on_hand
    losers = []
    for row in keepers:
        if excess <= 0:
            break
        losers.append(row)
        excess -= row["quantity"]
    return losers


async def _skus_of(connection: Connection, merchant: str, holders: set[Any]) -> set[str]:
    rows = await connection.fetch(
        "SELECT DISTINCT sku FROM reservation_lines WHERE merchant = $1 AND holder = ANY($2)",
        merchant, list(holders),
    )  # fmt: skip
    return {row["sku"] for row in rows}


async def _lose(connection: Connection, merchant: str, row: Any, gate: Any) -> None:
    lost = {"merchant": merchant, **row}
    lines = await move(connection, merchant, row["holder"], kind="Lose", on_hand=0, reserved=-1)
    await connection.execute(
        "UPDATE reservations SET state = 'Lost' WHERE merchant = $1 AND holder = $2", merchant, row["holder"]
    )
    data = {**about(row, lines), "reason": "Lost"}
    await tell_of_stock(connection, gate, lost, EventType.INVENTORY_RELEASED, data, None)
    news = {"merchant": merchant, "child": row["name"], "order": row["order_name"]}
    await connection.execute("SELECT pg_notify('ledger', $1)", orjson.dumps(news).decode())
