"""The merchant's view of the stock: levels, movements and reservations, and the corrections by count or
difference. An `actor` is who makes one, as in `crds.actors`."""

from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TypeVar
from uuid import UUID

import orjson

from orderplane.events.types import EventType
from orderplane.ledgers.postgres.gate import OrderRow, order_row
from orderplane.ledgers.postgres.history import session_actor
from orderplane.ledgers.postgres.session import Connection, Pool, Row, act_as, session, transaction
from orderplane.ledgers.postgres.stock import (
    ReservationRef,
    append_reservation_event,
    move_stock,
    read_lines,
)
from orderplane.ledgers.states import ReservationState, StockMovementKind

T = TypeVar("T")

_MAX_TRIES = 10

_READ_LEVEL = "SELECT sku, on_hand, reserved FROM stock WHERE merchant = $1 AND sku = $2"

_READ_LEVELS = """
SELECT sku, on_hand, reserved FROM stock WHERE merchant = $1 AND sku > $2 ORDER BY sku LIMIT $3
"""

_READ_MOVEMENTS = """
SELECT m.id, m.at, m.kind, m.on_hand_delta, m.reserved_delta, m.note, m.actor, r.name AS reservation,
    o.name AS "order"
FROM stock_movements m
LEFT JOIN reservations r ON r.merchant = m.merchant AND r.holder = m.holder
LEFT JOIN orders o ON o.merchant = m.merchant AND o.uid = m.holder
WHERE m.merchant = $1 AND m.sku = $2 AND ($3::bigint IS NULL OR m.id < $3)
ORDER BY m.id DESC LIMIT $4
"""

_READ_RESERVATION_OF = """
SELECT r.*, o.name AS "order" FROM reservations r
LEFT JOIN orders o ON o.merchant = r.merchant AND o.uid = r.order_uid
WHERE r.merchant = $1 AND r.holder = $2
"""

_READ_RESERVATION_NAMED = """
SELECT r.*, o.name AS "order" FROM reservations r
LEFT JOIN orders o ON o.merchant = r.merchant AND o.uid = r.order_uid
WHERE r.merchant = $1 AND r.name = $2 ORDER BY r.created_at DESC LIMIT 1
"""

# In the order in which a recount takes their stock: Held before Pinned, of each the newest first.
_READ_RESERVING = """
SELECT r.holder, r.order_uid, r.name, l.quantity, o.name AS order_name
FROM reservations r
JOIN reservation_lines l ON l.merchant = r.merchant AND l.holder = r.holder
LEFT JOIN orders o ON o.merchant = r.merchant AND o.uid = r.order_uid
WHERE r.merchant = $1 AND l.sku = $2 AND r.state IN ('Held', 'Pinned')
ORDER BY r.state = 'Pinned', r.created_at DESC, r.holder
"""

_LOCK_ORDERS = "SELECT * FROM orders WHERE merchant = $1 AND uid = ANY($2) ORDER BY uid FOR UPDATE"

_LOCK_RESERVATIONS = """
SELECT 1 FROM reservations WHERE merchant = $1 AND holder = ANY($2) ORDER BY holder FOR UPDATE
"""

_READ_SKUS = "SELECT DISTINCT sku FROM reservation_lines WHERE merchant = $1 AND holder = ANY($2)"

_LOCK_STOCK = """
SELECT sku, on_hand, reserved FROM stock WHERE merchant = $1 AND sku = ANY($2) ORDER BY sku FOR UPDATE
"""

# The first count of a SKU is its opening stock.
_OPEN_STOCK = """
INSERT INTO stock (merchant, sku, opening, on_hand) VALUES ($1, $2, $3, $3)
ON CONFLICT DO NOTHING RETURNING true
"""

_SET_ON_HAND = "UPDATE stock SET on_hand = $3 WHERE merchant = $1 AND sku = $2"

_RECORD_CORRECTION = """
INSERT INTO stock_movements (merchant, sku, on_hand_delta, reserved_delta, kind, note, actor)
VALUES ($1, $2, $3, 0, $4, $5, $6)
"""

_SET_LOST = "UPDATE reservations SET state = 'Lost' WHERE merchant = $1 AND holder = $2"

# The operator listens on this channel; the payload names the resource to reconcile.
_NOTIFY = "SELECT pg_notify('ledger', $1)"


@dataclass(frozen=True, slots=True)
class StockLevel:
    """The stock of one SKU: how many pieces are on hand, and how many of those are reserved."""

    sku: str
    on_hand: int
    reserved: int


@dataclass(frozen=True, slots=True)
class StockMovement:
    """One change of a stock. `reservation` and `order` are names; `note` is a merchant's reason."""

    id: int
    at: datetime
    kind: StockMovementKind
    on_hand_delta: int
    reserved_delta: int
    note: str | None
    actor: str | None
    reservation: str | None
    order: str | None


@dataclass(frozen=True, slots=True)
class ReservationRecord:
    """One reservation as the ledger has it; `order` is the name of its order, None where it has none."""

    name: str
    order: str | None
    state: ReservationState
    message: str | None
    items: Mapping[str, int]
    expires_at: datetime


@dataclass(frozen=True, slots=True)
class Loser:
    """A reservation that a recount would take the stock from, and its order, by name; the order is None for a
    standalone reservation."""

    reservation: str
    order: str | None


@dataclass(frozen=True, slots=True)
class Recount:
    """What a recount or an adjustment did.

    Args:
        before, after: How many pieces were on hand, and are now.
        reserved: How many of those are reserved.
        lost: The names of the reservations that lost their stock.
    """

    before: int
    after: int
    reserved: int
    lost: tuple[str, ...] = ()


class StockConflict(Exception):  # noqa: N818
    """Reservations changed while the stock was being counted; nothing was changed, try again."""


class MoreWouldLose(Exception):  # noqa: N818
    """More reservations would lose their stock than the caller has agreed to; nothing was changed.

    Args:
        lost: The names of all that would lose it.
    """

    def __init__(self, lost: tuple[str, ...]) -> None:
        super().__init__(f"{len(lost)} reservations would lose their stock; nothing was changed")
        self.lost = lost


class StockNotCounted(Exception):  # noqa: N818
    """The product was never counted, so there is no stock to adjust."""


class StockReserved(Exception):  # noqa: N818
    """An adjustment would take pieces that are reserved.

    Args:
        free: How many pieces can be taken.
    """

    def __init__(self, free: int) -> None:
        super().__init__(f"{free} are free")
        self.free = free


class PostgresInventory:
    """Reads the stock ledger. Raises `Transient` as `session` does."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def level(self, merchant: str, sku: str) -> StockLevel | None:
        """The stock of one SKU; None where it was never counted."""
        async with session(self._pool) as connection:
            row = await connection.fetchrow(_READ_LEVEL, merchant, sku)
        return StockLevel(**row) if row else None

    async def levels(self, merchant: str, *, after: str, limit: int) -> Sequence[StockLevel]:
        """The first `limit` stocks whose SKU follows `after`, by SKU."""
        async with session(self._pool) as connection:
            rows = await connection.fetch(_READ_LEVELS, merchant, after, limit)
        return [StockLevel(**row) for row in rows]

    async def losers(self, merchant: str, sku: str, on_hand: int) -> Sequence[Loser]:
        """Who would lose the stock of one SKU now, if so many were counted."""
        async with session(self._pool) as connection:
            reserving = await connection.fetch(_READ_RESERVING, merchant, sku)
        return [Loser(row["name"], row["order_name"]) for row in _losers(reserving, on_hand)]

    async def movements(
        self, merchant: str, sku: str, *, before: int | None, limit: int
    ) -> Sequence[StockMovement]:
        """The newest `limit` movements of one SKU whose id is less than `before`, newest first."""
        async with session(self._pool) as connection:
            rows = await connection.fetch(_READ_MOVEMENTS, merchant, sku, before, limit)
        return [StockMovement(**{**row, "kind": StockMovementKind(row["kind"])}) for row in rows]

    async def reservation_of(self, merchant: str, holder: str) -> ReservationRecord | None:
        """The reservation of one holder: an order's uid, or a Reservation's own."""
        return await self._reservation(_READ_RESERVATION_OF, merchant, holder)

    async def reservation_named(self, merchant: str, name: str) -> ReservationRecord | None:
        """The newest reservation of that name, also where its resource is gone."""
        return await self._reservation(_READ_RESERVATION_NAMED, merchant, name)

    async def _reservation(self, statement: str, merchant: str, key: str) -> ReservationRecord | None:
        async with session(self._pool) as connection:
            row = await connection.fetchrow(statement, merchant, key)
            lines = await read_lines(connection, merchant, row["holder"]) if row else {}
        return _record(row, lines) if row else None


async def recount(
    pool: Pool,
    merchant: str,
    sku: str,
    on_hand: int,
    *,
    note: str,
    may_lose: Collection[str] | None = None,
) -> Recount:
    """Set the stock of one SKU to what was counted, in one transaction, as the role of the pool's sessions.

    Where more is reserved than was counted, reservations lose their stock: those that are HELD first, then
    those that are PINNED, of each the newest first, until the rest fits. The operator is notified of each of
    them. A SKU without stock begins with this count.

    Args:
        may_lose: The names of the reservations that may lose their stock; None for any.

    Raises:
        ValueError: a negative count.
        MoreWouldLose: others than `may_lose` would lose their stock.
        StockConflict: reservations changed during each of ten tries.
    """

    async def attempt() -> Recount:
        async with transaction(pool) as connection:
            actor = await session_actor(connection)
            return await set_count(
                connection, merchant, sku, on_hand, note=note, actor=actor, may_lose=may_lose
            )

    return await retry_on_conflict(attempt)


async def retry_on_conflict(attempt: Callable[[], Awaitable[T]]) -> T:
    """Run `attempt`, a whole transaction, until it meets no conflict.

    Raises:
        StockConflict: each of ten tries met one.
    """
    for _ in range(_MAX_TRIES - 1):
        try:
            return await attempt()
        except StockConflict:
            continue
    return await attempt()


async def adjust(
    connection: Connection, merchant: str, sku: str, delta: int, *, note: str, actor: str
) -> Recount:
    """Add to the stock of one SKU, or take from what of it is not reserved, in the caller's transaction.

    Raises:
        StockNotCounted: there is no stock of it.
        StockReserved: fewer pieces than that are free.
    """
    row = await connection.fetchrow(_LOCK_STOCK, merchant, [sku])
    if row is None:
        raise StockNotCounted(f"stock of {merchant}/{sku} was never counted")
    count = Recount(row["on_hand"], row["on_hand"] + delta, row["reserved"])
    if count.after < count.reserved:
        raise StockReserved(count.before - count.reserved)
    return await _correct(connection, merchant, sku, count, StockMovementKind.ADJUST, note, actor)


async def set_count(
    connection: Connection,
    merchant: str,
    sku: str,
    on_hand: int,
    *,
    note: str,
    actor: str,
    may_lose: Collection[str] | None = None,
) -> Recount:
    """One try of `recount`, in the caller's transaction, which must be rolled back where this raises.

    Raises:
        ValueError: a negative count.
        MoreWouldLose: others than `may_lose` would lose their stock.
        StockConflict: reservations changed meanwhile; try again in a new transaction.
    """
    if on_hand < 0:
        raise ValueError(f"{sku} cannot have {on_hand} on hand; give zero or more")
    await act_as(connection, actor)
    # Locks are taken in the order gate, reservation, stock. So the reservations that lose are read first
    # without a lock, then locked, and once the stock is locked they are read again: if others lose now, the
    # transaction starts over.
    expected = {
        row["holder"] for row in _losers(await connection.fetch(_READ_RESERVING, merchant, sku), on_hand)
    }
    holders = list(expected)
    orders = {row["uid"]: order_row(row) for row in await connection.fetch(_LOCK_ORDERS, merchant, holders)}
    await connection.fetch(_LOCK_RESERVATIONS, merchant, holders)
    skus = {row["sku"] for row in await connection.fetch(_READ_SKUS, merchant, holders)} | {sku}
    stock = {row["sku"]: row for row in await connection.fetch(_LOCK_STOCK, merchant, list(skus))}
    if sku not in stock:
        if not await connection.fetchval(_OPEN_STOCK, merchant, sku, on_hand):
            raise _conflict(merchant, sku)
        return Recount(0, on_hand, 0)
    losers = _losers(await connection.fetch(_READ_RESERVING, merchant, sku), on_hand)
    if not {row["holder"] for row in losers} <= expected:
        raise _conflict(merchant, sku)
    lost = tuple(row["name"] for row in losers)
    if may_lose is not None and not set(lost) <= set(may_lose):
        raise MoreWouldLose(lost)
    for row in losers:
        await _lose(connection, merchant, row, orders.get(row["holder"]), actor)
    before = stock[sku]["on_hand"]
    reserved = stock[sku]["reserved"] - sum(row["quantity"] for row in losers)
    count = Recount(before, on_hand, reserved, lost)
    return await _correct(connection, merchant, sku, count, StockMovementKind.RECOUNT, note, actor)


def _conflict(merchant: str, sku: str) -> StockConflict:
    return StockConflict(f"stock of {merchant}/{sku} could not be set; nothing was changed, try again")


async def _correct(
    connection: Connection, merchant: str, sku: str, count: Recount, kind: StockMovementKind, *why: str
) -> Recount:
    """Do what the count says; `why` is a note and an actor."""
    if count.before != count.after:
        delta = count.after - count.before
        await connection.execute(_SET_ON_HAND, merchant, sku, count.after)
        await connection.execute(_RECORD_CORRECTION, merchant, sku, delta, kind.value, *why)
    return count


def _losers(reserving: Sequence[Row], on_hand: int) -> Sequence[Row]:
    """The first of `reserving`, which are in the order in which they lose, until the rest fits."""
    excess = sum(row["quantity"] for row in reserving) - on_hand
    losers = []
    for row in reserving:
        if excess <= 0:
            break
        losers.append(row)
        excess -= row["quantity"]
    return losers


async def _lose(connection: Connection, merchant: str, row: Row, order: OrderRow | None, actor: str) -> None:
    holder: UUID = row["holder"]
    reservation = ReservationRef(merchant, holder, row["name"])
    lines = await move_stock(
        connection, merchant, holder, kind=StockMovementKind.LOSE, on_hand=0, reserved=-1
    )
    await connection.execute(_SET_LOST, merchant, holder)
    data = {**reservation.event_data(lines), "reason": "Lost", "actor": actor}
    await append_reservation_event(connection, order, reservation, EventType.INVENTORY_RELEASED, data)
    notification = {"merchant": merchant, "child": row["name"], "order": row["order_name"]}
    await connection.execute(_NOTIFY, orjson.dumps(notification).decode())


def _record(row: Row, lines: Mapping[str, int]) -> ReservationRecord:
    return ReservationRecord(
        name=row["name"],
        order=row["order"],
        state=ReservationState(row["state"]),
        message=row["message"],
        items=lines,
        expires_at=row["expires_at"],
    )
