"""What messages say, from the very examples that the events' contract gives."""

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from email import message_from_bytes, policy
from importlib import resources
from uuid import UUID

import pytest

from orderplane.events.notifications import Channel, message_reference, parse_sms_reference
from orderplane.ledgers.errors import Refused
from orderplane.workers.notifier.plan import CHANNELS, Notification, Recipient
from orderplane.workers.notifier.rendering import mail_of, sms_of

SENDER = "The Shop <orders@shop.example>"
EVENT = UUID("0b0a6a52-6c0e-4c8b-8f55-7c9d21f0a3b4")


def examples(type_):
    file = resources.files("orderplane.events") / "schemas" / f"{type_.value}.json"
    return json.loads(file.read_text(encoding="utf-8"))["examples"]


def notice(type_, data, channel=Channel.EMAIL, **customer):
    who = {"name": "Ada", "address": "ada@example.org", "is_wanting": True} | customer
    return Notification(
        merchant="demo", event_id=EVENT, channel=channel, type=type_, order=data["order"]["name"], data=data,
        traceparent=None, attempt=1, unknown_attempts=0, pending_since=datetime(2026, 3, 1, tzinfo=UTC),
        tried_for=timedelta(), is_forced=False, is_overtaken=False, recipient=Recipient(**who),
    )  # fmt: skip


ALL = [(type_, data) for type_ in CHANNELS for data in examples(type_)]
IDS = [type_.value for type_, _ in ALL]
CREATED = next(case for case in ALL if case[0] == "order.created")
SHIPMENT = next(type_ for type_ in CHANNELS if type_ == "order.shipped")
SHIPPED = [data for type_, data in ALL if type_ == "order.shipped"]


def body(mail, kind):
    return mail.get_body((kind,)).get_content()


@pytest.mark.parametrize(("type_", "data"), ALL, ids=IDS)
def test_every_mail_says_which_order_in_text_and_html(type_, data):
    mail = mail_of(notice(type_, data), SENDER)
    assert data["order"]["name"] in mail["Subject"]
    assert (mail["From"], mail["To"]) == (SENDER, "ada@example.org")
    for kind in ("plain", "html"):
        assert data["order"]["name"] in body(mail, kind)
        assert "Hello Ada," in body(mail, kind)
        assert "{" not in body(mail, kind)
    assert body(mail, "plain").startswith("Hello")


@pytest.mark.parametrize(("type_", "data"), ALL, ids=IDS)
def test_a_mail_is_the_same_bytes_every_time_but_for_its_boundary(type_, data):
    first, second = (mail_of(notice(type_, data), SENDER) for _ in range(2))
    for mail in (first, second):
        mail.set_boundary("b")
    assert first.as_bytes() == second.as_bytes()
    assert first["Message-ID"] == f"<{EVENT}@shop.example>"
    assert all(len(line) <= 998 for line in first.as_bytes().splitlines())
    assert first.as_bytes().isascii()


def test_the_confirmation_has_items_and_the_total():
    text = body(mail_of(notice(*CREATED), SENDER), "plain")
    assert "  2 x TEA\n" in text
    assert "39.03 EUR" in text


def test_a_tracking_link_is_there_where_the_carrier_has_one():
    with_link, without = (mail_of(notice(SHIPMENT, data), SENDER) for data in SHIPPED)
    link = SHIPPED[0]["trackingUrl"]
    assert link in body(with_link, "plain")
    assert f'<a href="{link}">' in body(with_link, "html")
    assert "Follow" not in body(without, "plain") + body(without, "html")


@pytest.mark.parametrize("name", ["<script>alert(1)</script>&", "Win at evil.example"])
def test_a_name_cannot_become_html_or_a_link(name):
    mail = mail_of(notice(*CREATED, name=name), SENDER)
    for kind in ("plain", "html"):
        assert "Hello," in body(mail, kind)
        assert "script" not in body(mail, kind)
        assert "evil" not in body(mail, kind)


def test_a_name_is_text_in_html():
    mail = mail_of(notice(*CREATED, name="Grace O'Neil"), SENDER)
    assert "Hello Grace O&#39;Neil," in body(mail, "html")
    assert "Hello Grace O'Neil," in body(mail, "plain")


def test_somebody_without_a_name_is_greeted_all_the_same():
    assert "Hello,\n" in body(mail_of(notice(*CREATED, name=""), SENDER), "plain")


def test_names_of_all_scripts_arrive():
    mail = mail_of(notice(*CREATED, name="Žofie 咲"), SENDER)
    read = message_from_bytes(mail.as_bytes(), policy=policy.default)
    assert "Hello Žofie 咲," in body(read, "plain")


@pytest.mark.parametrize(
    "address",
    ["ada@example.org\nBcc: eve@example.org", "eve", "eve@", "@eve", "a@b.example, eve@example.org"],
)
def test_what_is_no_address_is_refused(address):
    with pytest.raises(Refused, match="RecipientRefused") as events:
        mail_of(notice(*CREATED, address=address), SENDER)
    assert "eve" not in str(events.value)


@pytest.mark.parametrize("missing", ["items", "total", "currency"])
def test_what_a_template_needs_and_does_not_get_is_a_refusal(missing):
    type_, data = CREATED
    broken = {key: value for key, value in data.items() if key != missing}
    with pytest.raises(Refused, match="TemplateFailed") as events:
        mail_of(notice(type_, broken), SENDER)
    assert "order.created" in str(events.value)


@pytest.mark.parametrize(
    ("type_", "data"), [case for case in ALL if Channel.SMS in CHANNELS[case[0]]], ids=lambda x: str(x)[:14]
)
def test_an_sms_is_one_line_and_ends_in_its_reference(type_, data):
    text = sms_of(notice(type_, data, Channel.SMS))
    assert data["order"]["name"] in text
    assert "\n" not in text
    assert parse_sms_reference(text) == message_reference(EVENT, Channel.SMS) == "0b0a6a526c0e"


def test_an_sms_stays_within_what_providers_take():
    type_, data = SHIPMENT, SHIPPED[0]
    long = {**data, "trackingUrl": "https://" + "x" * 2000, "carrier": "c" * 255, "trackingCode": "t" * 255}
    text = sms_of(replace(notice(type_, long, Channel.SMS), order="o" * 50))
    assert len(text) <= 1600


@pytest.mark.parametrize("text", ["", "hello", "(ref 0b0a6a526c0e) and more", "(ref XYZ)"])
def test_what_is_not_ours_has_no_reference(text):
    assert parse_sms_reference(text) is None
