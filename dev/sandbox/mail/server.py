"""A mail server that keeps what it takes and delivers nothing.

Source: RFC 5321; https://aiosmtpd.aio-libs.org/en/latest/handlers.html
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
"""Words in a recipient's address, and what happens: see sandbox/README.md."""


class Trouble(StrEnum):
    """How the server fails."""

    OK = "ok"
    REFUSE = "refuse"  # the connection is closed before a word is said
    DEFER_451 = "defer451"
    REJECT_554 = "reject554"
    CUT = "cut"  # the connection is closed in place of an answer to the content
    HANG = "hang"  # no answer to the content


class Postbox:
    """What was taken, and the trouble in force; the handler of every connection."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._stumbles = store.table("stumble", dict)
        self.mails = store.table("mail", lambda row: Mail(**row))
        self.faults = Faults(Trouble.OK)

    def draw(self) -> Trouble:
        """Whether, and how, what has just come fails."""
        return Trouble(self.faults.draw(time.time()))

    async def handle_RCPT(  # noqa: N802 - aiosmtpd's name
        self, _server: SMTP, _session: Session, envelope: Envelope, address: str, options: list[str]
    ) -> str:
        """One recipient."""
        if BOUNCED in address:
            return "550 5.1.1 No such mailbox"
        if GREYLISTED in address and self._stumbles_at(address):
            return "451 4.7.1 Greylisted, try again later"
        envelope.rcpt_tos.append(address)
        envelope.rcpt_options.extend(options)
        return "250 OK"

    async def handle_DATA(self, server: SMTP, _session: Session, envelope: Envelope) -> str:  # noqa: N802
        """The whole mail. It is on the disk before the answer, or before there is none."""
        trouble = self.draw()
        if trouble is Trouble.DEFER_451:
            return "451 4.3.0 Try again later"
        if trouble is Trouble.REJECT_554:
            return "554 5.6.0 Message refused"
        is_cut_off = any(CUT_OFF in to and self._stumbles_at(to) for to in envelope.rcpt_tos)
        if trouble is Trouble.OK or self.faults.after_effect:
            self._keep(envelope)
            await self._store.settled()
        if is_cut_off or trouble is Trouble.CUT:
            assert server.transport is not None
            server.transport.close()
        if is_cut_off or trouble in (Trouble.CUT, Trouble.HANG):
            # Ended by aiosmtpd when the connection is.
            await asyncio.Event().wait()
        return "250 2.0.0 OK"

    def _keep(self, envelope: Envelope) -> None:
        id_ = secrets.token_hex(8)
        content = envelope.original_content or b""
        mail = Mail(id_, envelope.mail_from or "", envelope.rcpt_tos, content.decode("latin-1"), time.time())
        self.mails.put(id_, mail)

    def _stumbles_at(self, address: str) -> bool:
        is_first = self._stumbles.get(address) is None
        self._stumbles.put(address, {})
        return is_first


class Line(SMTP):
    """One connection."""

    def __init__(self, postbox: Postbox) -> None:
        super().__init__(postbox, hostname="sandbox.test", loop=asyncio.get_running_loop())
        self._postbox = postbox

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Somebody has connected."""
        if self._postbox.draw() is Trouble.REFUSE:
            transport.close()
        else:
            super().connection_made(transport)
