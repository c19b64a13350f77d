"""Who is told what, by a real notifier through real servers."""

import asyncio

import pytest
from aiokafka import AIOKafkaProducer

from orderplane.adapters.kafka.topics import read_all
from orderplane.events.notifications import Channel
from orderplane.events.types import EventType
from orderplane.gateway.identity.user_store import UserStore
from orderplane.workers.notifier.plan import CHANNELS

from .conftest import House

pytestmark = pytest.mark.integration

HAPPY = (EventType.ORDER_CREATED, EventType.INVENTORY_RESERVED, EventType.PAYMENT_SUCCESS,
         EventType.ORDER_SHIPPED, EventType.ORDER_DELIVERED)  # fmt: skip
UNDONE = (EventType.ORDER_CREATED, EventType.PAYMENT_SUCCESS, EventType.PAYMENT_REFUNDED,
          EventType.ORDER_FAILED)  # fmt: skip


async def test_each_is_told_through_the_channels_they_want(house: House) -> None:
    await house.start_notifier()
    by_mail, by_sms, by_both, by_none = [
        await house.customer(mail=mail, sms=sms)
        for mail, sms in ((True, False), (False, True), (True, True), (False, False))
    ]
    told = {person.id: await house.tell(person.id, *HAPPY) for person in (by_mail, by_sms, by_both, by_none)}
    stranger = await house.tell("c-1001", *HAPPY)

    last = EventType.ORDER_DELIVERED
    await house.ended(told[by_mail.id][last])
    await house.ended(told[by_sms.id][last], Channel.SMS)
    await house.ended(told[by_both.id][last])
    await house.ended(told[by_both.id][last], Channel.SMS)
    await house.ended(told[by_none.id][last], state="Skipped")

    copies = await house.copies()
    for person in (by_mail, by_sms, by_both, by_none):
        for type_, event in told[person.id].items():
            for channel in CHANNELS.get(type_, ()):
                reference = str(event) if channel is Channel.EMAIL else event.hex[:12]
                assert copies[reference] == person.preferences[channel], (type_, channel)
    assert not {str(event) for event in stranger.values()} & set(copies)
    assert not {event for event, _ in await house.rows()} & set(stranger.values())
    assert await house.violations() == []


async def test_a_mail_says_what_happened_and_nothing_else_is_said_of_whom(house: House) -> None:
    await house.start_notifier()
    person = await house.customer(sms=True)
    told = await house.tell(person.id, *HAPPY)
    await house.ended(told[EventType.ORDER_DELIVERED])
    await house.ended(told[EventType.ORDER_DELIVERED], Channel.SMS)
    created, shipped, delivered = await house.mails_to(person.email)
    assert created["Subject"].startswith("We have your order o-")
    assert "In total 39.03 EUR" in created["Text"]
    assert 'href="https://track.example/' in shipped["HTML"]
    assert created["MessageID"] == f"{told[EventType.ORDER_CREATED]}@shop.example"
    assert delivered["From"]["Address"] == "orders@shop.example"
    # Ids only in the log, and the trace that the event came from.
    log = house.log()
    assert str(told[EventType.ORDER_CREATED]) in log
    assert TRACE_ID in log
    assert person.phone is not None
    assert not [
        word for word in (person.email, person.phone, "Ada", house.env["ORDERPLANE_SMS_KEY"]) if word in log
    ]
    results = [
        await house.metric("orderplane_notifications_total", channel=channel, result="sent")
        for channel in Channel
    ]
    assert results == [3, 2]


TRACE_ID = "0af7651916cd43dd8448eb211c80319c"


async def test_an_undone_order_is_told_with_its_refund(house: House) -> None:
    await house.start_notifier()
    person = await house.customer()
    told = await house.tell(person.id, *UNDONE)
    await house.ended(told[EventType.ORDER_FAILED])
    subjects = [mail["Subject"] for mail in await house.mails_to(person.email)]
    assert [subject.split()[0] for subject in subjects] == ["We", "Your", "We"]


async def test_what_was_said_when_nobody_listened_is_told_in_order(house: House) -> None:
    """Topics are read in any order; an order's messages keep theirs all the same."""
    person = await house.customer(sms=True)
    orders = [await house.tell(person.id, *HAPPY) for _ in range(25)]
    await house.start_notifier()
    for told in orders:
        await house.ended(told[EventType.ORDER_DELIVERED])
        await house.ended(told[EventType.ORDER_DELIVERED], Channel.SMS)
    states = {row["state"] for row in (await house.rows()).values()}
    assert states == {"Sent"}
    assert await house.violations() == []


async def test_a_record_that_comes_again_says_nothing_new(house: House) -> None:
    await house.start_notifier()
    person = await house.customer(sms=True)
    told = await house.tell(person.id, *HAPPY)
    await house.ended(told[EventType.ORDER_DELIVERED])
    await house.ended(told[EventType.ORDER_DELIVERED], Channel.SMS)
    source = f"/orderplane/{house.merchant}".encode()
    records = [
        record
        async for record in read_all(house.env["ORDERPLANE_KAFKA"])
        if ("ce_source", source) in record.headers
    ]
    producer = AIOKafkaProducer(bootstrap_servers=house.env["ORDERPLANE_KAFKA"])
    await producer.start()
    for record in [*records, *records]:
        await producer.send_and_wait(record.topic, record.value, key=record.key, headers=list(record.headers))
    await producer.stop()
    # Once this one is told, those before it were read.
    after = await house.tell(person.id, EventType.ORDER_CREATED)
    await house.ended(after[EventType.ORDER_CREATED])
    await nothing_unread(house)
    assert await house.violations() == []
    assert {row["attempt"] for row in (await house.rows()).values()} == {1}


async def nothing_unread(house: House) -> None:
    async def is_read() -> bool:
        return await house.metric("orderplane_notifier_lag_records") == 0

    await house.until(is_read, "everything is read")


async def test_the_profile_counts_as_it_is_when_it_is_sent(house: House) -> None:
    """Changed, switched off, without a number, deleted: while what they are to be told still waits."""
    moved, silent, numberless, gone = [await house.customer(sms=sms) for sms in (False, False, True, False)]
    await house.supervisor.stop("mail")
    await house.supervisor.stop("sms")
    try:
        await house.start_notifier()
        events = {
            person.id: await house.tell(person.id, EventType.ORDER_CREATED, EventType.ORDER_SHIPPED)
            for person in (moved, silent, numberless, gone)
        }

        async def are_noted() -> bool:
            return len(await house.rows()) == 12

        await house.until(are_noted, "all is noted")
        await house.move(moved, "new-address@example.org")
        await house.change(silent, preferences={"email": False})
        await house.change(numberless, phone=None)
        assert await UserStore(house.pool).delete(house.merchant, gone.id)
    finally:
        await house.supervisor.start("mail")
        await house.supervisor.start("sms")
    await house.ended(events[moved.id][EventType.ORDER_SHIPPED])
    assert len(await house.mails_to("new-address@example.org")) == 2
    assert await house.mails_to(moved.email) == []
    reasons = {
        (silent.id, Channel.EMAIL): "NotWanted",
        (numberless.id, Channel.SMS): "NoAddress",
        (gone.id, Channel.EMAIL): "NoAccount",
    }
    for (person, channel), reason in reasons.items():
        row = await house.ended(events[person][EventType.ORDER_SHIPPED], channel, "Skipped")
        assert row["reason"] == reason
    # Who has turned away is told nothing of what comes after, either.
    later = await house.tell(gone.id, EventType.ORDER_CREATED)
    last = await house.tell(moved.id, EventType.ORDER_CREATED)
    await house.ended(last[EventType.ORDER_CREATED])
    assert not {event for event, _ in await house.rows()} & set(later.values())
    assert await house.violations() == []


async def test_a_channel_that_is_not_offered_is_skipped(house: House) -> None:
    await house.start_notifier(ORDERPLANE_SMS_KEY="")
    person = await house.customer(sms=True)
    told = await house.tell(person.id, EventType.ORDER_CREATED, EventType.ORDER_SHIPPED)
    row = await house.ended(told[EventType.ORDER_SHIPPED], Channel.SMS, "Skipped")
    assert row["reason"] == "NotOffered"
    await house.ended(told[EventType.ORDER_SHIPPED])


async def test_two_notifiers_send_each_message_once(house: House) -> None:
    await asyncio.gather(house.start_notifier("first"), house.start_notifier("second"))
    people = [await house.customer(sms=True) for _ in range(4)]
    orders = [await house.tell(people[number % 4].id, *HAPPY) for number in range(40)]
    for told in orders:
        await house.ended(told[EventType.ORDER_DELIVERED])
        await house.ended(told[EventType.ORDER_DELIVERED], Channel.SMS)
    assert await house.violations() == []
    rows = (await house.rows()).values()
    assert {(row["state"], row["attempt"], row["unknown_attempts"]) for row in rows} == {("Sent", 1, 0)}
    for name in ("first", "second"):
        assert await house.metric("orderplane_notifications_total", name, result="sent") > 0


async def test_sigterm_finishes_what_is_in_hand(house: House) -> None:
    await house.start_notifier()
    person = await house.customer(sms=True)
    await house.trouble("hang", share=0.3, seed=1, seconds=2)
    orders = [await house.tell(person.id, EventType.ORDER_CREATED) for _ in range(30)]

    async def is_under_way() -> bool:
        return any(row["state"] == "Sent" for row in (await house.rows()).values())

    await house.until(is_under_way, "some are sent")
    await house.trouble("ok")
    await house.stop_notifier()
    # Nothing that was sent is in doubt but what the server itself left open.
    for (event, channel), row in (await house.rows()).items():
        if row["state"] == "Sent":
            assert await house.arrived(event, Channel(channel)) == 1
    await house.start_notifier()
    for told in orders:
        await house.ended(told[EventType.ORDER_CREATED])
    assert await house.violations() == []
