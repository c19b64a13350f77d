"""Servers that are down, fail, hang and lie; notifiers that die: every message is sent once all the same."""

import asyncio
import json
import os
import random

import pytest

from orderplane.events.notifications import Channel
from orderplane.events.types import EventType

from .conftest import LEASE_SECONDS, NotifierStage
from .slow import slowed

pytestmark = pytest.mark.integration

IN_DOUBT = ("SmsUnclear", "TookTooLong")
CREATED, SHIPPED = EventType.ORDER_CREATED, EventType.ORDER_SHIPPED


async def test_while_the_mail_server_is_gone_mail_waits_in_sight(stage: NotifierStage) -> None:
    await stage.start_notifier()
    customer = await stage.customer(sms=True)
    await stage.supervisor.stop("mail")
    try:
        orders = [await stage.record(customer.id, CREATED, SHIPPED) for _ in range(12)]
        for events in orders:
            # The other channel does not wait with it.
            await stage.ended(events[SHIPPED], Channel.SMS)

        async def is_counted() -> bool:
            return (
                await stage.metric("orderplane_notifications_waiting", channel="email") == 24
                and await stage.metric("orderplane_notifications_oldest_age_seconds", channel="email") > 3
            )

        await stage.until(is_counted, "the gauges show what waits")
        assert await stage.metric("orderplane_notifications_waiting", channel="sms") == 0
        answer = await stage.command("notifications", "--merchant", stage.merchant, "--json")
        waiting = {count["channel"]: count for count in json.loads(answer.out) if count["state"] == "Waiting"}
        assert waiting["email"]["messages"] == 24
        assert waiting["email"]["oldestWaitsSeconds"] > 3
    finally:
        await stage.supervisor.start("mail")
    for events in orders:
        await stage.ended(events[SHIPPED])
    assert await stage.violations() == []
    assert len(await stage.mails_to(customer.email)) == 24
    assert await stage.metric("orderplane_notifications_total", channel="email", result="dead") == 0


@pytest.mark.parametrize("mode", ["error500", "hang"])
async def test_an_sms_in_doubt_is_looked_up_before_it_is_sent_again(stage: NotifierStage, mode: str) -> None:
    await stage.start_notifier()
    customer = await stage.customer(sms=True, mail=False)
    # Half of them were carried out, although the answer says otherwise or does not come.
    await stage.faults(mode, share=0.6, seed=3, after_effect=True, seconds=3600)
    first = [await stage.record(customer.id, CREATED, SHIPPED) for _ in range(6)]

    async def are_in_doubt() -> bool:
        return sum(row["reason"] in IN_DOUBT for row in (await stage.rows()).values()) >= 2

    await stage.until(are_in_doubt, "some are in doubt")
    await stage.faults(mode, share=0.6, seed=4, after_effect=False, seconds=3600)
    second = [await stage.record(customer.id, CREATED, SHIPPED) for _ in range(6)]
    await stage.until(are_in_doubt, "some are in doubt")
    await stage.faults("ok")
    for events in [*first, *second]:
        row = await stage.ended(events[SHIPPED], Channel.SMS)
        assert row["provider_id"].startswith("SM")
        assert await stage.arrived(events[SHIPPED], Channel.SMS) == 1
    assert await stage.violations() == []
    assert await stage.metric("orderplane_provider_requests_total", operation="find") > 0


async def test_a_mail_whose_answer_was_lost_goes_again_under_the_same_id(stage: NotifierStage) -> None:
    await stage.start_notifier()
    cut_off = await stage.customer(email=f"cut-off-{stage.merchant}@example.org")
    greylisted = await stage.customer(email=f"greylisted-{stage.merchant}@example.org")
    cut, grey = [await stage.record(customer.id, CREATED) for customer in (cut_off, greylisted)]
    row = await stage.ended(grey[CREATED])
    assert (row["attempt"], row["unknown_attempts"]) == (2, 0)
    row = await stage.ended(cut[CREATED])
    assert (row["attempt"], row["unknown_attempts"]) == (2, 1)
    ids = {mail["MessageID"] for mail in await stage.mails_to(cut_off.email)}
    assert ids == {f"{cut[CREATED]}@shop.example"}
    assert await stage.arrived(cut[CREATED]) == 2
    assert await stage.violations() == []


async def test_one_who_cannot_be_reached_now_holds_up_nobody_else(stage: NotifierStage) -> None:
    await stage.start_notifier()
    customer, other = await stage.customer(), await stage.customer()
    await stage.trouble("defer451", share=0.5, seed=5, seconds=3600)
    orders = [await stage.record(who.id, CREATED) for who in (customer, other) for _ in range(5)]
    for events in orders:
        await stage.ended(events[CREATED])
    assert await stage.violations() == []


async def test_the_ledger_restarting_loses_nothing(stage: NotifierStage) -> None:
    await stage.start_notifier()
    customer = await stage.customer(sms=True)
    orders = [await stage.record(customer.id, CREATED, SHIPPED) for _ in range(15)]
    await stage.supervisor.restart("postgres")
    orders += [await stage.record(customer.id, CREATED, SHIPPED) for _ in range(15)]
    for events in orders:
        for channel in Channel:
            await stage.ended(events[SHIPPED], channel)
    assert await stage.violations() == []
    assert stage.supervisor.restarts(f"{stage.merchant}-notifier") == 0


async def test_kafka_restarting_loses_nothing(stage: NotifierStage) -> None:
    await stage.start_notifier()
    customer = await stage.customer()
    before = await stage.record(customer.id, CREATED)
    await stage.ended(before[CREATED])
    await stage.supervisor.stop("kafka")
    waiting = [await stage.record(customer.id, CREATED) for _ in range(5)]

    async def is_not_reading() -> bool:
        return await stage.metric("orderplane_notifier_last_read_age_seconds") > 3

    await stage.until(is_not_reading, "the age of the last read grows")
    await stage.supervisor.start("kafka")
    for events in waiting:
        await stage.ended(events[CREATED], seconds=60)
    assert await stage.metric("orderplane_notifier_last_read_age_seconds") < 3
    assert await stage.violations() == []
    assert stage.supervisor.restarts(f"{stage.merchant}-notifier") == 0


@pytest.mark.timeout(280)
async def test_kafka_killed_while_postgresql_is_slow_leaves_nobody_untold(stage: NotifierStage) -> None:
    """A batch waits for the database when the broker dies: what the client does then must end no listener."""
    async with slowed(stage.ports["postgres"]) as postgres:
        direct = f":{stage.ports['postgres']}/"
        dsn = stage.env["ORDERPLANE_POSTGRES_DSN"].replace(direct, f":{postgres.port}/")
        await stage.start_notifier(ORDERPLANE_POSTGRES_DSN=dsn)
        customer = await stage.customer()
        before = await stage.record(customer.id, CREATED)
        await stage.ended(before[CREATED])
        waiting = []
        for seconds in (0.5, 3.0):
            postgres.seconds = seconds
            waiting += [await stage.record(customer.id, CREATED) for _ in range(10)]

            async def is_waiting(seconds: float = seconds) -> bool:
                return postgres.delayed > 0

            await stage.until(is_waiting, "an answer of the database is under way")
            await stage.supervisor.kill("kafka")
            # Longer than the session of a consumer, so that its group forgets it.
            await stage.supervisor.stop("kafka")
            waiting += [await stage.record(customer.id, CREATED) for _ in range(5)]
            await stage.supervisor.start("kafka")
        postgres.seconds = 0.0
        for events in waiting:
            await stage.ended(events[CREATED], seconds=90)
        assert await stage.metric("orderplane_notifier_last_read_age_seconds") < 10
        assert await stage.violations() == []
        assert stage.supervisor.restarts(f"{stage.merchant}-notifier") == 0
        await stage.stop_notifier()


@pytest.mark.timeout(280)
async def test_notifiers_killed_at_any_moment_tell_everybody_once(stage: NotifierStage) -> None:
    seed = int(os.environ.get("CHAOS_SEED") or random.randrange(1_000_000))
    rng = random.Random(seed)
    names = ("first", "second")
    await asyncio.gather(*(stage.start_notifier(name) for name in names))
    users = [await stage.customer(sms=number % 2 == 0) for number in range(6)]
    orders = []

    async def sell() -> None:
        for number in range(120):
            orders.append((users[number % 6], await stage.record(users[number % 6].id, CREATED, SHIPPED)))
            await asyncio.sleep(0.08)

    async def kill() -> None:
        for _ in range(10):
            await asyncio.sleep(rng.uniform(0.2, 1.5))
            await stage.kill_notifier(rng.choice(names))

    async with asyncio.TaskGroup() as group:
        group.create_task(sell())
        group.create_task(kill())
    for customer, events in orders:
        await stage.ended(events[SHIPPED], seconds=60)
        if customer.preferences["sms"]:
            await stage.ended(events[SHIPPED], Channel.SMS, seconds=60)
    assert await stage.violations() == [], f"CHAOS_SEED={seed}"
    copies = await stage.copies()
    for _, events in orders:
        # What the audit allows for mail it does not allow for SMS.
        assert copies[events[SHIPPED].hex[:12]] <= 1, f"CHAOS_SEED={seed}"


async def test_what_a_dead_notifier_had_in_hand_is_taken_over_in_time(stage: NotifierStage) -> None:
    await stage.start_notifier("mortal")
    customer = await stage.customer()
    await stage.trouble("hang", seconds=3600)
    events = await stage.record(customer.id, CREATED)

    async def is_claimed() -> bool:
        return any(row["claimed_until"] for row in (await stage.rows()).values())

    await stage.until(is_claimed, "it is being sent")
    await stage.supervisor.stop(f"{stage.merchant}-mortal")
    await stage.trouble("ok")
    await stage.start_notifier("heir")
    row = await stage.ended(events[CREATED], seconds=LEASE_SECONDS + 20)
    assert row["attempt"] == 2
    assert await stage.arrived(events[CREATED]) == 1
