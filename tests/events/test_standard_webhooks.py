"""Requests to webhook endpoints are signed as the specification says."""

import base64
import hashlib
import hmac
from datetime import UTC, datetime

import orjson
import pytest
from standardwebhooks import Webhook, WebhookVerificationError

from orderplane.events.envelope import to_document, to_record
from orderplane.events.standard_webhooks import (
    LEAST_BYTES,
    MOST_BYTES,
    check_secret,
    new_secret,
    signed_headers,
)

from .test_event_envelope import ROW


def written(raw: bytes) -> str:
    return "whsec_" + base64.b64encode(raw).decode()


def test_the_signature_is_that_of_the_specification() -> None:
    """Computed here from its text, not by a library."""
    secret, body = b"k" * 32, b'{"type":"order.shipped"}'
    at = datetime(2026, 3, 1, 12, 15, 0, 700_000, tzinfo=UTC)
    headers = signed_headers("evt-1", at, body, [written(secret)])
    signed = b"evt-1.1772367300." + body
    expected = base64.b64encode(hmac.new(secret, signed, hashlib.sha256).digest()).decode()
    assert headers == {
        "webhook-id": "evt-1", "webhook-timestamp": "1772367300", "webhook-signature": f"v1,{expected}",
    }  # fmt: skip


def test_a_receiver_with_either_secret_accepts_it_and_with_another_does_not() -> None:
    new, old, other = new_secret(), new_secret(), new_secret()
    body = orjson.dumps({"type": "order.shipped", "data": {"name": "\u00e9"}})
    headers = dict(signed_headers("evt-1", datetime.now(UTC), body, [new, old]))
    for secret in (new, old):
        assert Webhook(secret).verify(body, headers) == orjson.loads(body)
    with pytest.raises(WebhookVerificationError):
        Webhook(other).verify(body, headers)
    with pytest.raises(WebhookVerificationError):
        Webhook(new).verify(body + b" ", headers)


def test_secrets_are_random_and_valid() -> None:
    made = {new_secret() for _ in range(100)}
    assert len(made) == 100
    assert {check_secret(secret) for secret in made} == made


@pytest.mark.parametrize("size", [LEAST_BYTES, MOST_BYTES])
def test_a_secret_of_a_shop_is_taken(size: int) -> None:
    assert check_secret(written(b"s" * size))


@pytest.mark.parametrize(
    "wrong",
    ["", "whsec_", written(b"s" * (LEAST_BYTES - 1)), written(b"s" * (MOST_BYTES + 1)), "hunter2",
     written(b"s" * 32)[6:], "whsec_" + "\u00e9" * 40, "whsec_ " + written(b"s" * 32)[6:]],
)  # fmt: skip
def test_what_is_no_secret_is_refused_and_not_repeated(wrong: str) -> None:
    with pytest.raises(ValueError, match="give whsec_ and the base64") as problem:
        check_secret(wrong)
    assert len(wrong) < 7 or wrong not in str(problem.value)


def test_the_document_of_an_event_says_what_its_record_says() -> None:
    record, document = to_record(ROW), orjson.loads(to_document(ROW))
    attributes = {name[3:]: value.decode() for name, value in record.headers if name.startswith("ce_")}
    assert document == {
        **attributes, "datacontenttype": "application/json", "data": orjson.loads(record.value),
    }  # fmt: skip
    assert record.value in to_document(ROW), "byte for byte"
