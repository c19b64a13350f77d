"""Links and codes reach who they are for, and nobody else."""

import json
import re
import secrets
from uuid import UUID

import pytest

from orderplane.events.account_messages import AccountMessageKind as Kind
from orderplane.events.account_messages import parse_link_token
from orderplane.events.notifications import Channel
from orderplane.events.types import EventType
from orderplane.gateway.identity.account_messages import AccountMessages
from orderplane.gateway.identity.confirmations import Confirmations
from orderplane.gateway.identity.user_store import UserStore

from .conftest import NotifierStage

pytestmark = pytest.mark.integration

PAGE = "https://{merchant}.shops.example/account"
LINK = re.compile(r"https://([a-z0-9-]+)\.shops\.example/account#([a-z-]+)=(\S+)")
NAME = "Win at evil.example"


def an_address(kind: str = "") -> str:
    return f"{kind}{secrets.token_hex(6)}@example.org"


async def register(stage: NotifierStage, email: str, times: int = 1) -> None:
    await stage.pool.execute(
        "INSERT INTO products (merchant, sku, name, currency, unit_amount, weight_grams) "
        "VALUES ($1, 'TEA', 'Tea', 'EUR', 100, 100) ON CONFLICT DO NOTHING",
        stage.merchant,
    )
    for _ in range(times):
        await Confirmations(stage.pool).register(
            stage.merchant, email, password_hash="none", name=NAME, phone=None
        )


async def links_to(stage: NotifierStage, email: str) -> list[tuple[str, str]]:
    """What the links in the mails to an address are for, and their tokens, the oldest first."""
    links = []
    for mail in await stage.mails_to(email):
        text = mail["Text"].replace("\r\n", "\n")
        assert text.startswith("Hello,\n"), "no name that somebody has chosen"
        for merchant, action, token in LINK.findall(text):
            assert merchant == stage.merchant
            links.append((action, token))
    return links


async def test_a_link_arrives_and_is_nowhere_else(stage: NotifierStage) -> None:
    await stage.start_notifier(ORDERPLANE_ACCOUNT_URL=PAGE)
    email = an_address()
    await register(stage, email)
    await stage.account_message_ended(email)
    (mail,) = await stage.mails_to(email)
    assert NAME not in json.dumps(mail)
    ((action, token),) = await links_to(stage, email)
    assert action == "confirm-registration"
    parsed = parse_link_token(token)
    assert parsed is not None
    stored = json.dumps([[str(value) for value in row.values()] for row in await stage.account_rows()])
    for where in (stage.log(), stored):
        assert parsed[1] not in where
    assert email not in stage.log()
    proof = await AccountMessages(stage.pool).open_link(Kind.REGISTRATION, token)
    assert proof is not None
    assert (proof.merchant, proof.address) == (stage.merchant, email)
    assert await stage.violations() == []


async def test_without_a_page_the_mail_has_the_token(stage: NotifierStage) -> None:
    await stage.start_notifier()
    email = an_address()
    await register(stage, email)
    await stage.account_message_ended(email)
    (mail,) = await stage.mails_to(email)
    (token,) = re.findall(r"^[0-9a-f]{32}\.\S+$", mail["Text"].replace("\r", ""), re.MULTILINE)
    assert await AccountMessages(stage.pool).open_link(Kind.REGISTRATION, token) is not None


async def test_a_merchant_that_is_none_writes_to_nobody(stage: NotifierStage) -> None:
    await stage.start_notifier()
    email = an_address()
    await Confirmations(stage.pool).register(stage.merchant, email, password_hash="none", name="", phone=None)
    row = await stage.account_message_ended(email, "Skipped")
    assert row["reason"] == "NoMerchant", "there is nothing to buy"
    assert await stage.mails_to(email) == []


async def test_only_the_mailbox_learns_that_it_has_an_account(stage: NotifierStage) -> None:
    await stage.start_notifier(ORDERPLANE_ACCOUNT_URL=PAGE)
    ada = await stage.customer()
    await register(stage, ada.email)
    await stage.account_message_ended(ada.email)
    (mail,) = await stage.mails_to(ada.email)
    assert mail["Subject"] == "You have an account"
    assert await links_to(stage, ada.email) == []


async def test_a_reset_goes_to_accounts_only(stage: NotifierStage) -> None:
    users, confirmations = UserStore(stage.pool), Confirmations(stage.pool)
    await stage.start_notifier(ORDERPLANE_ACCOUNT_URL=PAGE)
    ada, nobody = await stage.customer(), an_address()
    made = {
        role: await users.add(
            stage.merchant, f"u-{role}", email=an_address(), password_hash="none", role=role
        )
        for role in ("customer", "merchant")
    }
    for email in (ada.email, nobody, *(user.email for user in made.values())):
        await confirmations.request_reset(stage.merchant, email)
    for email in (ada.email, made["customer"].email):
        await stage.account_message_ended(email)
        ((action, token),) = await links_to(stage, email)
        assert action == "reset-password"
        proof = await AccountMessages(stage.pool).open_link(Kind.PASSWORD_RESET, token)
        assert proof is not None
        assert await confirmations.reset_password(proof, "another")
    # Nobody has shown that the mail to one of the staff would reach them.
    for email in (nobody, made["merchant"].email):
        row = await stage.account_message_ended(email, "Skipped")
        assert row["reason"] == "NoAccount"
        assert row["secret_hashes"] == []
        assert await stage.mails_to(email) == []
    # The notice of the new password.
    await stage.account_message_ended(ada.email)
    assert [mail["Subject"] for mail in await stage.mails_to(ada.email)][-1] == "Your password was changed"
    assert await stage.violations() == []


async def test_a_code_arrives_by_sms(stage: NotifierStage) -> None:
    await stage.start_notifier()
    ada, number = await stage.customer(), f"+3197{secrets.randbelow(10**9):09d}"
    assert ada.phone is not None
    confirmations, messages = Confirmations(stage.pool), AccountMessages(stage.pool)
    await confirmations.propose_phone(stage.merchant, ada.id, number)
    await stage.account_message_ended(number)
    (text,) = await stage.sms_to(number)
    (code,) = re.findall(r"\b[0-9]{6}\b", text)
    assert len(text) <= 160, "one SMS"
    assert code not in stage.log()
    proof = await messages.open_code(Kind.NEW_PHONE, stage.merchant, ada.id, code)
    assert proof is not None
    assert await confirmations.confirm_phone(proof, None)
    await stage.account_message_ended(ada.phone)
    assert "another phone number" in (await stage.sms_to(ada.phone))[0]
    assert await stage.violations() == []


async def test_nobody_gets_many_mails_that_they_did_not_ask_for(stage: NotifierStage) -> None:
    email = an_address()
    await register(stage, email, times=6)
    await stage.start_notifier()
    await stage.account_message_ended(email, "Skipped")

    async def all_ended() -> bool:
        return all(row["state"] != "Waiting" for row in await stage.account_rows())

    await stage.until(all_ended, "every message has ended", seconds=20)
    states = [(row["state"], row["reason"]) for row in await stage.account_rows()]
    assert states == [("Sent", None)] * 3 + [("Skipped", "TooMany")] * 3
    assert len(await stage.mails_to(email)) == 3
    # Another kind of message is not stopped by it: the owner can still ask for a new password.
    await UserStore(stage.pool).add(
        stage.merchant, "u-owner", email=email, password_hash="none", role="customer", is_confirmed=True
    )
    await Confirmations(stage.pool).request_reset(stage.merchant, email)
    await stage.account_message_ended(email)


async def test_every_copy_of_a_mail_in_doubt_has_a_link_that_is_good(stage: NotifierStage) -> None:
    await stage.start_notifier(ORDERPLANE_ACCOUNT_URL=PAGE)
    email = an_address("cut-off-")
    await register(stage, email)
    await stage.account_message_ended(email)
    links = await links_to(stage, email)
    assert len(links) == 2
    assert len({mail["MessageID"] for mail in await stage.mails_to(email)}) == 1
    for _, token in links:
        assert await AccountMessages(stage.pool).open_link(Kind.REGISTRATION, token) is not None
    assert await stage.violations() == []


async def test_a_secret_that_was_not_sent_is_not_kept(stage: NotifierStage) -> None:
    await stage.start_notifier(ORDERPLANE_ACCOUNT_URL=PAGE)
    email = an_address("greylisted-")
    await register(stage, email)
    row = await stage.account_message_ended(email)
    assert row["attempt"] == 2
    assert len(row["secret_hashes"]) == 1


async def test_an_outage_is_not_taken_from_the_readers_time(stage: NotifierStage) -> None:
    await stage.start_notifier()
    ada = await stage.customer()
    await Confirmations(stage.pool).request_reset(stage.merchant, ada.email)
    await stage.account_message_ended(ada.email)
    # As if it had been asked for hours ago.
    await stage.pool.execute(
        "UPDATE account_messages SET state = 'Waiting', ended_at = NULL, "
        "created_at = now() - interval '5 hours', expires_at = now() WHERE address = $1",
        ada.email,
    )
    row = await stage.account_message_ended(ada.email)
    assert (row["expires_at"] - row["ended_at"]).total_seconds() > 3500


async def test_what_orders_tell_goes_to_confirmed_addresses_only(stage: NotifierStage) -> None:
    await stage.start_notifier()
    users = UserStore(stage.pool)
    made = await users.add(
        stage.merchant, "u-unconfirmed", email=an_address(), password_hash="none", role="customer"
    )
    await stage.change(made, preferences={"email": True, "sms": True})
    await Confirmations(stage.pool).propose_phone(stage.merchant, made.id, "+31970000009")
    events: dict[EventType, UUID] = await stage.record(
        made.id, EventType.ORDER_CREATED, EventType.PAYMENT_SUCCESS, EventType.ORDER_SHIPPED
    )
    for event, channel in (
        (EventType.ORDER_CREATED, Channel.EMAIL),
        (EventType.ORDER_SHIPPED, Channel.EMAIL),
        (EventType.ORDER_SHIPPED, Channel.SMS),
    ):
        row = await stage.ended(events[event], channel, "Skipped")
        assert row["reason"] == "NotConfirmed"
        assert await stage.arrived(events[event], channel) == 0
    assert await stage.mails_to(made.email) == []
    assert await stage.violations() == []
