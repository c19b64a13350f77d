"""The text of messages, and the reference by which each is recognised.

Templates are jinja2: `templates/EVENT.txt`, `.html`, `.sms`. The first line of a `.txt` is the subject.
"""

import re
import unicodedata
from email.errors import MessageError
from email.headerregistry import Address, BaseHeader, HeaderRegistry
from email.message import EmailMessage
from email.policy import SMTP
from email.utils import format_datetime, parseaddr
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined, TemplateError, select_autoescape

from orderplane.crds.money import format_minor
from orderplane.crds.reasons import Reason
from orderplane.events.notifications import Channel, message_reference
from orderplane.ledgers.errors import Refused
from orderplane.workers.notifier.plan import Notification


class _Headers(HeaderRegistry):
    """Keeps the class of each header: the library would create one for each header of each mail."""

    def __init__(self) -> None:
        super().__init__()
        self._classes: dict[str, type[BaseHeader]] = {}

    def __getitem__(self, name: str) -> type[BaseHeader]:
        known = self._classes.get(name)
        if known is None:
            known = self._classes[name] = super().__getitem__(name)
        return known


# Every line of what is sent is ASCII, so that any server takes it.
_POLICY = SMTP.clone(cte_type="7bit", header_factory=_Headers())
# But for an address that cannot be written in ASCII (RFC 6532): a server with SMTPUTF8 takes it.
_SMTPUTF8_POLICY = _POLICY.clone(utf8=True)

_IN_NAMES = frozenset(" '\u2019-.,")
_DOT_IN_A_WORD = re.compile(r"[.,][^ ]")

templates = Environment(
    loader=PackageLoader("orderplane.workers.notifier"),
    autoescape=select_autoescape(["html"]),
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
    auto_reload=False,
)
templates.filters["money"] = format_minor


def mail_of(notification: Notification, sender: str) -> EmailMessage:
    """The mail of a notification, text and HTML.

    Args:
        sender: Whom it comes from, as `Name <address>`; the address's domain ends the Message-ID.

    Raises:
        Refused: the event lacks something that the template tells (`TemplateFailed`), or the address is none
            (`RecipientRefused`).
    """
    assert notification.recipient is not None
    subject, _, text = _render(notification, "txt").partition("\n")
    reference = message_reference(notification.event_id, Channel.EMAIL)
    mail = new_mail(sender, notification.recipient.address or "", subject, reference)
    mail["Date"] = format_datetime(notification.pending_since)
    mail.set_content(text.lstrip("\n"))
    mail.add_alternative(_render(notification, "html"), subtype="html")
    return mail


def new_mail(sender: str, address: str, subject: str, reference: str) -> EmailMessage:
    """A mail without a date and content.

    Args:
        reference: The local part of its Message-ID.

    Raises:
        Refused: the address is none (`RecipientRefused`).
    """
    mail = EmailMessage(policy=_POLICY if address.isascii() else _SMTPUTF8_POLICY)
    mail["From"] = sender
    local_part, _, domain = address.rpartition("@")
    try:
        # The library takes letters beyond ASCII in parts only.
        is_ascii = address.isascii()
        mail["To"] = Address(addr_spec=address) if is_ascii else Address(username=local_part, domain=domain)
    except (ValueError, MessageError, IndexError) as problem:
        raise Refused(Reason.RECIPIENT_REFUSED, "The address cannot be written into a mail.") from problem
    mail["Subject"] = subject
    domain = parseaddr(sender)[1].rpartition("@")[2]
    mail["Message-ID"] = f"<{reference}@{domain}>"
    # RFC 3834: no out-of-office answer is wanted.
    mail["Auto-Submitted"] = "auto-generated"
    return mail


def greeting_name(name: str) -> str:
    """The name for a greeting; empty if it may hold a link.

    Whoever has an account chooses its name. Mail programs make links of what looks like a host or an address,
    so only letters, digits, spaces, and the marks within names are taken, and no dot before a letter.
    """
    is_plain = all(char in _IN_NAMES or unicodedata.category(char)[0] in "LMN" for char in name)
    return name if is_plain and not _DOT_IN_A_WORD.search(name) else ""


def sms_of(notification: Notification) -> str:
    """The text of a notification's SMS; it ends with the reference. Raises as `mail_of`."""
    text = " ".join(_render(notification, "sms").split())
    return f"{text} (ref {message_reference(notification.event_id, Channel.SMS)})"


def _render(notification: Notification, form: str) -> str:
    assert notification.recipient is not None
    values: dict[str, Any] = {
        "order": notification.order,
        "name": greeting_name(notification.recipient.name),
        "event": notification.data,
    }
    try:
        return templates.get_template(f"{notification.type.value}.{form}").render(values)
    except (TemplateError, TypeError, ValueError, KeyError) as problem:
        raise Refused(
            Reason.TEMPLATE_FAILED,
            f"the {form} template of {notification.type.value} fails with {type(problem).__name__}; correct "
            "it, then replay the event",
        ) from problem
