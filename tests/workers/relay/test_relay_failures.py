"""What is killed, stopped and restarted while a real relay works."""

import asyncio
import signal
from uuid import uuid4

import psutil
import pytest

pytestmark = pytest.mark.integration

PARTITIONS_METRIC = "orderplane_relay_partitions"


async def partitions_are(stage, relay, low, high):
    async def have_settled() -> bool:
        return low <= await stage.metric(relay, PARTITIONS_METRIC) <= high

    await stage.until(have_settled, f"{relay} serves {low} to {high} partitions")


async def test_two_share_the_partitions_and_one_takes_over_from_a_killed_one(stage):
    subjects = [uuid4() for _ in range(80)]
    await stage.start_relay("relay-first")
    await partitions_are(stage, "relay-first", 16, 16)
    await stage.start_relay("relay-second")
    await partitions_are(stage, "relay-second", 8, 8)
    await partitions_are(stage, "relay-first", 8, 8)

    writing = asyncio.create_task(stage.write_orders(subjects, 12))

    async def is_under_way() -> bool:
        return len(await stage.rows()) > 200

    await stage.until(is_under_way, "orders are written")
    psutil.Process(stage.supervisor.pid("relay-first")).send_signal(signal.SIGKILL)
    # Stopped before its supervisor starts it again: the second is alone from here on.
    await stage.supervisor.stop("relay-first")
    await writing
    await stage.all_published()
    await partitions_are(stage, "relay-second", 16, 16)
    await stage.check()


async def test_a_relay_killed_again_and_again_loses_nothing(stage):
    subjects = [uuid4() for _ in range(60)]
    await stage.start_relay("relay-mortal")
    for turn in range(3):
        writing = asyncio.create_task(stage.write_orders(subjects, 6, first=1 + 6 * turn))

        async def is_under_way(least: int = 360 * turn) -> bool:
            return sum(row["published_at"] is not None for row in await stage.rows()) > least

        await stage.until(is_under_way, "something of this turn is published")
        await stage.supervisor.kill("relay-mortal")
        await writing
        await stage.supervisor.wait_ready("relay-mortal")
        await stage.all_published()
    await stage.check()


async def test_kafka_down_only_makes_events_wait(stage):
    subjects = [uuid4() for _ in range(40)]
    await stage.start_relay("relay-patient")
    await stage.write_orders(subjects, 3)
    await stage.all_published()
    await stage.supervisor.stop("kafka")
    try:
        await stage.write_orders(subjects, 6, first=4)

        async def are_counted() -> bool:
            return (
                await stage.metric("relay-patient", "orderplane_outbox_waiting_events") == 240
                and await stage.metric("relay-patient", "orderplane_outbox_oldest_age_seconds") > 5
            )

        await stage.until(are_counted, "the gauges show what waits")
        assert stage.supervisor.restarts("relay-patient") == 0
    finally:
        await stage.supervisor.start("kafka")
    await stage.all_published()
    await stage.check()
    assert stage.supervisor.restarts("relay-patient") == 0


async def test_postgres_restarting_under_load(stage):
    subjects = [uuid4() for _ in range(40)]
    await stage.start_relay("relay-rebound")
    await stage.write_orders(subjects, 6)
    await stage.supervisor.restart("postgres")
    await stage.write_orders(subjects, 6, first=7)
    await stage.all_published()
    await stage.check()
    assert stage.supervisor.restarts("relay-rebound") == 0
    await partitions_are(stage, "relay-rebound", 16, 16)


async def test_a_frozen_relay_that_wakes_up_breaks_no_promise(stage):
    subjects = [uuid4() for _ in range(60)]
    await stage.start_relay("relay-frozen")
    await stage.write_orders(subjects, 6)
    frozen = psutil.Process(stage.supervisor.pid("relay-frozen"))
    frozen.suspend()
    try:
        # Its session is ended for it, as the database does once keep-alives go unanswered.
        async with stage.database() as connection:
            await connection.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                "WHERE application_name = 'relay' AND datname = current_database()"
            )
        await stage.start_relay("relay-heir")
        await stage.write_orders(subjects, 6, first=7)
        await stage.all_published()
    finally:
        frozen.resume()
    await partitions_are(stage, "relay-frozen", 8, 8)
    await stage.check()


async def test_sigterm_finishes_what_is_in_hand(stage):
    subjects = [uuid4() for _ in range(60)]
    await stage.start_relay("relay-leaving")
    writing = asyncio.create_task(stage.write_orders(subjects, 12))

    async def is_under_way() -> bool:
        return await stage.metric("relay-leaving", "orderplane_relay_published_total") > 60

    await stage.until(is_under_way, "events are published")
    process = psutil.Process(stage.supervisor.pid("relay-leaving"))
    await stage.supervisor.stop("relay-leaving")
    assert not process.is_running()
    await writing
    # Whatever Kafka has is marked: nothing is left that would be sent a second time.
    published = sum(row["published_at"] is not None for row in await stage.rows())
    assert len(await stage.messages()) == published
    await stage.supervisor.start("relay-leaving")
    await stage.all_published()
    assert await stage.check() == 0
