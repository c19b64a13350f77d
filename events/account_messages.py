"""Messages about accounts: their kinds, and the secrets by which a reader shows that they have got one.

The notifier makes a secret while it sends, and stores its hash; the gateway compares.
"""

import hashlib
import secrets
from collections.abc import Mapping
from datetime import timedelta
from enum import StrEnum
from uuid import UUID

MAX_GUESSES = 5
"""How often a secret, or the password that goes with it, may be tried."""

MAX_TOKEN = 128


class AccountMessageKind(StrEnum):
    """What a message is for."""

    REGISTRATION = "Registration"
    NEW_EMAIL = "NewEmail"
    NEW_PHONE = "NewPhone"
    PASSWORD_RESET = "PasswordReset"  # noqa: S105 - no password
    PASSWORD_CHANGED = "PasswordChanged"  # noqa: S105
    EMAIL_CHANGED = "EmailChanged"
    PHONE_CHANGED = "PhoneChanged"
    ENDPOINT_DISABLED = "EndpointDisabled"


VALID_FOR: Mapping[AccountMessageKind, timedelta] = {
    AccountMessageKind.REGISTRATION: timedelta(days=1),
    AccountMessageKind.NEW_EMAIL: timedelta(days=1),
    # NIST SP 800-63B, 5.1.3.2: a secret over the telephone network is valid for ten minutes at most.
    AccountMessageKind.NEW_PHONE: timedelta(minutes=10),
    AccountMessageKind.PASSWORD_RESET: timedelta(hours=1),
}
"""How long a secret can be used after it was sent. The other kinds are notices, without a secret."""


def new_secret(kind: AccountMessageKind) -> str | None:
    """A secret: 192 random bits for a link, six digits for a code; None for a notice."""
    if kind not in VALID_FOR:
        return None
    if kind is AccountMessageKind.NEW_PHONE:
        return f"{secrets.randbelow(10**6):06d}"
    # Letters and digits only: mail programs take a mark at the end for the end of a sentence.
    return secrets.token_hex(24)


def hash_secret(message: UUID, secret: str) -> bytes:
    """What is stored of a secret. The id salts it, so that equal codes have different hashes."""
    return hashlib.sha256(message.bytes + secret.encode()).digest()


def link_token(message: UUID, secret: str) -> str:
    """The token in a link: it names its message, so that it is found without being stored."""
    return f"{message.hex}.{secret}"


def parse_link_token(token: str) -> tuple[UUID, str] | None:
    """The message and the secret of a token; None if it cannot be one."""
    name, dot, secret = token.partition(".")
    if not dot or len(token) > MAX_TOKEN or not token.isascii() or len(name) != 32:
        return None
    try:
        return UUID(hex=name), secret
    except ValueError:
        return None
