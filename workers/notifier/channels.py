"""Channels: the ports to a mail server and an SMS provider, and how a notification goes through each."""

from collections.abc import AsyncIterator
from email.message import EmailMessage
from typing import Protocol, TypeVar

from orderplane.events.notifications import Channel, message_reference
from orderplane.workers.notifier.account_plan import AccountMessage
from orderplane.workers.notifier.account_rendering import account_mail_of, account_sms_of
from orderplane.workers.notifier.plan import Notification
from orderplane.workers.notifier.rendering import mail_of, sms_of

M = TypeVar("M", contravariant=True)  # noqa: PLC0105


class MailServer(Protocol):
    """Takes mail.

    Raises `Transient` (not taken), `Unclear` (unknown whether it was taken) or `Refused` (`RecipientRefused`,
    `MessageRefused`).
    """

    async def send(self, mail: EmailMessage) -> None:
        """Hand over one mail, to the one address in its `To`."""
        ...


class SmsProvider(Protocol):
    """Sends SMS. Every method raises `Transient`, `Unclear` or `Refused` as `MailServer` does."""

    async def send(self, to: str, text: str) -> str:
        """Send one; returns the provider's id of it."""
        ...

    async def find(self, to: str, reference: str) -> str | None:
        """The id of the message to that number whose text has the reference; safe to repeat."""
        ...


class Outgoing(Protocol):
    """All messages that went out through one channel, for the audit."""

    def references(self) -> AsyncIterator[str]:
        """The reference (`events.notifications.message_reference`) of each message, once for every copy.

        A message without one is given by its provider's id.
        """
        ...


class Messenger(Protocol[M]):
    """Sends messages through one channel. Both methods raise `Transient`, `Unclear` or `Refused`."""

    async def find(self, message: M, /) -> str | None:
        """The provider's id of the message if an earlier attempt has sent it; None if none is known."""
        ...

    async def send(self, message: M, /) -> str:
        """Send it; returns the provider's id of it."""
        ...


class MailMessenger:
    """Mail. A mail server cannot be asked what it has taken: after an unclear attempt the mail is sent again.

    Every copy has the same Message-ID, by which mail programs can hide the second one.
    """

    def __init__(self, server: MailServer, sender: str) -> None:
        self._server = server
        self._sender = sender

    async def find(self, notification: Notification) -> str | None:
        return None

    async def send(self, notification: Notification) -> str:
        mail = mail_of(notification, self._sender)
        await self._server.send(mail)
        return str(mail["Message-ID"])


class SmsMessenger:
    """SMS. After an unclear attempt the provider is asked before the message is sent again.

    It is asked for the number that the customer has now. A customer who has changed it meanwhile gets the
    message at both numbers.
    """

    def __init__(self, provider: SmsProvider) -> None:
        self._provider = provider

    async def find(self, notification: Notification) -> str | None:
        reference = message_reference(notification.event_id, Channel.SMS)
        return await self._provider.find(_number(notification), reference)

    async def send(self, notification: Notification) -> str:
        return await self._provider.send(_number(notification), sms_of(notification))


class AccountMailMessenger:
    """Mails about accounts; see `MailMessenger`. Each copy has a link of its own, and all of them are valid.

    Args:
        account_url: See `account_rendering.account_mail_of`.
    """

    def __init__(self, server: MailServer, sender: str, account_url: str | None) -> None:
        self._server = server
        self._sender = sender
        self._account_url = account_url

    async def find(self, _: AccountMessage) -> str | None:
        return None

    async def send(self, message: AccountMessage) -> str:
        mail = account_mail_of(message, self._sender, self._account_url)
        await self._server.send(mail)
        return str(mail["Message-ID"])


class AccountSmsMessenger:
    """SMS about accounts; see `SmsMessenger`."""

    def __init__(self, provider: SmsProvider) -> None:
        self._provider = provider

    async def find(self, message: AccountMessage) -> str | None:
        reference = message_reference(message.id, Channel.SMS)
        return await self._provider.find(message.recipient, reference)

    async def send(self, message: AccountMessage) -> str:
        return await self._provider.send(message.recipient, account_sms_of(message))


def _number(notification: Notification) -> str:
    assert notification.recipient is not None
    assert notification.recipient.address is not None
    return notification.recipient.address
