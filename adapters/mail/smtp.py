"""Mail over SMTP (RFC 5321), through aiosmtplib."""

import time
from email.message import EmailMessage
from email.utils import parseaddr
from typing import Self
from urllib.parse import unquote, urlsplit

import aiosmtplib
from aiosmtplib import SMTP

from orderplane.adapters.providers import RECOVERY_SECONDS, ProviderCalls
from orderplane.crds.reasons import Reason
from orderplane.ledgers.errors import Refused, Transient, Unclear

MAX_IDLE_SECONDS = 20.0
"""Connections that were idle for longer are not used again: many servers close them after 30 s."""
QUIT_TIMEOUT_SECONDS = 2.0


class SmtpServer:
    """Implements `workers.notifier.channels.MailServer`; an async context manager.

    A connection carries one mail at a time; up to `max_idle` connections stay open for later mails.

    Args:
        url: `smtp://host:port`, `smtp+starttls://user:password@host:587` or `smtps://user:password@host`.
            Certificates are verified.
        timeout_seconds: The most that one command may take.

    Raises:
        ValueError: the address cannot be read.
    """

    def __init__(
        self,
        url: str,
        *,
        timeout_seconds: float = 5.0,
        max_idle: int = 8,
        failure_threshold: int = 8,
        recovery_seconds: float = RECOVERY_SECONDS,
    ) -> None:
        self._read_url(url)
        self._timeout_seconds = timeout_seconds
        self._max_idle = max_idle
        self._idle: list[tuple[float, SMTP]] = []
        self._calls = ProviderCalls(
            "mail", classify_error, failure_threshold=failure_threshold, recovery_seconds=recovery_seconds
        )

    def _read_url(self, url: str) -> None:
        parts = urlsplit(url)
        if parts.scheme not in ("smtp", "smtp+starttls", "smtps") or not parts.hostname:
            raise ValueError("give the mail server as smtp://, smtp+starttls:// or smtps://HOST:PORT")
        self._host, self._port = parts.hostname, parts.port
        self._user = unquote(parts.username) if parts.username else None
        self._password = unquote(parts.password) if parts.password else None
        self._scheme = parts.scheme

    async def use_url(self, url: str) -> None:
        """Send every later mail by this address. A mail that is being sent is finished by the last one.

        Raises:
            ValueError: the address cannot be read.
        """
        self._read_url(url)
        await self._quit_idle()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._quit_idle()

    async def _quit_idle(self) -> None:
        while self._idle:
            await _quit(self._idle.pop()[1])

    async def send(self, mail: EmailMessage) -> None:
        await self._calls.once("send", lambda: self._deliver(mail), message=mail["Message-ID"])

    async def _deliver(self, mail: EmailMessage) -> None:
        content, recipient = mail.as_bytes(), mail["To"].addresses[0].addr_spec
        needs_smtputf8 = not recipient.isascii()
        connection = await self._begin_transaction(parseaddr(mail["From"])[1], needs_smtputf8=needs_smtputf8)
        try:
            await connection.rcpt(recipient, encoding="utf-8" if needs_smtputf8 else "ascii")
            try:
                await connection.data(content)
            except (OSError, TimeoutError) as problem:
                raise _NoReplyToData from problem
        except BaseException:
            connection.close()
            raise
        if len(self._idle) < self._max_idle:
            self._idle.append((time.monotonic(), connection))
        else:
            await _quit(connection)

    async def _begin_transaction(self, sender: str, *, needs_smtputf8: bool) -> SMTP:
        """A connection that has accepted MAIL FROM. An idle one that the server has closed is replaced."""
        while self._idle:
            since, connection = self._idle.pop()
            if connection.is_connected and time.monotonic() - since < MAX_IDLE_SECONDS:
                try:
                    await _mail_from(connection, sender, needs_smtputf8=needs_smtputf8)
                    return connection
                except aiosmtplib.SMTPServerDisconnected:
                    pass
                except BaseException:
                    connection.close()
                    raise
            connection.close()
        connection = SMTP(
            hostname=self._host,
            port=self._port,
            username=self._user,
            password=self._password,
            timeout=self._timeout_seconds,
            use_tls=self._scheme == "smtps",
            start_tls=self._scheme == "smtp+starttls",
        )
        try:
            await connection.connect()
            await _mail_from(connection, sender, needs_smtputf8=needs_smtputf8)
        except BaseException:
            connection.close()
            raise
        return connection


async def _mail_from(connection: SMTP, sender: str, *, needs_smtputf8: bool) -> None:
    """MAIL FROM; for a recipient beyond ASCII with SMTPUTF8 (RFC 6531, 3.4).

    Raises:
        aiosmtplib.SMTPNotSupported: the server does not announce that.
    """
    if needs_smtputf8:
        if connection.is_ehlo_or_helo_needed:
            await connection.ehlo()
        if not connection.supports_extension("smtputf8"):
            raise aiosmtplib.SMTPNotSupported("the server does not announce SMTPUTF8")
    await connection.mail(sender, options=["SMTPUTF8"] if needs_smtputf8 else None)


class _NoReplyToData(Exception):  # noqa: N818
    """The connection failed after DATA was begun: the server may have accepted the mail."""


def classify_error(problem: Exception) -> Transient | Refused | None:
    """What an exception means for the mail. Codes of 500 and more are permanent: RFC 5321, section 4.2.1."""
    match problem:
        case _NoReplyToData():
            return Unclear(Reason.MAIL_UNCLEAR, "the mail server did not say whether it took the mail")
        case aiosmtplib.SMTPRecipientRefused() if problem.code >= 500:
            return Refused(Reason.RECIPIENT_REFUSED, f"The mail server refuses the address ({problem.code}).")
        case aiosmtplib.SMTPDataError() if problem.code >= 500:
            return Refused(Reason.MESSAGE_REFUSED, f"The mail server refuses the message ({problem.code}).")
        case aiosmtplib.SMTPRecipientRefused() | aiosmtplib.SMTPDataError():
            return Transient(
                Reason.MAIL_DEFERRED, f"the mail server asks to try again later ({problem.code})"
            )
        case aiosmtplib.SMTPAuthenticationError() | aiosmtplib.SMTPSenderRefused() if problem.code >= 500:
            # A fault of our account, not of the customer's address: no message may be given up because of it.
            return Transient(
                Reason.MAIL_UNAUTHORIZED, "the mail server refuses our account; check its address"
            )
        case aiosmtplib.SMTPNotSupported() | UnicodeError():
            return Refused(Reason.RECIPIENT_REFUSED, "The mail server takes addresses in ASCII only.")
        case aiosmtplib.SMTPException() | OSError() | TimeoutError():
            return Transient(Reason.MAIL_UNAVAILABLE, "the mail server cannot be reached")
        case _:
            return None


async def _quit(connection: SMTP) -> None:
    try:
        await connection.quit(timeout=QUIT_TIMEOUT_SECONDS)
    except (aiosmtplib.SMTPException, OSError, TimeoutError):
        connection.close()
