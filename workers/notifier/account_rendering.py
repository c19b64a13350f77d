"""The text of messages about accounts.

They have no word of whoever asked for them: no name, and nothing else that was chosen by somebody whom the
recipient may not know.
"""

from email.message import EmailMessage
from email.utils import format_datetime

from jinja2 import TemplateError

from orderplane.crds.reasons import Reason
from orderplane.events.account_messages import AccountMessageKind, link_token
from orderplane.events.notifications import message_reference
from orderplane.ledgers.errors import Refused
from orderplane.workers.notifier.account_plan import AccountMessage
from orderplane.workers.notifier.rendering import new_mail, templates

_ACTIONS = {
    AccountMessageKind.REGISTRATION: "confirm-registration",
    AccountMessageKind.NEW_EMAIL: "confirm-email",
    AccountMessageKind.PASSWORD_RESET: "reset-password",
}
"""In the links: a page of the shop reads there what to do."""


def account_mail_of(message: AccountMessage, sender: str, account_url: str | None) -> EmailMessage:
    """The mail of a message, text only.

    Args:
        sender: As `rendering.mail_of`.
        account_url: The page that links open; `{merchant}` stands for the merchant. The token follows after a
            `#`, so that no server's log and no Referer header has it. Without a page, the mail has the token.

    Raises:
        Refused: as `rendering.mail_of`.
    """
    subject, _, text = _render(message, "txt", account_url).partition("\n")
    mail = new_mail(sender, message.recipient, subject, message_reference(message.id, message.channel))
    mail["Date"] = format_datetime(message.requested_at)
    mail.set_content(text.lstrip("\n"))
    return mail


def account_sms_of(message: AccountMessage) -> str:
    """The text of a message's SMS; it ends with the reference. Raises as `account_mail_of`."""
    text = " ".join(_render(message, "sms", None).split())
    return f"{text} (ref {message_reference(message.id, message.channel)})"


def _render(message: AccountMessage, form: str, account_url: str | None) -> str:
    is_known = message.kind is AccountMessageKind.REGISTRATION and message.is_address_known
    name = "KnownAddress" if is_known else message.kind.value
    token = link_token(message.id, message.secret) if message.secret else ""
    page = account_url.replace("{merchant}", message.merchant) if account_url else None
    action = _ACTIONS.get(message.kind)
    values = {
        "merchant": message.merchant,
        "about": message.about,
        "code": message.secret,
        "token": token,
        "page": page,
        "link": f"{page}#{action}={token}" if page and action else None,
    }
    try:
        return templates.get_template(f"account.{name}.{form}").render(values)
    except TemplateError as problem:
        raise Refused(
            Reason.TEMPLATE_FAILED,
            f"the {form} template of account.{name} fails with {type(problem).__name__}; correct it",
        ) from problem
