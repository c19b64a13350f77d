"""The census counts what is open, and nothing that is over."""

from collections.abc import AsyncIterator
from typing import Any

import pytest
from prometheus_client import REGISTRY

from orderplane.crds.order import OrderPhase
from orderplane.ledgers.postgres.audit_runs import record_audit_run
from orderplane.ledgers.postgres.census import OPEN_REFUNDS, UNFINISHED_PHASES, take_census
from orderplane.ledgers.postgres.session import Pool
from orderplane.ledgers.states import RefundState
from orderplane.operator.census import show

from ..support.database import own_database

pytestmark = pytest.mark.integration


@pytest.fixture
async def pool(plane: Any) -> AsyncIterator[Pool]:
    """A database of this test's own: a census counts the orders of everybody."""
    async with own_database(plane.postgres_dsn, plans_once=True) as opened:
        yield opened


async def add(
    pool: Pool,
    *,
    gate: str = "Open",
    reservation: str | None = None,
    payment: str | None = None,
    shipment: str | None = None,
    refund: str | None = None,
    age: str = "1 minute",
) -> None:
    """One order, with the ledgers that it has."""
    outcome = "Cancelled" if gate == "Sealed" else None
    uid = await pool.fetchval(
        "INSERT INTO orders (merchant, uid, name, currency, total, state, reason, outcome, opened_at) "
        "VALUES ('demo', gen_random_uuid(), 'o', 'EUR', 1, $1, 'R', $2, now() - $3::text::interval) "
        "RETURNING uid",
        gate, outcome, age,
    )  # fmt: skip
    if reservation:
        await pool.execute(
            "INSERT INTO reservations (merchant, holder, order_uid, name, state, expires_at) "
            "VALUES ('demo', $1, $1, 'o', $2, now())",
            uid, reservation,
        )  # fmt: skip
    if payment:
        await pool.execute(
            "INSERT INTO payments (merchant, order_uid, name, amount, currency, method, state) "
            "VALUES ('demo', $1, 'o', 1, 'EUR', 'm', $2)",
            uid, payment,
        )  # fmt: skip
    if shipment:
        await pool.execute(
            "INSERT INTO shipments (merchant, order_uid, name, state, next_poll_at) "
            "VALUES ('demo', $1, 'o', $2, now())",
            uid, shipment,
        )  # fmt: skip
    if refund:
        await pool.execute(
            "INSERT INTO refunds (id, merchant, order_uid, amount, state) "
            "VALUES (gen_random_uuid(), 'demo', $1, 1, $2)",
            uid, refund,
        )  # fmt: skip


async def test_orders_are_counted_by_phase_and_refunds_by_state(pool: Pool) -> None:
    empty = await take_census(pool)
    assert {phase: orders.number for phase, orders in empty.orders.items()} == dict.fromkeys(
        UNFINISHED_PHASES, 0
    )
    assert (empty.refunds, empty.parcels, empty.audit) == (dict.fromkeys(OPEN_REFUNDS, 0), 0, None)

    await add(pool)
    await add(pool, reservation="Rejected")
    await add(pool, reservation="Held", age="1 hour")
    await add(pool, reservation="Pinned", payment="Intended")
    await add(pool, reservation="Pinned", payment="Captured")
    await add(pool, reservation="Pinned", payment="Captured", shipment="Bought")
    await add(pool, gate="Compensating", payment="Captured", refund="Failed")
    await add(pool, gate="Compensating", payment="Captured", refund="Pending")
    await add(pool, gate="Compensating", payment="Refunded", refund="Succeeded")
    await add(pool, gate="Sealed", payment="Refunded", refund="Succeeded", age="9 hours")
    await add(pool, gate="Sealed", payment="Captured", refund="Failed")
    await record_audit_run(pool, 4)
    await record_audit_run(pool, 3)

    census = await take_census(pool)
    assert {phase: orders.number for phase, orders in census.orders.items()} == {
        OrderPhase.PENDING: 2,
        OrderPhase.RESERVED: 2,
        OrderPhase.PAID: 1,
        OrderPhase.SHIPPED: 1,
        OrderPhase.COMPENSATING: 3,
    }
    assert census.orders[OrderPhase.RESERVED].oldest_seconds == pytest.approx(3_600, abs=60)
    assert census.refunds == {RefundState.REQUESTED: 0, RefundState.PENDING: 1, RefundState.FAILED: 2}
    assert census.parcels == 1
    assert census.audit is not None
    assert census.audit.violations == 3

    show(census)
    assert REGISTRY.get_sample_value("orderplane_refunds_open", {"state": "Failed"}) == 2
    assert REGISTRY.get_sample_value("orderplane_orders_unfinished", {"phase": "Compensating"}) == 3
    assert REGISTRY.get_sample_value("orderplane_audit_violations") == 3


async def test_a_record_of_an_audit_is_kept_for_a_quarter_of_a_year(pool: Pool) -> None:
    await pool.execute("INSERT INTO audit_runs (at, violations) VALUES (now() - interval '91 days', 1)")
    await pool.execute("INSERT INTO audit_runs (at, violations) VALUES (now() - interval '89 days', 2)")
    await record_audit_run(pool, 0)
    assert await pool.fetchval("SELECT array_agg(violations ORDER BY id) FROM audit_runs") == [2, 0]
