"""What a message says, and the mark by which it is known again.

The words are jinja2 templates: `templates/EVENT.txt`, `.html`, `.sms`. A text's first line is its subject.
"""

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
    """Keeps the class of each header's name: the library makes a new one for each header of each mail."""

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

_templates = Environment(
    loader=PackageLoader("orderplane.workers.notifier"),
    autoescape=select_autoescape(["html"]),
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
    auto_reload=False,
)
_templates.filters["money"] = format_minor


def mail_of(notice: Notification, sender: str) -> EmailMessage:
    """The mail of a notice, text and HTML.

    Args:
        sender: Whom it comes from, as `Name <address>`; the address's domain ends the Message-ID.

    Raises:
        Refused: the event lacks something that the template tells (`TemplateFailed`), or the address is none
            (`RecipientRefused`).
    """
    assert notice.recipient is not None
    subject, _, text = _render(notice, "txt").partition("\n")
    mail = EmailMessage(policy=_POLICY)
    mail["From"] = sender
    try:
        mail["To"] = Address(addr_spec=notice.recipient.address or "")
    except (ValueError, MessageError, IndexError) as problem:
        raise Refused(Reason.RECIPIENT_REFUSED, "The address cannot be written into a mail.") from problem
    mail["Subject"] = subject
    mail["Date"] = format_datetime(notice.pending_since)
    domain = parseaddr(sender)[1].rpartition("@")[2]
    mail["Message-ID"] = f"<{message_reference(notice.event_id, Channel.EMAIL)}@{domain}>"
    # RFC 3834: no out-of-office answer is wanted.
    mail["Auto-Submitted"] = "auto-generated"
    mail.set_content(text.lstrip("\n"))
    mail.add_alternative(_render(notice, "html"), subtype="html")
    return mail


def sms_of(notice: Notification) -> str:
    """The text of a notice's SMS; it ends in the reference. Raises as `mail_of`."""
    text = " ".join(_render(notice, "sms").split())
    return f"{text} (ref {message_reference(notice.event_id, Channel.SMS)})"


def _render(notice: Notification, form: str) -> str:
    assert notice.recipient is not None
    words: dict[str, Any] = {"order": notice.order, "name": notice.recipient.name, "event": notice.data}
    try:
        return _templates.get_template(f"{notice.type.value}.{form}").render(words)
    except (TemplateError, TypeError, ValueError, KeyError) as problem:
        raise Refused(
            Reason.TEMPLATE_FAILED,
            f"the {form} template of {notice.type.value} fails with {type(problem).__name__}; correct it, "
            "then replay the event",
        ) from problem
