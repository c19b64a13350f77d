"""What is refused for good, cannot be read, or was tried too long: dead letters, and their commands."""

import json
import secrets
from typing import Any
from uuid import UUID

import pytest
from aiokafka import AIOKafkaProducer

from orderplane.adapters.kafka.topics import read_all
from orderplane.events.dead_letters import DEAD_LETTER_TOPIC
from orderplane.events.notifications import Channel
from orderplane.events.types import EventType

from .conftest import House

pytestmark = pytest.mark.integration

CREATED, SHIPPED, DELIVERED = EventType.ORDER_CREATED, EventType.ORDER_SHIPPED, EventType.ORDER_DELIVERED


async def letters_about(house: House, event: UUID | str) -> list[dict[str, Any]]:
    answer = await house.command("dlq", "list", "--json", "--last", "10000")
    assert answer.code == 0, answer.err
    return [letter for letter in json.loads(answer.out) if letter["eventId"] == str(event)]


async def letter_about(house: House, event: UUID | str) -> dict[str, Any]:
    found: list[dict[str, Any]] = []

    async def is_there() -> bool:
        found[:] = await letters_about(house, event)
        return bool(found)

    await house.until(is_there, f"a dead letter about {event}")
    (letter,) = found
    return letter


async def replayed(house: House, *words: str) -> list[dict[str, Any]]:
    answer = await house.command("dlq", "replay", *words, "--json")
    assert answer.code == 0, answer.err + answer.out
    done: list[dict[str, Any]] = json.loads(answer.out)
    return done


async def test_a_refused_address_is_a_dead_letter_and_its_replay_is_sent_once(house: House) -> None:
    await house.start_notifier()
    person = await house.customer(email=f"bounced-{house.merchant}@example.org", sms=True)
    told = await house.tell(person.id, CREATED, SHIPPED)
    row = await house.ended(told[SHIPPED], state="Dead")
    assert row["reason"] == "RecipientRefused"
    # The other channel is fine.
    await house.ended(told[SHIPPED], Channel.SMS)

    letter = await letter_about(house, told[SHIPPED])
    assert {key: letter[key] for key in ("reason", "channel", "topic", "consumer")} == {
        "reason": "RecipientRefused", "channel": "email", "topic": "order.shipped", "consumer": "notifier",
    }  # fmt: skip
    shown = await house.command("dlq", "show", str(letter["number"]), "--json")
    document = json.loads(shown.out)
    assert json.loads(document["value"])["trackingCode"]
    assert document["headers"]["ce_id"] == str(told[SHIPPED])
    assert person.email not in shown.out
    plain = await house.command("dlq", "show", str(letter["number"]))
    assert "RecipientRefused" in plain.out
    in_table = await house.command("dlq", "list")
    assert (in_table.code, in_table.err) == (0, "")
    assert await house.violations() == []

    await house.move(person, f"found-{house.merchant}@example.org")
    (done,) = await replayed(house, str(letter["number"]))
    assert done["verdict"] == "Tried"
    await house.ended(told[SHIPPED])
    (done,) = await replayed(house, str(letter["number"]))
    assert (done["verdict"], done["states"]["email"]) == ("Unchanged", "Sent")
    assert await house.arrived(told[SHIPPED]) == 1
    assert await house.arrived(told[SHIPPED], Channel.SMS) == 1
    assert await house.violations() == []


async def test_an_older_message_is_superseded_unless_it_is_forced(house: House) -> None:
    await house.start_notifier()
    person = await house.customer(email=f"bounced-{house.merchant}@example.org")
    told = await house.tell(person.id, CREATED)
    await house.ended(told[CREATED], state="Dead")
    letter = await letter_about(house, told[CREATED])
    await house.move(person, f"found-{house.merchant}@example.org")
    order = (await house.rows())[told[CREATED], "email"]["order_uid"]
    told |= await house.tell(person.id, SHIPPED, order=order, after=1)
    await house.ended(told[SHIPPED])

    number = str(letter["number"])
    await replayed(house, number)
    row = await house.ended(told[CREATED], state="Superseded")
    assert row["reason"] == "LaterWasSent"
    assert await house.arrived(told[CREATED]) == 0
    (done,) = await replayed(house, number)
    assert done["verdict"] == "Unchanged"

    (done,) = await replayed(house, number, "--force")
    assert done["verdict"] == "Tried"
    await house.ended(told[CREATED])
    (done,) = await replayed(house, number, "--force")
    assert done["verdict"] == "Unchanged"
    assert await house.arrived(told[CREATED]) == 1
    assert await house.violations() == []
    assert await house.metric("orderplane_notifications_total", result="superseded") == 1


async def test_a_number_that_cannot_be_reached(house: House) -> None:
    await house.start_notifier()
    person = await house.customer(phone="+15005550001", sms=True, mail=False)
    told = await house.tell(person.id, CREATED, SHIPPED)
    row = await house.ended(told[SHIPPED], Channel.SMS, "Dead")
    assert row["reason"] == "SmsRefused"
    letter = await letter_about(house, told[SHIPPED])
    assert (letter["channel"], letter["reason"]) == ("sms", "SmsRefused")


async def test_what_was_tried_too_long_is_given_up(house: House) -> None:
    await house.supervisor.stop("mail")
    try:
        await house.start_notifier(ORDERPLANE_NOTIFIER_GOOD_FOR_SECONDS="2")
        person = await house.customer()
        told = await house.tell(person.id, CREATED)
        row = await house.ended(told[CREATED], state="Dead", seconds=60)
        assert row["reason"] == "GivenUp"
        letter = await letter_about(house, told[CREATED])
    finally:
        await house.supervisor.start("mail")
    await house.stop_notifier()
    await house.start_notifier()
    await replayed(house, str(letter["number"]))
    await house.ended(told[CREATED])
    assert await house.arrived(told[CREATED]) == 1


async def test_poison_is_buried_and_the_rest_goes_on(house: House) -> None:
    await house.start_notifier()
    person = await house.customer()
    told = await house.tell(person.id, CREATED)
    await house.ended(told[CREATED])
    (record,) = [
        record
        async for record in read_all(house.env["ORDERPLANE_KAFKA"], topics=("order.created",))
        if ("ce_id", str(told[CREATED]).encode()) in record.headers
    ]
    forged, mark = str(UUID(int=secrets.randbits(128), version=4)), f"poison-{secrets.token_hex(8)}"
    headers = dict(record.headers)
    producer = AIOKafkaProducer(bootstrap_servers=house.env["ORDERPLANE_KAFKA"])
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
        mark: "Unreadable", forged: "UnknownEvent", str(told[CREATED]): "AlteredEvent",
    }  # fmt: skip
    numbers = []
    for event, reason in reasons.items():
        letter = await letter_about(house, event)
        assert (letter["reason"], letter["channel"], letter["topic"]) == (reason, None, "order.created")
        assert letter["partition"] is not None
        assert letter["offset"] is not None
        numbers.append(str(letter["number"]))

    after = await house.tell(person.id, CREATED)
    await house.ended(after[CREATED])
    assert await house.violations() == []
    assert await house.metric("orderplane_dead_letters_total") == 3

    # Nothing has been mended, so a replay says why it is still dead; nobody is told anything.
    answer = await house.command("dlq", "replay", *numbers, "--json")
    assert answer.code == 1
    assert [done["verdict"] for done in json.loads(answer.out)] == ["Dead"] * 3
    assert len(await house.mails_to(person.email)) == 2


async def test_an_event_that_the_templates_cannot_tell(house: House) -> None:
    """What the ledger itself has written wrongly is given up, not tried for ever."""
    await house.start_notifier()
    person = await house.customer()
    told = await house.tell(person.id, CREATED)
    await house.ended(told[CREATED])
    order = (await house.rows())[told[CREATED], "email"]["order_uid"]
    broken = await house.tell(person.id, DELIVERED, order=order, after=1, without="trackingCode")
    row = await house.ended(broken[DELIVERED], state="Dead")
    assert row["reason"] == "TemplateFailed"
    assert (await letter_about(house, broken[DELIVERED]))["reason"] == "TemplateFailed"


async def test_dead_letters_name_nobody(house: House) -> None:
    await house.start_notifier()
    person = await house.customer(email=f"bounced-{house.merchant}@example.org", sms=True)
    told = await house.tell(person.id, CREATED)
    await letter_about(house, told[CREATED])
    buried = [
        f"{record.key!r} {record.value!r} {record.headers!r}"
        async for record in read_all(house.env["ORDERPLANE_KAFKA"], topics=(DEAD_LETTER_TOPIC,))
    ]
    assert person.phone is not None
    assert not [text for text in buried if person.email in text or person.phone in text or "Ada" in text]
    assert person.email not in house.log()


async def test_what_is_not_there_is_said(house: House) -> None:
    answer = await house.command("dlq", "show", "999999999")
    assert answer.code == 1
    assert "999999999" in answer.err
    answer = await house.command("dlq", "replay", "999999999")
    assert answer.code == 1
    assert "Traceback" not in answer.err
