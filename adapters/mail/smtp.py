"""Mail by SMTP, through aiosmtplib."""

import time
from email.message import EmailMessage
from email.utils import parseaddr
from typing import Self
from urllib.parse import unquote, urlsplit

import aiosmtplib
from aiosmtplib import SMTP

from orderplane.adapters.providers import ProviderCalls
from orderplane.crds.reasons import Reason
from orderplane.ledgers.errors import Refused, Transient, Unclear

IDLE_SECONDS = 20.0
"""Connections that were idle for longer are not used again: servers close them after about half a minute."""
CLOSING_SECONDS = 2.0


class SmtpServer:
    """Implements `notifications.ports.MailServer`; an async context manager.

    Each mail has a connection of its own while it is handed over; up to `kept` stay open for the next ones.

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
        kept: int = 8,
        failure_threshold: int = 8,
        recovery_seconds: float = 5.0,
    ) -> None:
        parts = urlsplit(url)
        if parts.scheme not in ("smtp", "smtp+starttls", "smtps") or not parts.hostname:
            raise ValueError("give the mail server as smtp://, smtp+starttls:// or smtps://HOST:PORT")
        self._host, self._port = parts.hostname, parts.port
        self._user = unquote(parts.username) if parts.username else None
        self._password = unquote(parts.password) if parts.password else None
        self._scheme = parts.scheme
        self._timeout_seconds = timeout_seconds
        self._kept = kept
        self._idle: list[tuple[float, SMTP]] = []
        self._calls = ProviderCalls(
            "mail", classify_error, failure_threshold=failure_threshold, recovery_seconds=recovery_seconds
        )

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        while self._idle:
            await _leave(self._idle.pop()[1])

    async def send(self, mail: EmailMessage) -> None:
        await self._calls.once("send", lambda: self._hand_over(mail), message=mail["Message-ID"])

    async def _hand_over(self, mail: EmailMessage) -> None:
        content = mail.as_bytes()
        connection = await self._begin(parseaddr(mail["From"])[1])
        try:
            await connection.rcpt(mail["To"].addresses[0].addr_spec)
            try:
                await connection.data(content)
            except (OSError, TimeoutError) as problem:
                raise _Unanswered from problem
        except BaseException:
            connection.close()
            raise
        if len(self._idle) < self._kept:
            self._idle.append((time.monotonic(), connection))
        else:
            await _leave(connection)

    async def _begin(self, sender: str) -> SMTP:
        """A connection that has taken MAIL FROM. A kept one that turns out to be dead is replaced."""
        while self._idle:
            since, connection = self._idle.pop()
            if connection.is_connected and time.monotonic() - since < IDLE_SECONDS:
                try:
                    await connection.mail(sender)
                    return connection
                except aiosmtplib.SMTPServerDisconnected:
                    pass
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
            await connection.mail(sender)
        except BaseException:
            connection.close()
            raise
        return connection


class _Unanswered(Exception):  # noqa: N818
    """The whole mail was on its way, and no answer came."""


def classify_error(problem: Exception) -> Transient | Refused | None:
    """What an exception means for the mail that was tried."""
    match problem:
        case _Unanswered():
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
            # Our account, not the customer's address: no message is to be given up for it.
            return Transient(
                Reason.MAIL_UNAUTHORIZED, "the mail server refuses our account; check its address"
            )
        case UnicodeError():
            return Refused(Reason.RECIPIENT_REFUSED, "The address cannot be written in ASCII.")
        case aiosmtplib.SMTPException() | OSError() | TimeoutError():
            return Transient(Reason.MAIL_UNAVAILABLE, "the mail server cannot be reached")
        case _:
            return None


async def _leave(connection: SMTP) -> None:
    try:
        await connection.quit(timeout=CLOSING_SECONDS)
    except (aiosmtplib.SMTPException, OSError, TimeoutError):
        connection.close()
