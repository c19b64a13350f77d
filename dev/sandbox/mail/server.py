"""An SMTP server that stores what it accepts and delivers nothing.

Source: RFC 5321, RFC 6531; https://aiosmtpd.aio-libs.org/en/latest/handlers.html
"""

import asyncio
import secrets
import time
from enum import StrEnum

from aiosmtpd.smtp import SMTP, Envelope, Session

from orderplane.dev.sandbox.faults import Faults
from orderplane.dev.sandbox.mail.wire import Mail
from orderplane.dev.sandbox.store import Store

BOUNCED, GREYLISTED, CUT_OFF = "bounced", "greylisted", "cut-off"
"""Words in a recipient's address that select a behaviour, see README.md."""


class SmtpFault(StrEnum):
    """How the SMTP server fails."""

    OK = "ok"
    REFUSE = "refuse"  # the connection is closed at once
    DEFER_451 = "defer451"
    REJECT_554 = "reject554"
    CUT = "cut"  # the connection is closed instead of a reply to DATA
    HANG = "hang"  # no reply to DATA


class Mailbox:
    """Accepted messages and injected faults; aiosmtpd's handler of every connection."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._failed_once = store.table("stumble", dict)
        self.mails = store.table("mail", lambda row: Mail(**row))
        self.faults = Faults(SmtpFault.OK)

    def draw(self) -> SmtpFault:
        """Draw whether and how the current command fails."""
        return SmtpFault(self.faults.draw(time.time()))

    async def handle_RCPT(  # noqa: N802 - aiosmtpd's name
        self, _server: SMTP, _session: Session, envelope: Envelope, address: str, options: list[str]
    ) -> str:
        """RCPT TO."""
        if BOUNCED in address:
            return "550 5.1.1 No such mailbox"
        if GREYLISTED in address and self._fails_first_time(address):
            return "451 4.7.1 Greylisted, try again later"
        envelope.rcpt_tos.append(address)
        envelope.rcpt_options.extend(options)
        return "250 OK"

    async def handle_DATA(self, server: SMTP, _session: Session, envelope: Envelope) -> str:  # noqa: N802
        """DATA. An accepted message is on disk before the reply, also if none is sent."""
        fault = self.draw()
        if fault is SmtpFault.DEFER_451:
            return "451 4.3.0 Try again later"
        if fault is SmtpFault.REJECT_554:
            return "554 5.6.0 Message refused"
        is_cut_off = any(CUT_OFF in to and self._fails_first_time(to) for to in envelope.rcpt_tos)
        if fault is SmtpFault.OK or self.faults.after_effect:
            self._keep(envelope)
            await self._store.wait_written()
        if is_cut_off or fault is SmtpFault.CUT:
            assert server.transport is not None
            server.transport.close()
        if is_cut_off or fault in (SmtpFault.CUT, SmtpFault.HANG):
            # aiosmtpd cancels this when the connection is closed.
            await asyncio.Event().wait()
        return "250 2.0.0 OK"

    def _keep(self, envelope: Envelope) -> None:
        id_ = secrets.token_hex(8)
        content = envelope.original_content or b""
        mail = Mail(id_, envelope.mail_from or "", envelope.rcpt_tos, content.decode("latin-1"), time.time())
        self.mails.put(id_, mail)

    def _fails_first_time(self, address: str) -> bool:
        is_first = self._failed_once.get(address) is None
        self._failed_once.put(address, {})
        return is_first


class SmtpConnection(SMTP):
    """One SMTP connection."""

    def __init__(self, mailbox: Mailbox, *, takes_smtputf8: bool) -> None:
        super().__init__(
            mailbox,
            hostname="sandbox.test",
            enable_SMTPUTF8=takes_smtputf8,
            loop=asyncio.get_running_loop(),
        )
        self._mailbox = mailbox

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Close it at once, or speak SMTP."""
        if self._mailbox.draw() is SmtpFault.REFUSE:
            transport.close()
        else:
            super().connection_made(transport)
