"""Races: whoever comes first, money and goods move once or not at all."""

import asyncio
import json
from datetime import UTC, datetime, timedelta
from uuid import uuid4

import pytest

from orderplane.adapters.kubernetes.client import Json
from orderplane.controllers.payment.ports import IntentState
from orderplane.crds.order import Item, child_name
from orderplane.ledgers.postgres.inventory import recount
from orderplane.ledgers.postgres.stock import PostgresStockLedger
from orderplane.ledgers.states import ReservationState

from .conftest import MUG, OPENING, POT, TEA, Desk, compensation_steps, phase_is
from .proofs import SLOW_ADDRESS, balance, is_compensated_once

pytestmark = pytest.mark.integration


async def test_cancel_against_charge(desk: Desk) -> None:
    # Spread over the time that a charge takes, so that some come before it, some within, some after.
    orders = [await desk.place([(MUG, 1)], line1=SLOW_ADDRESS) for _ in range(8)]

    async def cancel_at(number: int, order: Json) -> None:
        if number >= 2:
            await desk.until_row(
                "SELECT 1 FROM payments WHERE merchant = $1 AND order_uid = $2 "
                "AND (intent_id IS NOT NULL OR NOT $3)",
                order["metadata"]["uid"],
                number >= 5,
            )
        await desk.cancel(order)

    await asyncio.gather(*(cancel_at(number, order) for number, order in enumerate(orders)))
    for order in orders:
        ended = await desk.until(order, phase_is("Cancelled"))
        assert ended["status"]["reason"] == "CancelRequested"
        await is_compensated_once(desk, order)
        assert await desk.labels(order) == []
    assert await desk.stock(MUG) == (OPENING, 0)


async def test_cancel_against_label(desk: Desk) -> None:
    orders = [await desk.place([(MUG, 1)]) for _ in range(8)]

    async def cancel_at(number: int, order: Json) -> None:
        await desk.until_row(
            "SELECT 1 FROM shipments WHERE merchant = $1 AND order_uid = $2 "
            "AND (buy_begun_at IS NOT NULL OR NOT $3)",
            order["metadata"]["uid"],
            number >= 4,
        )
        await desk.cancel(order)

    await asyncio.gather(*(cancel_at(number, order) for number, order in enumerate(orders)))
    for order in orders:
        await desk.until(order, phase_is("Cancelled"))
        await is_compensated_once(desk, order)
        # Whatever label was bought is dead: the carrier was asked to take it back.
        for parcel in await desk.labels(order):
            assert parcel.void != "None"
    assert await desk.stock(MUG) == (OPENING, 0)


async def test_expiry_against_charge(desk: Desk) -> None:
    """A hold whose time runs out while its payment begins is kept or lost, never both."""
    stock = PostgresStockLedger(desk.pool)
    orders = [await desk.place([(MUG, 1)]) for _ in range(6)]

    async def expire(order: Json) -> None:
        row = await desk.until_row(
            "SELECT * FROM reservations WHERE merchant = $1 AND holder = $2", order["metadata"]["uid"]
        )
        while row["state"] == "Held":
            await desk.rows(
                "UPDATE reservations SET expires_at = now() WHERE merchant = $1 AND holder = $2",
                order["metadata"]["uid"],
            )
            entry = await stock.expire(desk.name, order["metadata"]["uid"])
            assert entry is not None
            if entry.state is not ReservationState.HELD:
                break
        # Whoever changes a ledger from outside the operator says so, as a recount does.
        news = {
            "merchant": desk.name, "order": order["metadata"]["name"],
            "child": child_name(order["metadata"]["name"], order["metadata"]["uid"]),
        }  # fmt: skip
        await desk.rows("SELECT pg_notify('ledger', $2) WHERE $1 <> ''", json.dumps(news))

    await asyncio.gather(*(expire(order) for order in orders))
    for order in orders:
        ended = await desk.until(order, phase_is("Delivered", "Failed"))
        events = await desk.history(order)
        if ended["status"]["phase"] == "Failed":
            assert ended["status"]["reason"] == "ReservationExpired"
            assert await balance(desk, order) == 0
            assert "order.shipped" not in events
        else:
            assert await balance(desk, order) == order["spec"]["quote"]["amounts"]["total"]
            assert "inventory.released" not in events


async def test_delete_right_after_create(desk: Desk) -> None:
    orders = []
    for _ in range(6):
        order = await desk.place([(MUG, 1)])
        await desk.delete(order)
        orders.append(order)
    for order in orders:
        await desk.until_gone(order)
        gate = await desk.until_sealed(order)
        assert (gate["outcome"], gate["reason"]) == ("Cancelled", "Deleted")
        await is_compensated_once(desk, order)
    assert await desk.stock(MUG) == (OPENING, 0)


async def test_a_charge_that_lands_after_the_undo_began_is_given_back(desk: Desk) -> None:
    order = await desk.place([(MUG, 1)], method="pm_sandbox_slowCharge")
    await desk.until_row(
        "SELECT 1 FROM payments WHERE merchant = $1 AND order_uid = $2 AND confirm_attempt = 1",
        order["metadata"]["uid"],
    )
    await desk.cancel(order)
    await desk.until_row(
        "SELECT 1 FROM orders WHERE merchant = $1 AND uid = $2 AND state = 'Compensating'",
        order["metadata"]["uid"],
    )
    ended = await desk.until(order, phase_is("Cancelled"))
    assert "RefundPayment" in compensation_steps(ended) or "CancelPayment" in compensation_steps(ended)
    await is_compensated_once(desk, order)
    for intent in await desk.intents(order):
        assert intent.state in (IntentState.CAPTURED, IntentState.CANCELLED)


async def test_a_charge_that_lands_while_nobody_is_there_is_given_back(desk: Desk) -> None:
    order = await desk.place([(MUG, 1)], method="pm_sandbox_slowCharge")
    await desk.until_row(
        "SELECT 1 FROM payments WHERE merchant = $1 AND order_uid = $2 AND confirm_attempt = 1",
        order["metadata"]["uid"],
    )
    await desk.plane.supervisor.kill("operator")
    await desk.delete(order)
    await desk.until_gone(order)
    await desk.until_sealed(order)
    await is_compensated_once(desk, order)


async def test_retry_after_the_provider_pruned_its_keys(desk: Desk) -> None:
    order = await desk.place([(MUG, 1)], method="pm_sandbox_timeoutAfterCharge")
    await desk.until_row(
        "SELECT 1 FROM payments WHERE merchant = $1 AND order_uid = $2 AND confirm_attempt = 1",
        order["metadata"]["uid"],
    )
    # The answer is lost, and so is its key: only the intent itself can tell what happened.
    await desk.plane.supervisor.kill("operator")
    await desk.sandbox("payments", "prune")
    await desk.until(order, phase_is("Shipped", "Delivered"))
    received = [intent.received for intent in await desk.intents(order)]
    assert received.count(order["spec"]["quote"]["amounts"]["total"]) == 1
    assert sum(received) == order["spec"]["quote"]["amounts"]["total"]


async def test_a_label_that_times_out_after_it_was_bought_is_one_label(desk: Desk) -> None:
    order = await desk.place([(MUG, 1)], line1="3 Ferry Road")
    await desk.until(order, phase_is("Shipped", "Delivered"))
    assert len(await desk.labels(order)) == 1
    assert (await desk.history(order)).count("order.shipped") == 1


async def test_two_eight_way_loads_over_overlapping_stock(desk: Desk) -> None:
    """Straight on the ledger, recounts in between: no deadlock, no partial hold, never more than there is."""
    stock = PostgresStockLedger(desk.pool)
    await recount(desk.pool, desk.name, TEA, 300, note="few")
    await recount(desk.pool, desk.name, MUG, 300, note="few")
    later = datetime.now(UTC) + timedelta(hours=1)
    outcomes: list[ReservationState] = []

    async def load(first: str, second: str) -> None:
        for _ in range(25):
            holder = str(uuid4())
            entry = await stock.hold(
                desk.name, holder, order_uid=None, name=f"r-{holder[:8]}",
                items=[Item(sku=first, quantity=2), Item(sku=second, quantity=1), Item(sku=POT, quantity=1)],
                expires_at=later, traceparent=None,
            )  # fmt: skip
            outcomes.append(entry.state)
            if entry.state is ReservationState.HELD and len(outcomes) % 3 == 0:
                await stock.release(desk.name, holder)

    async def count_again() -> None:
        for number in range(20):
            await recount(desk.pool, desk.name, TEA if number % 2 else MUG, 200 + number, note="again")

    await asyncio.gather(
        *(load(TEA, MUG) for _ in range(8)), *(load(MUG, TEA) for _ in range(8)), count_again()
    )
    assert {ReservationState.HELD, ReservationState.REJECTED} <= set(outcomes)
    kept = await desk.rows(
        "SELECT l.sku, sum(l.quantity) AS quantity FROM reservations r JOIN reservation_lines l "
        "USING (merchant, holder) WHERE merchant = $1 AND state = 'Held' GROUP BY l.sku"
    )
    assert {row["sku"] for row in kept} == {TEA, MUG, POT}
    for row in kept:
        on_hand, reserved = await desk.stock(row["sku"])
        assert reserved == row["quantity"] <= on_hand
    # Each has all three of its lines moved, or none.
    torn = await desk.rows(
        "SELECT holder FROM stock_movements WHERE merchant = $1 AND holder IS NOT NULL "
        "GROUP BY holder, kind HAVING count(*) <> 3"
    )
    assert torn == []
    for row in await desk.rows("SELECT holder FROM reservations WHERE merchant = $1 AND state = 'Held'"):
        await stock.release(desk.name, str(row["holder"]))
