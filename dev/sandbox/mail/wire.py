"""One accepted message, and its JSON in Mailpit's API.

Source of the shapes: https://mailpit.axllent.org/docs/api-v1/
"""

from dataclasses import dataclass
from datetime import UTC, datetime
from email import message_from_bytes, policy
from email.message import EmailMessage
from email.utils import getaddresses
from typing import Any


@dataclass(frozen=True, slots=True)
class Mail:
    """A message as received. `at` is unix time; `content` is its bytes decoded as latin-1."""

    id: str
    sender: str
    recipients: list[str]
    content: str
    at: float

    def parsed(self) -> EmailMessage:
        """The parsed message."""
        return message_from_bytes(self.content.encode("latin-1"), policy=policy.default)


def summary_of(mail: Mail) -> dict[str, Any]:
    """Its JSON in a list."""
    message = mail.parsed()
    return {
        "ID": mail.id,
        "MessageID": str(message["Message-ID"] or "").strip().strip("<>"),
        "From": _addresses(message, "From")[0] if message["From"] else {"Name": "", "Address": mail.sender},
        "To": _addresses(message, "To"),
        "Subject": str(message["Subject"] or ""),
        "Created": datetime.fromtimestamp(mail.at, UTC).isoformat(),
        "Size": len(mail.content),
    }


def document_of(mail: Mail) -> dict[str, Any]:
    """Its JSON with the content."""
    return {**summary_of(mail), "Text": _part(mail, "plain"), "HTML": _part(mail, "html")}


def _addresses(message: EmailMessage, header: str) -> list[dict[str, str]]:
    addresses = getaddresses([str(message[header] or "")])
    return [{"Name": name, "Address": address} for name, address in addresses]


def _part(mail: Mail, kind: str) -> str:
    part = mail.parsed().get_body((kind,))
    return str(part.get_content()) if part is not None else ""
