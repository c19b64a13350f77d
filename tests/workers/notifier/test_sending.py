"""Who gets which messages, from a real notifier through real servers."""

import asyncio

import pytest
from aiokafka import AIOKafkaProducer

from orderplane.adapters.kafka.topics import read_all
from orderplane.events.notifications import Channel
from orderplane.events.types import EventType
from orderplane.gateway.identity.user_store import UserStore
from orderplane.workers.notifier.plan import CHANNELS

from .conftest import NotifierStage

pytestmark = pytest.mark.integration

HAPPY = (EventType.ORDER_CREATED, EventType.INVENTORY_RESERVED, EventType.PAYMENT_SUCCESS,
         EventType.ORDER_SHIPPED, EventType.ORDER_DELIVERED)  # fmt: skip
UNDONE = (EventType.ORDER_CREATED, EventType.PAYMENT_SUCCESS, EventType.PAYMENT_REFUNDED,
          EventType.ORDER_FAILED)  # fmt: skip


async def test_each_is_told_through_the_channels_they_want(stage: NotifierStage) -> None:
    await stage.start_notifier()
    by_mail, by_sms, by_both, by_none = [
        await stage.customer(mail=mail, sms=sms)
        for mail, sms in ((True, False), (False, True), (True, True), (False, False))
    ]
    events = {
        customer.id: await stage.record(customer.id, *HAPPY)
        for customer in (by_mail, by_sms, by_both, by_none)
    }
    stranger = await stage.record("c-1001", *HAPPY)

    last = EventType.ORDER_DELIVERED
    await stage.ended(events[by_mail.id][last])
    await stage.ended(events[by_sms.id][last], Channel.SMS)
    await stage.ended(events[by_both.id][last])
    await stage.ended(events[by_both.id][last], Channel.SMS)
    await stage.ended(events[by_none.id][last], state="Skipped")

    copies = await stage.copies()
    for customer in (by_mail, by_sms, by_both, by_none):
        for type_, event in events[customer.id].items():
            for channel in CHANNELS.get(type_, ()):
                reference = str(event) if channel is Channel.EMAIL else event.hex[:12]
                assert copies[reference] == customer.preferences[channel], (type_, channel)
    assert not {str(event) for event in stranger.values()} & set(copies)
    assert not {event for event, _ in await stage.rows()} & set(stranger.values())
    assert await stage.violations() == []


async def test_a_mail_says_what_happened_and_nothing_else_is_said_of_whom(stage: NotifierStage) -> None:
    await stage.start_notifier()
    customer = await stage.customer(sms=True)
    events = await stage.record(customer.id, *HAPPY)
    await stage.ended(events[EventType.ORDER_DELIVERED])
    await stage.ended(events[EventType.ORDER_DELIVERED], Channel.SMS)
    created, shipped, delivered = await stage.mails_to(customer.email)
    assert created["Subject"].startswith("We have your order o-")
    assert "In total 39.03 EUR" in created["Text"]
    assert 'href="https://track.example/' in shipped["HTML"]
    assert created["MessageID"] == f"{events[EventType.ORDER_CREATED]}@shop.example"
    assert delivered["From"]["Address"] == "orders@shop.example"
    # Ids only in the log, and the trace that the event came from.
    log = stage.log()
    assert str(events[EventType.ORDER_CREATED]) in log
    assert TRACE_ID in log
    assert customer.phone is not None
    assert not [
        word
        for word in (customer.email, customer.phone, "Ada", stage.env["ORDERPLANE_SMS_KEY"])
        if word in log
    ]
    results = [
        await stage.metric("orderplane_notifications_total", channel=channel, result="sent")
        for channel in Channel
    ]
    assert results == [3, 2]


TRACE_ID = "0af7651916cd43dd8448eb211c80319c"


async def test_an_undone_order_is_told_with_its_refund(stage: NotifierStage) -> None:
    await stage.start_notifier()
    customer = await stage.customer()
    events = await stage.record(customer.id, *UNDONE)
    await stage.ended(events[EventType.ORDER_FAILED])
    subjects = [mail["Subject"] for mail in await stage.mails_to(customer.email)]
    assert [subject.split()[0] for subject in subjects] == ["We", "Your", "We"]


async def test_what_was_said_when_nobody_listened_is_told_in_order(stage: NotifierStage) -> None:
    """Topics are read in any order; an order's messages keep theirs all the same."""
    customer = await stage.customer(sms=True)
    orders = [await stage.record(customer.id, *HAPPY) for _ in range(25)]
    await stage.start_notifier()
    for events in orders:
        await stage.ended(events[EventType.ORDER_DELIVERED])
        await stage.ended(events[EventType.ORDER_DELIVERED], Channel.SMS)
    states = {row["state"] for row in (await stage.rows()).values()}
    assert states == {"Sent"}
    assert await stage.violations() == []


async def test_a_record_that_comes_again_says_nothing_new(stage: NotifierStage) -> None:
    await stage.start_notifier()
    customer = await stage.customer(sms=True)
    events = await stage.record(customer.id, *HAPPY)
    await stage.ended(events[EventType.ORDER_DELIVERED])
    await stage.ended(events[EventType.ORDER_DELIVERED], Channel.SMS)
    source = f"/orderplane/{stage.merchant}".encode()
    records = [
        record
        async for record in read_all(stage.env["ORDERPLANE_KAFKA"])
        if ("ce_source", source) in record.headers
    ]
    producer = AIOKafkaProducer(bootstrap_servers=stage.env["ORDERPLANE_KAFKA"])
    await producer.start()
    for record in [*records, *records]:
        await producer.send_and_wait(record.topic, record.value, key=record.key, headers=list(record.headers))
    await producer.stop()
    # Once this one has its message, those before it were read.
    after = await stage.record(customer.id, EventType.ORDER_CREATED)
    await stage.ended(after[EventType.ORDER_CREATED])
    await nothing_unread(stage)
    assert await stage.violations() == []
    assert {row["attempt"] for row in (await stage.rows()).values()} == {1}


async def nothing_unread(stage: NotifierStage) -> None:
    async def is_read() -> bool:
        return await stage.metric("orderplane_notifier_lag_records") == 0

    await stage.until(is_read, "everything is read")


async def test_the_profile_counts_as_it_is_when_it_is_sent(stage: NotifierStage) -> None:
    """Profiles that change while messages still wait: another address, switched off, no number, deleted."""
    moved, silent, numberless, gone = [await stage.customer(sms=sms) for sms in (False, False, True, False)]
    await stage.supervisor.stop("mail")
    await stage.supervisor.stop("sms")
    try:
        await stage.start_notifier()
        events = {
            customer.id: await stage.record(customer.id, EventType.ORDER_CREATED, EventType.ORDER_SHIPPED)
            for customer in (moved, silent, numberless, gone)
        }

        async def are_noted() -> bool:
            return len(await stage.rows()) == 12

        await stage.until(are_noted, "all is noted")
        await stage.move(moved, "new-address@example.org")
        await stage.change(silent, preferences={"email": False})
        await stage.change(numberless, phone=None)
        assert await UserStore(stage.pool).delete(stage.merchant, gone.id)
    finally:
        await stage.supervisor.start("mail")
        await stage.supervisor.start("sms")
    await stage.ended(events[moved.id][EventType.ORDER_SHIPPED])
    assert len(await stage.mails_to("new-address@example.org")) == 2
    assert await stage.mails_to(moved.email) == []
    reasons = {
        (silent.id, Channel.EMAIL): "NotWanted",
        (numberless.id, Channel.SMS): "NoAddress",
        (gone.id, Channel.EMAIL): "NoAccount",
    }
    for (customer, channel), reason in reasons.items():
        row = await stage.ended(events[customer][EventType.ORDER_SHIPPED], channel, "Skipped")
        assert row["reason"] == reason
    # Customers who have switched a channel off get no later messages, either.
    later = await stage.record(gone.id, EventType.ORDER_CREATED)
    last = await stage.record(moved.id, EventType.ORDER_CREATED)
    await stage.ended(last[EventType.ORDER_CREATED])
    assert not {event for event, _ in await stage.rows()} & set(later.values())
    assert await stage.violations() == []


async def test_a_channel_that_is_not_offered_is_skipped(stage: NotifierStage) -> None:
    await stage.start_notifier(ORDERPLANE_SMS_KEY="")
    customer = await stage.customer(sms=True)
    events = await stage.record(customer.id, EventType.ORDER_CREATED, EventType.ORDER_SHIPPED)
    row = await stage.ended(events[EventType.ORDER_SHIPPED], Channel.SMS, "Skipped")
    assert row["reason"] == "NotOffered"
    await stage.ended(events[EventType.ORDER_SHIPPED])


async def test_two_notifiers_send_each_message_once(stage: NotifierStage) -> None:
    await asyncio.gather(stage.start_notifier("first"), stage.start_notifier("second"))
    users = [await stage.customer(sms=True) for _ in range(4)]
    orders = [await stage.record(users[number % 4].id, *HAPPY) for number in range(40)]
    for events in orders:
        await stage.ended(events[EventType.ORDER_DELIVERED])
        await stage.ended(events[EventType.ORDER_DELIVERED], Channel.SMS)
    assert await stage.violations() == []
    rows = (await stage.rows()).values()
    assert {(row["state"], row["attempt"], row["unknown_attempts"]) for row in rows} == {("Sent", 1, 0)}
    for name in ("first", "second"):
        assert await stage.metric("orderplane_notifications_total", name, result="sent") > 0


async def test_sigterm_finishes_what_is_in_hand(stage: NotifierStage) -> None:
    await stage.start_notifier()
    customer = await stage.customer(sms=True)
    await stage.trouble("hang", share=0.3, seed=1, seconds=2)
    orders = [await stage.record(customer.id, EventType.ORDER_CREATED) for _ in range(30)]

    async def is_under_way() -> bool:
        return any(row["state"] == "Sent" for row in (await stage.rows()).values())

    await stage.until(is_under_way, "some are sent")
    await stage.trouble("ok")
    await stage.stop_notifier()
    # Nothing that was sent is in doubt but what the server itself left open.
    for (event, channel), row in (await stage.rows()).items():
        if row["state"] == "Sent":
            assert await stage.arrived(event, Channel(channel)) == 1
    await stage.start_notifier()
    for events in orders:
        await stage.ended(events[EventType.ORDER_CREATED])
    assert await stage.violations() == []
