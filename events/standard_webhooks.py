"""Requests to webhook endpoints, as the Standard Webhooks specification has them; the body is a CloudEvent.

Sources: https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md and
https://github.com/cloudevents/spec/blob/main/cloudevents/formats/json-format.md
"""

import base64
import binascii
import secrets
from collections.abc import Iterable, Mapping
from datetime import datetime

from standardwebhooks import Webhook

PREFIX = "whsec_"
LEAST_BYTES, MOST_BYTES = 24, 64
"""The length of a secret, before it is written as base64."""

CONTENT_TYPE = "application/cloudevents+json"


def new_secret() -> str:
    """A secret of 256 random bits, as receivers are given it."""
    return PREFIX + base64.b64encode(secrets.token_bytes(32)).decode()


def check_secret(secret: str) -> str:
    """The secret, if it can be one.

    Raises:
        ValueError: it cannot; the message does not repeat it.
    """
    try:
        raw = base64.b64decode(secret.removeprefix(PREFIX), validate=True)
    except (binascii.Error, ValueError):
        raw = b""
    if not secret.startswith(PREFIX) or not LEAST_BYTES <= len(raw) <= MOST_BYTES:
        raise ValueError(
            f"give {PREFIX} and the base64 of {LEAST_BYTES} to {MOST_BYTES} random bytes, or leave it out"
        )
    return secret


def signed_headers(message_id: str, at: datetime, body: bytes, keys: Iterable[str]) -> Mapping[str, str]:
    """The headers of one attempt, with a signature by each of the secrets: the receiver needs to know one.

    Args:
        message_id: The same for every attempt; no dot is in it.
        at: When this attempt begins, in UTC.
    """
    text = body.decode()
    return {
        "webhook-id": message_id,
        "webhook-timestamp": str(int(at.timestamp())),
        "webhook-signature": " ".join(Webhook(secret).sign(message_id, at, text) for secret in keys),
    }
