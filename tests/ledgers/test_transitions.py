"""Every pair of states of every ledger: what the tables allow is what the model and PostgreSQL do, and no
more."""

import random
import re
import secrets
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, replace
from datetime import timedelta
from enum import StrEnum
from importlib import import_module, resources
from itertools import product
from typing import Any
from uuid import UUID, uuid4, uuid5

import asyncpg
import pytest

from orderplane.adapters.postgres.pool import open_pool
from orderplane.crds.meta import Kind
from orderplane.dev.localplane.plane import Plane
from orderplane.ledgers import states
from orderplane.ledgers.gate import Gate
from orderplane.ledgers.payments import PaymentEntry, RefundEntry
from orderplane.ledgers.postgres.session import Connection, Pool, session, transaction
from orderplane.ledgers.shipments import ShipmentEntry
from orderplane.ledgers.states import (
    EVER_CAPTURED,
    GOODS_LEFT,
    LABEL_ALIVE,
    PAID_BACK,
    RESERVING,
    STATE_COLUMNS,
    STILL_VALID,
    GateState,
    IllegalTransition,
    Outcome,
    PaymentState,
    RefundState,
    ReservationState,
    ShipmentState,
    StockMovementKind,
    TrackingStatus,
    VoidState,
    change,
)
from orderplane.ledgers.stock import ReservationEntry

from .sides import LABEL, NOW, OPENING, TOTAL, InMemory, Postgres, Side, seen

Column = tuple[str, str]

TAKEN_BACK = (ShipmentState.VOIDED, ShipmentState.DISCARDED)

MODULES = (
    "gate",
    "history",
    "idempotency",
    "inventory",
    "parcels",
    "payments",
    "products",
    "refunds",
    "settlement",
    "shipments",
    "stock",
)
SCHEMA = (resources.files("orderplane.ledgers") / "migrations" / "0001_initial.sql").read_text()

STEPS = (
    "open", "compensate", "retry", "seal", "hold", "expire_late", "release", "recount", "intend_payment",
    "capture", "decline", "cancel_payment", "cancel_unseen", "request_refund", "refund_pending",
    "refund_succeeded", "refund_failed",
    "withdraw_part", "withdraw_all", "next_refund", "settle_by_hand",
    "intend_parcel", "record_label", "refuse_parcel", "cancel_parcel", "settle_void_by_hand",
    *(f"track_{tracking}" for tracking in TrackingStatus),
    *(f"void_{void}" for void in VoidState if void is not VoidState.NONE),
)  # fmt: skip
NEEDS_REFUND = {"refund_pending", "refund_succeeded", "refund_failed", "next_refund"}
SAMPLE = 16_000


# The tables and the schema


def test_a_parcel_that_has_left_never_comes_to_be_at_home_again() -> None:
    """Else an old answer of the carrier would give goods and money back."""
    for status, after in states.TRACKING_TRANSITIONS.items():
        assert states.TrackingStatus.PRE_TRANSIT not in after, status


@pytest.mark.parametrize(("column", "table"), STATE_COLUMNS.items(), ids=".".join)
def test_a_table_names_every_state(column: Column, table: states.Transitions[Any]) -> None:
    (enum,) = {type(state) for state in table}
    assert set(table) == set(enum)
    assert all(state not in following for state, following in table.items())


@pytest.mark.parametrize(("column", "table"), STATE_COLUMNS.items(), ids=".".join)
def test_the_schema_knows_the_same_states(column: Column, table: states.Transitions[Any]) -> None:
    definition = SCHEMA[SCHEMA.index(f"CREATE TABLE {column[0]} (") :]
    check = re.search(rf"CHECK \({column[1]} IN\s*\(([^)]*)\)", definition)
    assert check is not None
    assert set(re.findall(r"'(\w+)'", check[1])) == {state.value for state in table}


def test_statements_name_no_other_states() -> None:
    enums: tuple[type[StrEnum], ...] = (
        GateState, Outcome, ReservationState, PaymentState, RefundState, ShipmentState, VoidState,
        TrackingStatus, StockMovementKind, Kind,
    )  # fmt: skip
    known = {member.value for enum in enums for member in enum}
    named = {
        literal
        for module in MODULES
        for statement in statements(module)
        for literal in re.findall(r"'([A-Z]\w*)'", statement)
    }
    assert len(named) > 20
    assert named <= known


def statements(module: str) -> Iterator[str]:
    for name, value in vars(import_module(f"orderplane.ledgers.postgres.{module}")).items():
        if re.fullmatch(r"_[A-Z_]+", name) and isinstance(value, str):
            yield value


@pytest.mark.parametrize(("column", "table"), STATE_COLUMNS.items(), ids=".".join)
def test_the_model_asks_the_table(column: Column, table: states.Transitions[Any]) -> None:
    for before, after in product(table, repeat=2):
        if before is after or after in table[before]:
            assert change(table, before, after) is after
        else:
            with pytest.raises(IllegalTransition):
                change(table, before, after)


# One order in any state


@dataclass(frozen=True)
class Position:
    """The states of one order; None where a step was never begun."""

    gate: GateState = GateState.OPEN
    outcome: Outcome | None = None
    reservation: ReservationState | None = None
    payment: PaymentState | None = None
    refund: RefundState | None = None
    shipment: ShipmentState | None = None
    void: VoidState | None = None
    tracking: TrackingStatus | None = None

    def changes(self, after: "Position") -> Iterator[tuple[Column, StrEnum, StrEnum]]:
        """Which states of which columns follow one another."""
        for column, name in COLUMNS.items():
            before_state, after_state = getattr(self, name), getattr(after, name)
            if before_state is not None and after_state is not None and before_state is not after_state:
                yield column, before_state, after_state

    @property
    def is_possible(self) -> bool:
        """What seals an order sees to the rest: its goods have left under a label, or it holds nothing."""
        if self.outcome is None:
            return True
        if self.outcome in GOODS_LEFT:
            return self.shipment is ShipmentState.BOUGHT and self.reservation not in RESERVING
        # A stray label comes home after it was settled that there is none.
        shipment = ShipmentState.CANCELLED if self.shipment is ShipmentState.STRAY else self.shipment
        gate = Gate(
            "shop", "", "", self.gate,
            reservation=self.reservation, payment=self.payment, shipment=shipment,
        )  # fmt: skip
        return gate.is_compensated

    @property
    def has_label(self) -> bool:
        return self.shipment in LABEL_ALIVE or self.shipment in TAKEN_BACK


COLUMNS: dict[Column, str] = {
    ("orders", "state"): "gate",
    ("orders", "outcome"): "outcome",
    ("reservations", "state"): "reservation",
    ("payments", "state"): "payment",
    ("refunds", "state"): "refund",
    ("shipments", "state"): "shipment",
    ("shipments", "void_state"): "void",
    ("shipments", "tracking_status"): "tracking",
}


def positions() -> Iterator[Position]:
    gates = [(GateState.OPEN, None), (GateState.COMPENSATING, None)]
    gates += [(GateState.SEALED, outcome) for outcome in Outcome]
    payments = [(state, None) for state in PaymentState if state is not PaymentState.REFUNDED]
    over = PAID_BACK | {RefundState.NOT_NEEDED}
    payments += [(PaymentState.CAPTURED, refund) for refund in RefundState if refund not in over]
    payments += [(PaymentState.REFUNDED, refund) for refund in RefundState if refund in over]
    shipments = [
        (state, VoidState.NONE, TrackingStatus.PRE_TRANSIT)
        for state in ShipmentState
        if state not in LABEL_ALIVE and state not in TAKEN_BACK
    ]
    shipments += product(sorted(LABEL_ALIVE), sorted(STILL_VALID), TrackingStatus)
    shipments += product(TAKEN_BACK, sorted(set(VoidState) - STILL_VALID), (TrackingStatus.PRE_TRANSIT,))
    for gate, outcome in gates:
        yield (opened := Position(gate, outcome))
        for reservation in ReservationState:
            yield (reserved := replace(opened, reservation=reservation))
            for payment, refund in payments:
                yield (paid := replace(reserved, payment=payment, refund=refund))
                for shipment, void, tracking in shipments:
                    yield replace(paid, shipment=shipment, void=void, tracking=tracking)


def put_in_memory(side: InMemory, uid: str, at: Position) -> None:
    """Write a position into the model's tables."""
    tables = side.tables
    tables.gates[uid] = Gate(
        side.merchant, uid, f"order-{uid[:8]}", at.gate, at.outcome,
        reason="OutOfStock" if at.gate is not GateState.OPEN else None,
    )  # fmt: skip
    tables.totals[uid] = (TOTAL, "EUR")
    tables.on_hand["TEA"], tables.reserved["TEA"] = quantities(at)
    if at.reservation is not None:
        tables.lines[uid] = {"TEA": 2}
        tables.reservations[uid] = ReservationEntry(at.reservation, None, NOW, timedelta())
    if at.payment is not None:
        refund = RefundEntry(f"refund-{uid}", TOTAL, at.refund, None, 1, None) if at.refund else None
        tables.payments[uid] = PaymentEntry(
            uid, TOTAL, "EUR", "pm_card_visa", at.payment, f"pi_{uid[:8]}", 1, 1,
            TOTAL if at.payment in EVER_CAPTURED else 0, None, None, (refund,) if refund else (),
        )  # fmt: skip
    if at.shipment is not None:
        assert at.void is not None
        assert at.tracking is not None
        tables.shipments[uid] = ShipmentEntry(
            uid, at.shipment, f"shp_{uid[:8]}", "r", LABEL if at.has_label else None, at.void,
            at.tracking, None, None, None,
        )  # fmt: skip
        if at.reservation is ReservationState.COMMITTED:
            tables.shipped.add(uid)


async def put_in_postgres(side: Postgres, uid: str, at: Position) -> None:
    """Write a position into the tables of PostgreSQL."""
    order, merchant, name = UUID(uid), side.merchant, f"order-{uid[:8]}"
    async with transaction(side.pool) as connection:
        await connection.execute(
            "INSERT INTO orders (merchant, uid, name, state, outcome, reason, currency, total) "
            "VALUES ($1, $2, $3, $4, $5, $6, 'EUR', $7)",
            merchant, order, name, at.gate, at.outcome,
            "OutOfStock" if at.gate is not GateState.OPEN else None, TOTAL,
        )  # fmt: skip
        await connection.execute(
            "INSERT INTO stock (merchant, sku, opening, on_hand, reserved) VALUES ($1, 'TEA', $2, $3, $4)",
            merchant, OPENING, *quantities(at),
        )  # fmt: skip
        if at.reservation is not None:
            await connection.execute(
                "INSERT INTO reservations (merchant, holder, order_uid, name, state, expires_at) "
                "VALUES ($1, $2, $2, $3, $4, $5)",
                merchant, order, name, at.reservation, NOW,
            )  # fmt: skip
            await connection.execute(
                "INSERT INTO reservation_lines VALUES ($1, $2, 'TEA', 2)", merchant, order
            )
        if at.payment is not None:
            await connection.execute(
                "INSERT INTO payments (merchant, order_uid, name, amount, currency, method, state, "
                "intent_id, confirm_attempt, captured) "
                "VALUES ($1, $2, $3, $4, 'EUR', 'pm_card_visa', $5, $6, 1, $7)",
                merchant, order, name, TOTAL, at.payment, f"pi_{uid[:8]}",
                TOTAL if at.payment in EVER_CAPTURED else 0,
            )  # fmt: skip
        if at.refund is not None:
            await connection.execute(
                "INSERT INTO refunds (id, merchant, order_uid, amount, state) VALUES ($1, $2, $3, $4, $5)",
                uuid5(order, "refund/1"), merchant, order, TOTAL, at.refund,
            )  # fmt: skip
        if at.shipment is not None:
            await insert_shipment(connection, merchant, order, name, at)


async def insert_shipment(
    connection: Connection, merchant: str, order: UUID, name: str, at: Position
) -> None:
    label: tuple[Any, ...] = (
        (LABEL.carrier, LABEL.service, LABEL.tracking_code, LABEL.tracker_id, LABEL.tracking_url, LABEL.cost,
         LABEL.currency) if at.has_label else (None,) * 7
    )  # fmt: skip
    await connection.execute(
        "INSERT INTO shipments (merchant, order_uid, name, state, void_state, tracking_status, "
        "provider_id, rate_id, buy_begun_at, is_shipped, carrier, service, tracking_code, tracker_id, "
        "tracking_url, cost, cost_currency) "
        "VALUES ($1, $2, $3, $4, $5, $6, $7, 'r', $8, $9, $10, $11, $12, $13, $14, $15, $16)",
        merchant, order, name, at.shipment, at.void, at.tracking, f"shp_{str(order)[:8]}", NOW,
        at.reservation is ReservationState.COMMITTED, *label,
    )  # fmt: skip


def quantities(at: Position) -> tuple[int, int]:
    """On hand and reserved: an order is for two pieces."""
    on_hand = OPENING - 2 * (at.reservation is ReservationState.COMMITTED)
    return on_hand, 2 * (at.reservation in RESERVING)


async def position_of(side: Side, uid: str) -> Position:
    """The position that an order is in."""
    gate: Gate = await side.settle(side.gates.read(side.merchant, uid))
    payment = await side.settle(side.payments.read(side.merchant, uid))
    shipment = await side.settle(side.parcels.read(side.merchant, uid))
    return Position(
        gate.state, gate.outcome, gate.reservation, gate.payment,
        payment.refunds[-1].state if payment and payment.refunds else None, gate.shipment,
        shipment.void if shipment else None, shipment.tracking_status if shipment else None,
    )  # fmt: skip


# Through the methods of the ledgers


async def in_memory(step: str, at: Position) -> tuple[Any, Position]:
    """What a step answers in the model, and the position after it."""
    side, uid = InMemory(), str(uuid4())
    side.merchant = "shop"
    put_in_memory(side, uid, at)
    answer = await side.do(step, uid, 0)
    return answer, await position_of(side, uid)


async def sampled() -> list[tuple[str, Position, Any, Position]]:
    """Steps from many positions with the model's answer; an illegal change of the model fails here."""
    pairs = [
        (step, at)
        for step, at in product(STEPS, positions())
        if at.is_possible and (step not in NEEDS_REFUND or at.refund is not None)
    ]
    chosen = random.Random(7).sample(pairs, SAMPLE)
    return [(step, at, *await in_memory(step, at)) for step, at in chosen]


async def test_the_model_makes_every_allowed_change_and_no_other() -> None:
    made = {move for _, at, _, after in await sampled() for move in at.changes(after)}
    allowed = {
        (column, before, after)
        for column, table in STATE_COLUMNS.items()
        for before, following in table.items()
        for after in following
    }
    assert made == allowed


@pytest.fixture(scope="module")
async def pool(plane: Plane) -> AsyncIterator[Pool]:
    pool = await open_pool(plane.postgres_dsn, size=2)
    yield pool
    await pool.close()


@pytest.mark.integration
@pytest.mark.timeout(240)
async def test_postgres_answers_each_step_from_each_state_as_the_model_does(pool: Pool) -> None:
    covered: set[tuple[Any, ...]] = set()
    walked = 0
    for step, at, answer, after in await sampled():
        result = (answer if isinstance(answer, (str, tuple)) else "done", tuple(at.changes(after)))
        cases = {(step, name, getattr(at, name), result) for name in COLUMNS.values()}
        if cases <= covered:
            continue
        covered |= cases
        walked += 1
        side, uid = Postgres(pool), str(uuid4())
        side.merchant = f"walk-{secrets.token_hex(6)}"
        await put_in_postgres(side, uid, at)
        found = await side.do(step, uid, 0)
        assert is_same(found, answer), f"{step} from {at}: {found} in PostgreSQL, {answer} in the model"
        assert await position_of(side, uid) == after, f"{step} from {at}"
    assert walked > len(STEPS) * 8


def is_same(found: Any, expected: Any) -> bool:
    """Whether two answers agree, but for what names the order and the merchant."""
    own = {"uid", "name", "merchant", "order_uid", "intent_id", "provider_id"}

    def common(answer: Any) -> Any:
        if isinstance(answer, dict):
            return {name: common(value) for name, value in answer.items() if name not in own}
        if isinstance(answer, list):
            return [common(value) if isinstance(value, dict) else type(value) for value in answer]
        return answer

    return bool(common(seen(found)) == common(seen(expected)))


# By direct statements


def row_of(column: Column, state: StrEnum) -> Position:
    """A position with a row whose column has this state."""
    at = Position(
        reservation=ReservationState.HELD, payment=PaymentState.CAPTURED, refund=RefundState.REQUESTED,
        shipment=ShipmentState.BOUGHT, void=VoidState.NONE, tracking=TrackingStatus.PRE_TRANSIT,
    )  # fmt: skip
    at = replace(at, **{COLUMNS[column]: state})
    if at.gate is GateState.SEALED or at.outcome is not None:
        at = replace(at, gate=GateState.SEALED, outcome=at.outcome or Outcome.FAILED)
    return at


UPDATES = {
    ("orders", "state"): "UPDATE orders SET state = $2, reason = 'OutOfStock', "
    "outcome = CASE WHEN $2 = 'Sealed' THEN coalesce(outcome, 'Failed') END WHERE merchant = $1",
    **{
        (table, column): f"UPDATE {table} SET {column} = $2 WHERE merchant = $1"  # noqa: S608
        for table, column in STATE_COLUMNS
        if (table, column) != ("orders", "state")
    },
}


@pytest.mark.integration
@pytest.mark.parametrize("column", STATE_COLUMNS, ids=".".join)
async def test_postgres_refuses_every_other_change(pool: Pool, column: Column) -> None:
    table: states.Transitions[Any] = STATE_COLUMNS[column]
    for before in table:
        side, uid = Postgres(pool), str(uuid4())
        side.merchant = f"walk-{secrets.token_hex(6)}"
        await put_in_postgres(side, uid, row_of(column, before))
        for after in table:
            is_made = await is_accepted(pool, side.merchant, column, after)
            assert is_made == (before is after or after in table[before]), f"{column}: {before} to {after}"


async def is_accepted(pool: Pool, merchant: str, column: Column, state: StrEnum) -> bool:
    async with session(pool) as connection:
        attempt = connection.transaction()
        await attempt.start()
        try:
            assert await connection.execute(UPDATES[column], merchant, state) == "UPDATE 1"
        except asyncpg.CheckViolationError as refusal:
            assert refusal.constraint_name == "_".join(column)
            return False
        finally:
            await attempt.rollback()
    return True
