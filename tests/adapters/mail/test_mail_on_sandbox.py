"""Mail by SMTP against the sandbox's real server, in all its moods, and the mailbox that is read."""

import asyncio
import ssl
import uuid
from email.message import EmailMessage
from email.policy import SMTPUTF8

import pytest
from aiosmtpd.controller import Controller
from aiosmtpd.handlers import Sink
from aiosmtpd.smtp import AuthResult

from orderplane.adapters.mail.mailpit import MailpitReader
from orderplane.adapters.mail.smtp import SmtpServer
from orderplane.dev.localplane.credentials import Authority
from orderplane.dev.localplane.ports import free_port
from orderplane.ledgers.errors import Refused, Transient, Unclear

LOGIN = "reader:secret"


@pytest.fixture(scope="module")
async def sandbox(start_sandbox):
    port = free_port()
    started = await start_sandbox("mail", ORDERPLANE_SMTP_PORT=str(port), ORDERPLANE_MAILBOX_KEY=LOGIN)
    started.smtp_url = f"smtp://127.0.0.1:{port}"
    return started


@pytest.fixture
async def mailbox(sandbox):
    async with MailpitReader(sandbox.url, LOGIN) as opened:
        yield opened


@pytest.fixture
async def server(sandbox):
    async with SmtpServer(sandbox.smtp_url, timeout_seconds=1.5) as opened:
        yield opened
    await trouble(sandbox, "ok")


async def trouble(sandbox, mode, **how):
    body = {"mode": mode, **how}
    status, document, _ = await sandbox.call(
        "POST", "/_sandbox/smtp-faults", json=body, auth=f"Bearer {LOGIN}"
    )
    assert status == 200, document


def a_mail(to="ada@example.org"):
    mail = EmailMessage()
    mail["From"], mail["To"], mail["Subject"] = "Shop <shop@shop.example>", to, "Grüße"
    mail["Message-ID"] = f"<{uuid.uuid4()}@shop.example>"
    mail.set_content("One line\n.\nafter a dot\n")
    return mail


def reference(mail):
    return mail["Message-ID"].strip("<").partition("@")[0]


async def copies(mailbox, mail):
    return [found async for found in mailbox.references()].count(reference(mail))


async def test_what_is_sent_is_there_as_it_was_written(sandbox, server, mailbox):
    mail = a_mail()
    await server.send(mail)
    assert await copies(mailbox, mail) == 1
    _, page, _ = await sandbox.call("GET", "/api/v1/messages?limit=1", auth=f"Bearer {LOGIN}")
    (summary,) = page["messages"]
    assert (summary["Subject"], summary["To"][0]["Address"]) == ("Grüße", "ada@example.org")
    path = f"/api/v1/message/{summary['ID']}"
    _, document, _ = await sandbox.call("GET", path, auth=f"Bearer {LOGIN}")
    assert document["Text"].splitlines() == ["One line", ".", "after a dot"]


async def test_many_at_once_and_none_lost(server, mailbox):
    mails = [a_mail() for _ in range(40)]
    await asyncio.gather(*(server.send(mail) for mail in mails))
    found = [each async for each in mailbox.references()]
    assert all(found.count(reference(mail)) == 1 for mail in mails)


async def test_it_is_all_there_after_a_kill(sandbox, server, mailbox):
    mail = a_mail()
    await server.send(mail)
    await sandbox.kill()
    with pytest.raises(Transient, check=lambda p: not isinstance(p, Unclear)):
        await server.send(a_mail())
    await sandbox.start()
    assert await copies(mailbox, mail) == 1


async def test_nobody_listens():
    async with SmtpServer(f"smtp://127.0.0.1:{free_port()}") as server:
        with pytest.raises(Transient, match="MailUnavailable"):
            await server.send(a_mail())


@pytest.mark.parametrize(
    ("mode", "after_effect", "verdict", "arrived"),
    [
        ("refuse", False, "MailUnavailable", 0),
        ("defer451", False, "MailDeferred", 0),
        ("reject554", False, "MessageRefused", 0),
        ("cut", False, "MailUnclear", 0),
        ("cut", True, "MailUnclear", 1),
        ("hang", False, "MailUnclear", 0),
        ("hang", True, "MailUnclear", 1),
    ],
)
async def test_trouble(sandbox, server, mailbox, mode, after_effect, verdict, arrived):
    mail = a_mail()
    await trouble(sandbox, mode, after_effect=after_effect)
    with pytest.raises((Transient, Refused), match=verdict) as told:
        await server.send(mail)
    assert isinstance(told.value, Unclear) is (verdict == "MailUnclear")
    assert "ada" not in str(told.value)
    await trouble(sandbox, "ok")
    assert await copies(mailbox, mail) == arrived
    # Whatever it was, the next one goes out.
    after = a_mail()
    await server.send(after)
    assert await copies(mailbox, after) == 1


async def test_recipients_with_a_will_of_their_own(server, mailbox):
    with pytest.raises(Refused, match="RecipientRefused"):
        await server.send(a_mail("bounced-1@example.org"))
    later = a_mail("greylisted-1@example.org")
    with pytest.raises(Transient, match="MailDeferred"):
        await server.send(later)
    await server.send(later)
    assert await copies(mailbox, later) == 1
    cut = a_mail("cut-off-1@example.org")
    with pytest.raises(Unclear):
        await server.send(cut)
    await server.send(cut)
    assert await copies(mailbox, cut) == 2


async def test_an_address_that_is_not_ascii_is_refused_where_the_server_does_not_take_it(server, mailbox):
    with pytest.raises(Refused, match="RecipientRefused"):
        await server.send(a_mail("žofie@example.org"))
    # The connection, and the next mail, are as good as before.
    mail = a_mail("ada@xn--bcher-kva.example")
    await server.send(mail)
    assert await copies(mailbox, mail) == 1


async def test_an_address_that_is_not_ascii_goes_to_a_server_with_smtputf8(start_sandbox):
    port = free_port()
    env = {"ORDERPLANE_SMTP_PORT": str(port), "ORDERPLANE_MAILBOX_KEY": LOGIN}
    sandbox = await start_sandbox("mail", **env, ORDERPLANE_SANDBOX_SMTPUTF8="1")
    async with SmtpServer(f"smtp://127.0.0.1:{port}") as server:
        # The second one goes over the kept connection.
        for to in ("žofie@example.org", "ada@example.org", "žofie@example.org"):
            mail = EmailMessage(policy=SMTPUTF8)
            mail["From"], mail["To"], mail["Subject"] = "Shop <shop@shop.example>", to, "Grüße"
            mail["Message-ID"] = f"<{uuid.uuid4()}@shop.example>"
            mail.set_content("One line")
            await server.send(mail)
    _, page, _ = await sandbox.call("GET", "/api/v1/messages", auth=f"Bearer {LOGIN}")
    assert [found["To"][0]["Address"] for found in page["messages"]] == [
        "žofie@example.org", "ada@example.org", "žofie@example.org",
    ]  # fmt: skip


async def test_a_kept_connection_that_the_server_has_closed_is_replaced(sandbox, server, mailbox):
    await server.send(a_mail())
    await sandbox.kill()
    await sandbox.start()
    mail = a_mail()
    await server.send(mail)
    assert await copies(mailbox, mail) == 1


@pytest.mark.parametrize("url", ["", "http://x:25", "smtp://", "mail.example.org:25"])
def test_an_address_that_is_none_is_said(url):
    with pytest.raises(ValueError, match="smtp"):
        SmtpServer(url)


@pytest.fixture(scope="module")
def authority(tmp_path_factory):
    made = Authority(tmp_path_factory.mktemp("pki"))
    made.serving("mail")
    return made


@pytest.fixture
def secure(authority):
    """A server with STARTTLS that wants to know who sends."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(authority.ca.parent / "mail.crt", authority.ca.parent / "mail.key")

    def is_known(_server, _session, _envelope, _mechanism, login):
        is_right = (login.login, login.password) == (b"us er", b"p@ss")
        return AuthResult(success=is_right, handled=False)

    controller = Controller(
        Sink(), hostname="127.0.0.1", port=free_port(), tls_context=context, auth_required=True,
        authenticator=is_known, require_starttls=True,
    )  # fmt: skip
    controller.start()
    yield controller.port
    controller.stop()


async def test_starttls_and_login(secure, authority, monkeypatch):
    monkeypatch.setenv("SSL_CERT_FILE", str(authority.ca))
    async with SmtpServer(f"smtp+starttls://us%20er:p%40ss@127.0.0.1:{secure}") as server:
        await server.send(a_mail())
    async with SmtpServer(f"smtp+starttls://us%20er:wrong@127.0.0.1:{secure}") as server:
        with pytest.raises(Transient, match="MailUnauthorized") as told:
            await server.send(a_mail())
    assert "wrong" not in str(told.value)


async def test_a_certificate_that_nobody_vouches_for_gets_no_mail(secure):
    async with SmtpServer(f"smtp+starttls://us%20er:p%40ss@127.0.0.1:{secure}") as server:
        with pytest.raises(Transient, match="MailUnavailable"):
            await server.send(a_mail())
