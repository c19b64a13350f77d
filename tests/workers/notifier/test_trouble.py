"""Servers that are gone, fail, hang and lie; notifiers that die: everybody is told once all the same."""

import asyncio
import json
import os
import random

import pytest

from orderplane.events.notifications import Channel
from orderplane.events.types import EventType

from .conftest import LEASE_SECONDS, House

pytestmark = pytest.mark.integration

IN_DOUBT = ("SmsUnclear", "TookTooLong")
CREATED, SHIPPED = EventType.ORDER_CREATED, EventType.ORDER_SHIPPED


async def test_while_the_mail_server_is_gone_mail_waits_in_sight(house: House) -> None:
    await house.start_notifier()
    person = await house.customer(sms=True)
    await house.supervisor.stop("mail")
    try:
        orders = [await house.tell(person.id, CREATED, SHIPPED) for _ in range(12)]
        for told in orders:
            # The other channel does not wait with it.
            await house.ended(told[SHIPPED], Channel.SMS)

        async def is_counted() -> bool:
            return (
                await house.metric("orderplane_notifications_waiting", channel="email") == 24
                and await house.metric("orderplane_notifications_oldest_age_seconds", channel="email") > 3
            )

        await house.until(is_counted, "the gauges show what waits")
        assert await house.metric("orderplane_notifications_waiting", channel="sms") == 0
        answer = await house.command("notifications", "--merchant", house.merchant, "--json")
        waiting = {count["channel"]: count for count in json.loads(answer.out) if count["state"] == "Waiting"}
        assert waiting["email"]["messages"] == 24
        assert waiting["email"]["oldestWaitsSeconds"] > 3
    finally:
        await house.supervisor.start("mail")
    for told in orders:
        await house.ended(told[SHIPPED])
    assert await house.violations() == []
    assert len(await house.mails_to(person.email)) == 24
    assert await house.metric("orderplane_notifications_total", channel="email", result="dead") == 0


@pytest.mark.parametrize("mode", ["error500", "hang"])
async def test_an_sms_in_doubt_is_looked_up_before_it_is_sent_again(house: House, mode: str) -> None:
    await house.start_notifier()
    person = await house.customer(sms=True, mail=False)
    # Half of them were carried out, although the answer says otherwise or does not come.
    await house.faults(mode, share=0.6, seed=3, after_effect=True, seconds=3600)
    first = [await house.tell(person.id, CREATED, SHIPPED) for _ in range(6)]

    async def are_in_doubt() -> bool:
        return sum(row["reason"] in IN_DOUBT for row in (await house.rows()).values()) >= 2

    await house.until(are_in_doubt, "some are in doubt")
    await house.faults(mode, share=0.6, seed=4, after_effect=False, seconds=3600)
    second = [await house.tell(person.id, CREATED, SHIPPED) for _ in range(6)]
    await house.until(are_in_doubt, "some are in doubt")
    await house.faults("ok")
    for told in [*first, *second]:
        row = await house.ended(told[SHIPPED], Channel.SMS)
        assert row["provider_id"].startswith("SM")
        assert await house.arrived(told[SHIPPED], Channel.SMS) == 1
    assert await house.violations() == []
    assert await house.metric("orderplane_provider_requests_total", operation="find") > 0


async def test_a_mail_whose_answer_was_lost_goes_again_under_the_same_id(house: House) -> None:
    await house.start_notifier()
    cut_off = await house.customer(email=f"cut-off-{house.merchant}@example.org")
    greylisted = await house.customer(email=f"greylisted-{house.merchant}@example.org")
    cut, grey = [await house.tell(person.id, CREATED) for person in (cut_off, greylisted)]
    row = await house.ended(grey[CREATED])
    assert (row["attempt"], row["unknown_attempts"]) == (2, 0)
    row = await house.ended(cut[CREATED])
    assert (row["attempt"], row["unknown_attempts"]) == (2, 1)
    ids = {mail["MessageID"] for mail in await house.mails_to(cut_off.email)}
    assert ids == {f"{cut[CREATED]}@shop.example"}
    assert await house.arrived(cut[CREATED]) == 2
    assert await house.violations() == []


async def test_one_who_cannot_be_reached_now_holds_up_nobody_else(house: House) -> None:
    await house.start_notifier()
    person, other = await house.customer(), await house.customer()
    await house.trouble("defer451", share=0.5, seed=5, seconds=3600)
    orders = [await house.tell(who.id, CREATED) for who in (person, other) for _ in range(5)]
    for told in orders:
        await house.ended(told[CREATED])
    assert await house.violations() == []


async def test_the_ledger_restarting_loses_nothing(house: House) -> None:
    await house.start_notifier()
    person = await house.customer(sms=True)
    orders = [await house.tell(person.id, CREATED, SHIPPED) for _ in range(15)]
    await house.supervisor.restart("postgres")
    orders += [await house.tell(person.id, CREATED, SHIPPED) for _ in range(15)]
    for told in orders:
        for channel in Channel:
            await house.ended(told[SHIPPED], channel)
    assert await house.violations() == []
    assert house.supervisor.restarts(f"{house.merchant}-notifier") == 0


async def test_kafka_restarting_loses_nothing(house: House) -> None:
    await house.start_notifier()
    person = await house.customer()
    before = await house.tell(person.id, CREATED)
    await house.ended(before[CREATED])
    await house.supervisor.stop("kafka")
    waiting = [await house.tell(person.id, CREATED) for _ in range(5)]
    await house.supervisor.start("kafka")
    for told in waiting:
        await house.ended(told[CREATED], seconds=60)
    assert await house.violations() == []
    assert house.supervisor.restarts(f"{house.merchant}-notifier") == 0


@pytest.mark.timeout(280)
async def test_notifiers_killed_at_any_moment_tell_everybody_once(house: House) -> None:
    seed = int(os.environ.get("CHAOS_SEED") or random.randrange(1_000_000))
    rng = random.Random(seed)
    names = ("first", "second")
    await asyncio.gather(*(house.start_notifier(name) for name in names))
    people = [await house.customer(sms=number % 2 == 0) for number in range(6)]
    orders = []

    async def sell() -> None:
        for number in range(120):
            orders.append((people[number % 6], await house.tell(people[number % 6].id, CREATED, SHIPPED)))
            await asyncio.sleep(0.08)

    async def kill() -> None:
        for _ in range(10):
            await asyncio.sleep(rng.uniform(0.2, 1.5))
            await house.kill_notifier(rng.choice(names))

    async with asyncio.TaskGroup() as group:
        group.create_task(sell())
        group.create_task(kill())
    for person, told in orders:
        await house.ended(told[SHIPPED], seconds=60)
        if person.preferences["sms"]:
            await house.ended(told[SHIPPED], Channel.SMS, seconds=60)
    assert await house.violations() == [], f"CHAOS_SEED={seed}"
    copies = await house.copies()
    for _, told in orders:
        # What the audit allows for mail it does not allow for SMS.
        assert copies[told[SHIPPED].hex[:12]] <= 1, f"CHAOS_SEED={seed}"


async def test_what_a_dead_notifier_had_in_hand_is_taken_over_in_time(house: House) -> None:
    await house.start_notifier("mortal")
    person = await house.customer()
    await house.trouble("hang", seconds=3600)
    told = await house.tell(person.id, CREATED)

    async def is_claimed() -> bool:
        return any(row["claimed_until"] for row in (await house.rows()).values())

    await house.until(is_claimed, "it is being sent")
    await house.supervisor.stop(f"{house.merchant}-mortal")
    await house.trouble("ok")
    await house.start_notifier("heir")
    row = await house.ended(told[CREATED], seconds=LEASE_SECONDS + 20)
    assert row["attempt"] == 2
    assert await house.arrived(told[CREATED]) == 1
