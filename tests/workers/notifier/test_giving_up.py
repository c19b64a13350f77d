"""What is refused for good, cannot be read, or was tried too long: dead letters, and their commands."""

import json
import secrets
from typing import Any
from uuid import UUID

import pytest
from aiokafka import AIOKafkaProducer

from orderplane.adapters.kafka.topics import read_all
from orderplane.events.dead_letters import DEAD_LETTER_TOPIC, parse_dead_letter
from orderplane.events.notifications import Channel
from orderplane.events.types import EventType

from .conftest import NotifierStage

pytestmark = pytest.mark.integration

CREATED, SHIPPED, DELIVERED = EventType.ORDER_CREATED, EventType.ORDER_SHIPPED, EventType.ORDER_DELIVERED


async def letters_about(stage: NotifierStage, event: UUID | str) -> list[dict[str, Any]]:
    answer = await stage.command("dlq", "list", "--json", "--last", "10000")
    assert answer.code == 0, answer.err
    return [letter for letter in json.loads(answer.out) if letter["eventId"] == str(event)]


async def letter_about(stage: NotifierStage, event: UUID | str) -> dict[str, Any]:
    async def is_there() -> bool:
        topics = (DEAD_LETTER_TOPIC,)
        return any(
            [
                parse_dead_letter(record).event_id == str(event)
                async for record in read_all(stage.env["ORDERPLANE_KAFKA"], topics=topics)
            ]
        )

    await stage.until(is_there, f"a dead letter about {event}")
    (letter,) = await letters_about(stage, event)
    return letter


async def replayed(stage: NotifierStage, *words: str) -> list[dict[str, Any]]:
    answer = await stage.command("dlq", "replay", *words, "--json")
    assert answer.code == 0, answer.err + answer.out
    done: list[dict[str, Any]] = json.loads(answer.out)
    return done


async def test_a_refused_address_is_a_dead_letter_and_its_replay_is_sent_once(stage: NotifierStage) -> None:
    await stage.start_notifier()
    customer = await stage.customer(email=f"bounced-{stage.merchant}@example.org", sms=True)
    events = await stage.record(customer.id, CREATED, SHIPPED)
    row = await stage.ended(events[SHIPPED], state="Dead")
    assert row["reason"] == "RecipientRefused"
    # The other channel is fine.
    await stage.ended(events[SHIPPED], Channel.SMS)

    letter = await letter_about(stage, events[SHIPPED])
    assert {key: letter[key] for key in ("reason", "channel", "topic", "consumer")} == {
        "reason": "RecipientRefused", "channel": "email", "topic": "order.shipped", "consumer": "notifier",
    }  # fmt: skip
    shown = await stage.command("dlq", "show", str(letter["number"]), "--json")
    document = json.loads(shown.out)
    assert json.loads(document["value"])["trackingCode"]
    assert document["headers"]["ce_id"] == str(events[SHIPPED])
    assert customer.email not in shown.out
    plain = await stage.command("dlq", "show", str(letter["number"]))
    assert "RecipientRefused" in plain.out
    in_table = await stage.command("dlq", "list")
    assert (in_table.code, in_table.err) == (0, "")
    assert await stage.violations() == []

    await stage.move(customer, f"found-{stage.merchant}@example.org")
    (done,) = await replayed(stage, str(letter["number"]))
    assert done["verdict"] == "Tried"
    await stage.ended(events[SHIPPED])
    (done,) = await replayed(stage, str(letter["number"]))
    assert (done["verdict"], done["states"]["email"]) == ("Unchanged", "Sent")
    assert await stage.arrived(events[SHIPPED]) == 1
    assert await stage.arrived(events[SHIPPED], Channel.SMS) == 1
    assert await stage.violations() == []


async def test_an_older_message_is_superseded_unless_it_is_forced(stage: NotifierStage) -> None:
    await stage.start_notifier()
    customer = await stage.customer(email=f"bounced-{stage.merchant}@example.org")
    events = await stage.record(customer.id, CREATED)
    await stage.ended(events[CREATED], state="Dead")
    letter = await letter_about(stage, events[CREATED])
    await stage.move(customer, f"found-{stage.merchant}@example.org")
    order = (await stage.rows())[events[CREATED], "email"]["order_uid"]
    events |= await stage.record(customer.id, SHIPPED, order=order, after=1)
    await stage.ended(events[SHIPPED])

    number = str(letter["number"])
    await replayed(stage, number)
    row = await stage.ended(events[CREATED], state="Superseded")
    assert row["reason"] == "LaterWasSent"
    assert await stage.arrived(events[CREATED]) == 0
    (done,) = await replayed(stage, number)
    assert done["verdict"] == "Unchanged"

    (done,) = await replayed(stage, number, "--force")
    assert done["verdict"] == "Tried"
    await stage.ended(events[CREATED])
    (done,) = await replayed(stage, number, "--force")
    assert done["verdict"] == "Unchanged"
    assert await stage.arrived(events[CREATED]) == 1
    assert await stage.violations() == []
    assert await stage.metric("orderplane_notifications_total", result="superseded") == 1


async def test_a_number_that_cannot_be_reached(stage: NotifierStage) -> None:
    await stage.start_notifier()
    customer = await stage.customer(phone="+15005550001", sms=True, mail=False)
    events = await stage.record(customer.id, CREATED, SHIPPED)
    row = await stage.ended(events[SHIPPED], Channel.SMS, "Dead")
    assert row["reason"] == "SmsRefused"
    letter = await letter_about(stage, events[SHIPPED])
    assert (letter["channel"], letter["reason"]) == ("sms", "SmsRefused")


async def test_what_was_tried_too_long_is_given_up(stage: NotifierStage) -> None:
    await stage.supervisor.stop("mail")
    try:
        await stage.start_notifier(ORDERPLANE_NOTIFIER_GOOD_FOR_SECONDS="2")
        customer = await stage.customer()
        events = await stage.record(customer.id, CREATED)
        row = await stage.ended(events[CREATED], state="Dead", seconds=60)
        assert row["reason"] == "GivenUp"
        letter = await letter_about(stage, events[CREATED])
    finally:
        await stage.supervisor.start("mail")
    await stage.stop_notifier()
    await stage.start_notifier()
    await replayed(stage, str(letter["number"]))
    await stage.ended(events[CREATED])
    assert await stage.arrived(events[CREATED]) == 1


async def test_poison_is_buried_and_the_rest_goes_on(stage: NotifierStage) -> None:
    await stage.start_notifier()
    customer = await stage.customer()
    events = await stage.record(customer.id, CREATED)
    await stage.ended(events[CREATED])
    (record,) = [
        record
        async for record in read_all(stage.env["ORDERPLANE_KAFKA"], topics=("order.created",))
        if ("ce_id", str(events[CREATED]).encode()) in record.headers
    ]
    forged, mark = str(UUID(int=secrets.randbits(128), version=4)), f"poison-{secrets.token_hex(8)}"
    headers = dict(record.headers)
    producer = AIOKafkaProducer(bootstrap_servers=stage.env["ORDERPLANE_KAFKA"])
    await producer.start()
    try:
        poison: list[tuple[bytes | None, bytes | None, dict[str, bytes]]] = [
            (None, b"\xff", {"ce_id": mark.encode()}),
            (record.key, record.value, {**headers, "ce_id": forged.encode()}),
            (record.key, b'{"total": 1}', headers),
        ]
        for key, value, with_headers in poison:
            await producer.send_and_wait("order.created", value, key=key, headers=list(with_headers.items()))
    finally:
        await producer.stop()
    reasons = {
        mark: "Unreadable", forged: "UnknownEvent", str(events[CREATED]): "AlteredEvent",
    }  # fmt: skip
    numbers = []
    for event, reason in reasons.items():
        letter = await letter_about(stage, event)
        assert (letter["reason"], letter["channel"], letter["topic"]) == (reason, None, "order.created")
        assert letter["partition"] is not None
        assert letter["offset"] is not None
        numbers.append(str(letter["number"]))

    after = await stage.record(customer.id, CREATED)
    await stage.ended(after[CREATED])
    assert await stage.violations() == []
    assert await stage.metric("orderplane_dead_letters_total") == 3

    # Nothing has been mended, so a replay says why it is still dead; no message is sent.
    answer = await stage.command("dlq", "replay", *numbers, "--json")
    assert answer.code == 1
    assert [done["verdict"] for done in json.loads(answer.out)] == ["Dead"] * 3
    assert len(await stage.mails_to(customer.email)) == 2


async def test_an_event_that_the_templates_cannot_tell(stage: NotifierStage) -> None:
    """What the ledger itself has written wrongly is given up, not tried for ever."""
    await stage.start_notifier()
    customer = await stage.customer()
    events = await stage.record(customer.id, CREATED)
    await stage.ended(events[CREATED])
    order = (await stage.rows())[events[CREATED], "email"]["order_uid"]
    broken = await stage.record(customer.id, DELIVERED, order=order, after=1, without="trackingCode")
    row = await stage.ended(broken[DELIVERED], state="Dead")
    assert row["reason"] == "TemplateFailed"
    assert (await letter_about(stage, broken[DELIVERED]))["reason"] == "TemplateFailed"


async def test_dead_letters_name_nobody(stage: NotifierStage) -> None:
    await stage.start_notifier()
    customer = await stage.customer(email=f"bounced-{stage.merchant}@example.org", sms=True)
    events = await stage.record(customer.id, CREATED)
    await letter_about(stage, events[CREATED])
    buried = [
        f"{record.key!r} {record.value!r} {record.headers!r}"
        async for record in read_all(stage.env["ORDERPLANE_KAFKA"], topics=(DEAD_LETTER_TOPIC,))
    ]
    assert customer.phone is not None
    assert not [text for text in buried if customer.email in text or customer.phone in text or "Ada" in text]
    assert customer.email not in stage.log()


async def test_what_is_not_there_is_said(stage: NotifierStage) -> None:
    answer = await stage.command("dlq", "show", "999999999")
    assert answer.code == 4
    assert "999999999" in answer.err
    answer = await stage.command("dlq", "replay", "999999999")
    assert answer.code == 4
    assert "Traceback" not in answer.err
