"""The simulation's ledgers and those of PostgreSQL do the same when they are told the same, at random."""

import asyncio
import os
import random
import secrets
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import timedelta
from typing import Any
from uuid import uuid4

import pytest

from orderplane.adapters.postgres.pool import open_pool
from orderplane.dev.localplane.plane import Plane
from orderplane.events.types import EventType
from orderplane.ledgers.postgres.session import Pool, session
from orderplane.ledgers.refunds import NewRefund

from .sides import LABEL, OPENING, REFUNDS, TOTAL, InMemory, Postgres, seen

pytestmark = pytest.mark.integration

ORDERS = 3
STEPS = 70
SEEDS = int(os.environ.get("SIMULATION_SEEDS", "100"))
FORWARD = (
    "open", "hold", "intend_payment", "begin_confirm", "capture", "intend_parcel", "begin_buy",
    "record_label", "track_InTransit", "track_Delivered",
)  # fmt: skip
BACKWARD = (
    "compensate", "void_Rejected", "void_Submitted", "cancel_parcel", "request_refund", "withdraw_part",
    "refund_pending", "refund_failed", "withdraw_twice", "next_refund", "refund_succeeded", "cancel_payment",
    "release", "seal",
)  # fmt: skip
ASIDE = (
    "expire_early", "expire_late", "extend_early", "extend_late", "wrong_amount", "next_create_attempt",
    "record_intent", "decline", "refuse_parcel", "track_Returned", "retry", "track_Failed", "track_Cancelled",
    "track_Unclear", "settle_void_by_hand", "recount", "withdraw_all", "next_refund_late",
    "refund_failed_late", *REFUNDS,
)  # fmt: skip
ARCHIVE = ("archive", "archive_older", "archive_late", "outdated")
"""Seldom: an open order that has left is compensated only where somebody asks for it."""
NEVER = ("wrong_amount", "archive_late")
NEEDS_PAYMENT = frozenset(
    {
        "begin_confirm",
        "capture",
        "next_create_attempt",
        "record_intent",
        "decline",
        "cancel_payment",
        "cancel_unseen",
        "request_refund",
        "withdraw_part",
        "withdraw_twice",
        "withdraw_all",
    }
)
NEEDS_REFUND = frozenset(
    {
        "refund_pending",
        "refund_succeeded",
        "refund_failed",
        "refund_failed_late",
        "next_refund",
        "next_refund_late",
    }
)
NEEDS_PARCEL = frozenset(
    step
    for step in (*FORWARD, *BACKWARD, *ASIDE)
    if step.startswith(("track_", "void_"))
    or step in ("begin_buy", "record_label", "cancel_parcel", "refuse_parcel", "settle_void_by_hand")
)


@pytest.fixture(scope="module")
async def pool(plane: Plane) -> AsyncIterator[Pool]:
    pool = await open_pool(plane.postgres_dsn, size=2)
    yield pool
    await pool.close()


async def opened(pool: Pool) -> Postgres:
    real = Postgres(pool)
    real.merchant = f"agree-{secrets.token_hex(4)}"
    async with session(pool) as connection:
        await connection.execute(
            "INSERT INTO stock (merchant, sku, opening, on_hand) VALUES ($1, 'TEA', $2, $2)",
            real.merchant, OPENING,
        )  # fmt: skip
    return real


def is_sensible(fake: InMemory, step: str, uid: str) -> bool:
    """Whether any caller could get here: what needs an entry is never asked for without one."""
    payment = fake.tables.payments.get(uid)
    return (
        (step in ("open", "recount") or uid in fake.tables.gates)
        and (step not in NEEDS_PAYMENT or payment is not None)
        and (step not in NEEDS_REFUND or (payment is not None and payment.refunds != ()))
        and (step not in NEEDS_PARCEL or uid in fake.tables.shipments)
    )


@pytest.mark.timeout(240)
async def test_both_do_the_same(pool: Pool) -> None:
    met: set[tuple[str, str]] = set()
    for seed in range(SEEDS):
        dice, fake, real = random.Random(seed), InMemory(), await opened(pool)
        fake.merchant = real.merchant
        uids = [str(uuid4()) for _ in range(ORDERS)]
        done: list[tuple[int, str]] = []
        way = dict.fromkeys(uids, 0)
        back = {uid: dice.randrange(len(BACKWARD)) for uid in uids}
        for _ in range(STEPS):
            uid = dice.choice(uids)
            luck = dice.random()
            if luck < 0.55 and way[uid] < len(FORWARD):
                step, way[uid] = FORWARD[way[uid]], way[uid] + 1
            elif luck < 0.85:
                step, back[uid] = BACKWARD[back[uid]], (back[uid] + 1) % len(BACKWARD)
            elif luck < 0.98:
                step = dice.choice(ASIDE + FORWARD)
            else:
                step = dice.choice(ARCHIVE)
            if not is_sensible(fake, step, uid):
                continue
            count = dice.randrange(OPENING + 2)
            done.append((uids.index(uid), step))
            story = f"seed {seed}: {done}"
            expected, got = await fake.do(step, uid, count), await real.do(step, uid, count)
            assert got == expected, story
            assert await real.look(uids) == await fake.look(uids), story
            met.add((step, "no" if isinstance(got, (str, tuple)) else "yes"))
    never = {(step, "yes") for step in (*FORWARD, *BACKWARD, *ASIDE, *ARCHIVE) if step not in NEVER} - met
    assert never == set(), f"these never went through, so nothing is known of them: {never}"


async def sold(side: InMemory | Postgres) -> str:
    """An order that the carrier has."""
    uid = str(uuid4())
    for step in FORWARD[: FORWARD.index("track_Delivered")]:
        await side.do(step, uid, 0)
    return uid


REFUNDS_AFTER_THE_SALE = (
    ("ask_part",),
    ("ask_part", "ask_part"),
    (
        "ask_part",
        "refund_succeeded",
        "ask_line",
        "refund_succeeded",
        "ask_all",
        "refund_succeeded",
        "ask_beyond",
    ),
    ("ask_line", "refund_failed", "settle_by_hand", "ask_all", "refund_pending", "refund_succeeded"),
    ("ask_part", "ask_line", "withdraw_part", "withdraw_all"),
    ("ask_line", "refund_failed", "withdraw_part", "next_refund", "refund_failed_late", "refund_succeeded"),
    ("track_Returned", "ask_part", "ask_all", "track_Delivered", "refund_succeeded"),
    ("ask_all", "track_Returned", "track_InTransit"),
    ("ask_part", "track_Returned", "settle_return", "settle_return", "ask_all"),
    ("settle_return", "track_Returned", "settle_return", "track_Delivered"),
    ("ask_all", "ask_line", "ask_odd", "track_Delivered", "refund_succeeded", "settle_by_hand"),
)


@pytest.mark.parametrize("steps", REFUNDS_AFTER_THE_SALE, ids="-".join)
async def test_both_refund_alike_after_the_sale(pool: Pool, steps: tuple[str, ...]) -> None:
    fake, real = InMemory(), await opened(pool)
    fake.merchant = real.merchant
    orders = await sold(fake), await sold(real)
    for step in steps:
        answers = await fake.do(step, orders[0], 0), await real.do(step, orders[1], 0)
        assert without_names(answers[0]) == without_names(answers[1]), step
        looks = await fake.look([orders[0]]), await real.look([orders[1]])
        assert without_names(looks[0]) == without_names(looks[1]), step


def without_names(answer: Any) -> Any:
    """What is seen of an order, but for what it is called here and there."""
    if isinstance(answer, dict):
        own = {"uid", "name", "order_uid", "intent_id", "provider_id"}
        return {key: without_names(value) for key, value in answer.items() if key not in own}
    if isinstance(answer, (list, tuple)):
        return [without_names(value) for value in answer]
    return answer


async def test_two_refunds_at_once_give_no_more_back_than_there_is(pool: Pool) -> None:
    real = await opened(pool)
    uid = await sold(real)
    wanted = [NewRefund(f"refund-{number}", "Damaged", 700) for number in range(5)]
    answers = await asyncio.gather(*(real.refunds.request(real.merchant, uid, new) for new in wanted))
    assert sorted(answer.refusal or "" for answer in answers) == ["", "", *["RefundTooLarge"] * 3]
    again = await asyncio.gather(*(real.refunds.request(real.merchant, uid, new) for new in wanted))
    assert again == answers, "a name asks once"
    entry = await real.payments.read(real.merchant, uid)
    assert (len(entry.refunds), entry.free) == (2, TOTAL - 1400)


async def test_a_label_without_a_price_ships_an_order(pool: Pool) -> None:
    fake, real, uid = InMemory(), await opened(pool), str(uuid4())
    fake.merchant = real.merchant
    bare = replace(LABEL, cost=None, currency=None, tracking_url="")
    entries = []
    for side in (fake, real):
        for step in FORWARD[: FORWARD.index("record_label")]:
            await side.do(step, uid, 0)
        shipped = side.parcels.record_label(side.merchant, uid, bare, first_poll=timedelta())
        entries.append(seen(await side.settle(shipped)))
        assert (await side.told(uid))[-1] == EventType.ORDER_SHIPPED
    assert entries[0] == entries[1]
    assert entries[0]["label"]["cost"] is None
    async with session(pool) as connection:
        data = await connection.fetchval(
            "SELECT data ->> 'trackingUrl' FROM history WHERE merchant = $1 AND type = $2",
            real.merchant, EventType.ORDER_SHIPPED.value,
        )  # fmt: skip
    assert data is None, "an empty text is no address"
