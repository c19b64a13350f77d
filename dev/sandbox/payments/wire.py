"""Stripe's wire: form-encoded parameters in, JSON objects and error envelopes out.

Source of the shapes: https://docs.stripe.com/api (payment intents, refunds, errors, pagination).
"""

from collections.abc import Callable, Iterable
from typing import Any, TypeVar
from urllib.parse import parse_qsl

import orjson

from orderplane.dev.sandbox.exchange import Reply
from orderplane.dev.sandbox.payments.disputes import OPEN, TAKEN, Dispute, DisputeStatus
from orderplane.dev.sandbox.payments.intents import Intent, Refund, RefundStatus, Status, as_of

T = TypeVar("T")

_DECLINES = {
    "generic_decline": "Your card was declined.",
    "insufficient_funds": "Your card has insufficient funds.",
    "expired_card": "Your card has expired.",
}


class Refusal(Exception):  # noqa: N818 - a verdict
    """A 4xx. Wrong parameters and conflicts are not replayed under their idempotency key."""

    def __init__(
        self,
        status: int,
        message: str,
        *,
        code: str | None = None,
        param: str | None = None,
        kind: str = "invalid_request_error",
        is_replayed: bool = True,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.is_replayed = is_replayed
        self._fields = {"type": kind, "code": code, "message": message, "param": param}

    def reply(self) -> Reply:
        """As an error envelope."""
        return error(self.status, **self._fields)


def error(status: int, **fields: Any) -> Reply:
    """https://docs.stripe.com/api/errors"""
    return Reply(status, orjson.dumps({"error": {k: v for k, v in fields.items() if v is not None}}))


class Dialect:
    """Stripe's general errors."""

    id_header = "Request-Id"

    def unauthorized(self) -> Reply:
        """401."""
        return error(401, type="invalid_request_error", message="Invalid API Key provided.")

    def too_many(self) -> Reply:
        """429."""
        return error(429, type="invalid_request_error", code="rate_limit", message="Too many requests.")

    def broken(self) -> Reply:
        """500."""
        return error(500, type="api_error", message="An unknown error occurred.")


class Form:
    """The parameters of one request, with flat names: `metadata[order]`."""

    def __init__(self, encoded: str) -> None:
        self.pairs = parse_qsl(encoded, keep_blank_values=True)
        self._values = dict(self.pairs)

    def text(self, name: str) -> str | None:
        """One value."""
        return self._values.get(name)

    def required(self, name: str) -> str:
        """One value. Raises Refusal if it is missing."""
        value = self._values.get(name)
        if not value:
            raise Refusal(
                400,
                f"Missing required param: {name}.",
                code="parameter_missing",
                param=name,
                is_replayed=False,
            )
        return value

    def whole(self, name: str, default: int | None = None) -> int | None:
        """An integer. Raises Refusal if it is none."""
        value = self._values.get(name)
        if value is None:
            return default
        try:
            return int(value)
        except ValueError:
            message = f"Invalid integer: {value}"
            raise Refusal(
                400, message, code="parameter_invalid_integer", param=name, is_replayed=False
            ) from None

    def group(self, name: str) -> dict[str, str]:
        """The values of `name[key]` by key."""
        prefix = f"{name}["
        return {k[len(prefix) : -1]: v for k, v in self.pairs if k.startswith(prefix) and k.endswith("]")}


def intent_document(intent: Intent, now: float) -> dict[str, Any]:
    """https://docs.stripe.com/api/payment_intents/object"""
    intent = as_of(intent, now)
    is_declined = intent.status is Status.REQUIRES_PAYMENT_METHOD
    is_charged = intent.status is Status.SUCCEEDED
    return {
        "id": intent.id,
        "object": "payment_intent",
        "amount": intent.amount,
        "amount_capturable": 0,
        "amount_received": intent.received,
        "canceled_at": intent.canceled_at,
        "cancellation_reason": None,
        "capture_method": "automatic",
        "client_secret": f"{intent.id}_secret_sandbox",
        "confirmation_method": "automatic",
        "created": intent.created,
        "currency": intent.currency,
        "customer": None,
        "description": None,
        "last_payment_error": _decline(intent.failure) if intent.failure else None,
        "latest_charge": f"ch_{intent.id[3:]}" if is_charged else None,
        "livemode": False,
        "metadata": intent.metadata,
        "next_action": {"type": "use_stripe_sdk"} if intent.status is Status.REQUIRES_ACTION else None,
        "payment_method": None if is_declined else intent.method,
        "payment_method_types": ["card"],
        "status": intent.status,
    }


def refund_document(refund: Refund, now: float) -> dict[str, Any]:
    """https://docs.stripe.com/api/refunds/object"""
    status = refund.status(now)
    document = {
        "id": refund.id,
        "object": "refund",
        "amount": refund.amount,
        "charge": f"ch_{refund.intent[3:]}",
        "created": refund.created,
        "currency": refund.currency,
        "metadata": refund.metadata,
        "payment_intent": refund.intent,
        "reason": None,
        "status": status,
    }
    if status is RefundStatus.FAILED:
        document["failure_reason"] = "expired_or_canceled_card"
    return document


def dispute_document(dispute: Dispute, _: float) -> dict[str, Any]:
    """https://docs.stripe.com/api/disputes/object"""
    is_inquiry = dispute.status in (DisputeStatus.WARNING_NEEDS_RESPONSE, DisputeStatus.WARNING_CLOSED)
    withdrawn = [] if is_inquiry else [_balance_transaction(dispute, -dispute.amount)]
    reinstated = (
        [_balance_transaction(dispute, dispute.amount)] if dispute.status is DisputeStatus.WON else []
    )
    return {
        "id": dispute.id,
        "object": "dispute",
        "amount": dispute.amount,
        "balance_transactions": withdrawn + reinstated,
        "charge": f"ch_{dispute.intent[3:]}",
        "created": dispute.created,
        "currency": dispute.currency,
        "evidence": {},
        "evidence_details": {"due_by": None, "has_evidence": dispute.status not in OPEN, "past_due": False},
        "is_charge_refundable": dispute.status not in TAKEN,
        "livemode": False,
        "metadata": {},
        "payment_intent": dispute.intent,
        "reason": "fraudulent",
        "status": dispute.status,
    }


def _balance_transaction(dispute: Dispute, amount: int) -> dict[str, Any]:
    return {
        "id": f"txn_{dispute.id[3:]}{'w' if amount < 0 else 'r'}", "object": "balance_transaction",
        "amount": amount, "currency": dispute.currency, "reporting_category": "dispute",
    }  # fmt: skip


def declined(intent: Intent, now: float) -> Reply:
    """402 for a confirm, with the intent."""
    assert intent.failure is not None
    return error(402, **_decline(intent.failure), payment_intent=intent_document(intent, now))


def page(
    rows: Iterable[T], has_more: bool, url: str, document: Callable[[T, float], dict[str, Any]], now: float
) -> Reply:
    """https://docs.stripe.com/api/pagination"""
    data = [document(row, now) for row in rows]
    return Reply(200, orjson.dumps({"object": "list", "data": data, "has_more": has_more, "url": url}))


def _decline(failure: tuple[str, str]) -> dict[str, Any]:
    code, decline_code = failure
    return {
        "type": "card_error", "code": code, "decline_code": decline_code, "message": _DECLINES[decline_code],
    }  # fmt: skip
