"""How a notice goes through its channel."""

from typing import Protocol

from orderplane.events.notifications import Channel, message_reference
from orderplane.workers.notifier.plan import Notification
from orderplane.workers.notifier.ports import MailServer, SmsProvider
from orderplane.workers.notifier.rendering import mail_of, sms_of


class Messenger(Protocol):
    """One channel. Both methods raise `Transient`, `Unclear` or `Refused`."""

    async def find(self, notice: Notification) -> str | None:
        """The provider's id of the message where an earlier attempt has sent it; None where none is known."""
        ...

    async def send(self, notice: Notification) -> str:
        """Send it; answers the provider's id of it."""
        ...


class ByMail:
    """A mail server cannot be asked what it has: what is in doubt goes again, with the same Message-ID."""

    def __init__(self, server: MailServer, sender: str) -> None:
        self._server = server
        self._sender = sender

    async def find(self, notice: Notification) -> str | None:
        return None

    async def send(self, notice: Notification) -> str:
        mail = mail_of(notice, self._sender)
        await self._server.send(mail)
        return str(mail["Message-ID"])


class BySms:
    """The provider is asked before an SMS that is in doubt is sent again.

    It is asked about the number that the customer has now; whoever has changed theirs meanwhile is told
    there as well.
    """

    def __init__(self, provider: SmsProvider) -> None:
        self._provider = provider

    async def find(self, notice: Notification) -> str | None:
        return await self._provider.find(_number(notice), message_reference(notice.event_id, Channel.SMS))

    async def send(self, notice: Notification) -> str:
        return await self._provider.send(_number(notice), sms_of(notice))


def _number(notice: Notification) -> str:
    assert notice.recipient is not None
    assert notice.recipient.address is not None
    return notice.recipient.address
