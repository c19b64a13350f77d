"""What the notifier needs of the ledger, and of those who carry messages."""

from collections.abc import AsyncIterator
from email.message import EmailMessage
from typing import Protocol


class MailServer(Protocol):
    """Takes mail.

    Raises `Transient` (not taken), `Unclear` (nobody knows) or `Refused` (`RecipientRefused`,
    `MessageRefused`).
    """

    async def send(self, mail: EmailMessage) -> None:
        """Hand one mail over, to the one address in its `To`."""
        ...


class SmsProvider(Protocol):
    """Sends SMS. Every method raises `Transient`, `Unclear` or `Refused` as `MailServer` does."""

    async def send(self, to: str, text: str) -> str:
        """Send one; answers the provider's id of it."""
        ...

    async def find(self, to: str, reference: str) -> str | None:
        """The id of the message to that number whose text has the reference; safe to repeat."""
        ...


class Outgoing(Protocol):
    """All that went out through one channel, for the audit."""

    def references(self) -> AsyncIterator[str]:
        """The reference (`notifications.words.message_reference`) of each message, once for every copy.

        One without a reference of ours is told by its provider's id.
        """
        ...
