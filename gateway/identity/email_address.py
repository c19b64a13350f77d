"""One form of each e-mail address: the one that a mail server takes."""

import unicodedata

from email_validator import EmailNotValidError, validate_email

MAX_LENGTH = 254
"""RFC 5321, 4.5.3.1.3. The library's time grows faster than the length, so longer text is not shown to it."""


def canonical_address(text: str) -> str:
    """The address in lower case, with its domain in A-labels (RFC 5890) and the rest in NFC.

    Only the syntax is checked: no DNS request is made, and test domains are accepted. Any mail server takes a
    domain in A-labels; what is left beyond ASCII needs SMTPUTF8, see `needs_smtputf8`.

    Raises:
        ValueError: it is not an e-mail address.
    """
    if len(text) > MAX_LENGTH:
        raise ValueError("This is not an e-mail address.")
    try:
        parts = validate_email(text, check_deliverability=False, test_environment=True)
    except EmailNotValidError:
        raise ValueError("This is not an e-mail address.") from None
    address = unicodedata.normalize("NFC", f"{parts.local_part}@{parts.ascii_domain}".lower())
    if len(address) > MAX_LENGTH:
        raise ValueError("This is not an e-mail address.")
    return address


def login_name(text: str) -> str:
    """The address that somebody logs in with; text that is no address stays, and is found nowhere."""
    try:
        return canonical_address(text)
    except ValueError:
        return text.lower()


def needs_smtputf8(address: str) -> bool:
    """Whether only a mail server with SMTPUTF8 (RFC 6531) can take mail to this canonical address."""
    return not address.isascii()
