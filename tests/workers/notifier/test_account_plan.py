"""Messages about accounts: which are sent, and what they say."""

import re
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from importlib import resources
from uuid import uuid4

import pytest

from orderplane.events.account_messages import (
    VALID_FOR,
    AccountMessageKind,
    hash_secret,
    link_token,
    new_secret,
    parse_link_token,
)
from orderplane.events.notifications import Channel
from orderplane.ledgers.errors import Refused
from orderplane.workers.notifier.account_plan import (
    PER_DAY,
    PER_HOUR,
    AccountMessage,
    final_unsent_account_message,
)
from orderplane.workers.notifier.account_rendering import account_mail_of, account_sms_of
from orderplane.workers.notifier.plan import Final, State
from orderplane.workers.notifier.rendering import greeting_name

NOW = datetime(2026, 3, 1, tzinfo=UTC)
DAY = timedelta(days=1)
SENDER = "Shop <orders@shop.example>"
SMS = (AccountMessageKind.NEW_PHONE, AccountMessageKind.PHONE_CHANGED)


def a_message(kind=AccountMessageKind.REGISTRATION, **changes) -> AccountMessage:
    message = AccountMessage(
        id=uuid4(), merchant="demo", channel=Channel.SMS if kind in SMS else Channel.EMAIL, kind=kind,
        recipient="+31970000001" if kind in SMS else "ada@example.org", secret=new_secret(kind), attempt=1,
        unknown_attempts=0, requested_at=NOW, about="we-1", is_wanted=True, is_address_known=False,
        earlier_in_hour=0,
        earlier_in_day=0,
    )  # fmt: skip
    return replace(message, **changes)


@pytest.mark.parametrize(
    ("kind", "changes", "expected"),
    [
        ("Registration", {}, None),
        ("Registration", {"is_wanted": False}, Final(State.SKIPPED, "NoMerchant")),
        ("PasswordReset", {"is_wanted": False}, Final(State.SKIPPED, "NoAccount")),
        ("Registration", {"earlier_in_hour": PER_HOUR - 1, "earlier_in_day": PER_DAY - 1}, None),
        ("Registration", {"earlier_in_hour": PER_HOUR}, Final(State.SKIPPED, "TooMany")),
        ("NewPhone", {"earlier_in_day": PER_DAY}, Final(State.SKIPPED, "TooMany")),
        ("PasswordChanged", {"earlier_in_hour": 100, "earlier_in_day": 100}, None),
        ("PasswordReset", {"requested_at": NOW - DAY - timedelta(1)}, Final(State.DEAD, "GivenUp")),
    ],
)
def test_what_is_sent(kind, changes, expected):
    message = a_message(AccountMessageKind(kind), **changes)
    assert final_unsent_account_message(message, NOW, DAY) == expected


@pytest.mark.parametrize("kind", AccountMessageKind)
def test_every_message_can_be_written(kind):
    message = a_message(kind)
    if kind in SMS:
        text = account_sms_of(message)
        assert len(text) <= 160
        assert re.search(r"\(ref [0-9a-f]{12}\)$", text)
    else:
        mail = account_mail_of(message, SENDER, "https://{merchant}.shop.example/account")
        text = mail.get_content()
        assert mail["To"] == "ada@example.org"
        assert mail["Message-ID"] == f"<{message.id}@shop.example>"
        assert text.startswith("Hello,\n")
        assert max(map(len, text.splitlines())) < 200
    assert "demo" in text
    assert (kind in VALID_FOR) == (message.secret is not None and message.secret in text)
    if message.secret:
        assert message.secret not in repr(message)


def test_the_table_has_the_same_kinds():
    migrations = resources.files("orderplane.ledgers").joinpath("migrations").iterdir()
    schema = "".join(file.read_text() for file in sorted(migrations, key=lambda file: file.name))
    *_, kinds = re.findall(r"account_messages\b.*?CHECK \(kind IN\s*\(([^)]*)\)", schema, re.DOTALL)
    assert re.findall(r"'(\w+)'", kinds) == [kind.value for kind in AccountMessageKind]


def test_a_link_has_its_token_where_no_server_sees_it():
    message = a_message()
    text = account_mail_of(message, SENDER, "https://shop.example/account").get_content()
    token = link_token(message.id, message.secret)
    assert f"https://shop.example/account#confirm-registration={token}\n" in text
    assert parse_link_token(token) == (message.id, message.secret)


def test_an_address_that_has_an_account_gets_no_link():
    message = a_message(is_address_known=True)
    mail = account_mail_of(message, SENDER, "https://shop.example/account")
    assert mail["Subject"] == "You have an account"
    assert message.secret not in mail.get_content()


def test_an_address_that_cannot_be_written_is_refused():
    with pytest.raises(Refused, match="RecipientRefused"):
        account_mail_of(a_message(recipient="a\r\nBcc: eve@example.org"), SENDER, None)


def test_an_address_beyond_ascii_is_written_as_it_is():
    mail = account_mail_of(a_message(recipient="\u017eofie@example.org"), SENDER, None)
    assert "To: \u017eofie@example.org".encode() in mail.as_bytes()


@pytest.mark.parametrize(
    "token",
    ["", ".", "x", "x.y", "0" * 32, "0" * 31 + ".x", "0" * 32 + "." + "x" * 200, "\u0661" * 32 + ".x"],
)
def test_what_is_no_token_is_not_looked_up(token):
    assert parse_link_token(token) is None


def test_equal_codes_have_different_hashes():
    assert hash_secret(uuid4(), "123456") != hash_secret(uuid4(), "123456")


@pytest.mark.parametrize(
    "name",
    [
        "Ada Example",
        "Dr. J. R. O'Neil-Smith, jr.",
        "Jos\u00e9 \u00c1lvarez",
        "\u674e \u96f7",
        "\u0928\u093f\u0936\u093e",
        "Customer 1",
        "",
    ],
)
def test_a_name_is_a_greeting(name):
    assert greeting_name(name) == name


@pytest.mark.parametrize(
    "name",
    [
        "evil.example", "Win at evil.example", "www.evil.example now", "http://evil.example",
        "evil\u3002example",
        "a@evil.example", "//evil", "evil\uff0eexample", "1.2.3.4", "<b>x</b>", "call +31970000001",
        "evil\u2024example", "x:y", "a_b", "a\u200bb", "\u202eelpmaxe", "hxxps[:]", "a\nb", "evil&period;com",
    ],
)  # fmt: skip
def test_a_name_that_may_be_a_link_is_not(name):
    assert greeting_name(name) == ""
