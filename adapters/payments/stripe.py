"""Stripe as the payment provider, through its SDK.

A payment is a PaymentIntent that is created first and confirmed later:
https://docs.stripe.com/payments/paymentintents/lifecycle
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from functools import partial
from typing import Any, Self, TypeVar

import aiohttp
import stripe
from stripe import StripeClient
from stripe.params import RefundCreateParams

from orderplane.adapters.payments.stripe_currencies import from_stripe, to_stripe
from orderplane.adapters.providers import NEVER_SENT, RECOVERY_SECONDS, ProviderCalls, open_session
from orderplane.controllers.payment.ports import (
    Dispute,
    DisputeState,
    Intent,
    IntentState,
    Refund,
    Returns,
)
from orderplane.crds.reasons import Reason
from orderplane.ledgers.errors import Refused, Transient, Unclear
from orderplane.ledgers.payments import ProviderRefundState

T = TypeVar("T", stripe.PaymentIntent, stripe.Refund, stripe.Dispute)

PAGE_SIZE = 100
"""The most that a list request returns: https://docs.stripe.com/api/pagination"""
_MAX_MESSAGE_LENGTH = 200

# https://docs.stripe.com/payments/paymentintents/lifecycle; "requires_payment_method" has no entry, see
# `parse_intent`.
_INTENT_STATES = {
    "requires_confirmation": IntentState.UNCONFIRMED,
    "requires_action": IntentState.REFUSED,
    "processing": IntentState.PROCESSING,
    "requires_capture": IntentState.PROCESSING,
    "succeeded": IntentState.CAPTURED,
    "canceled": IntentState.CANCELLED,
}
# Decline codes and error codes: https://docs.stripe.com/declines/codes. That page demands that a customer is
# not told of a lost or stolen card or of suspected fraud.
_REASONS = {
    "insufficient_funds": Reason.INSUFFICIENT_FUNDS,
    "expired_card": Reason.EXPIRED_CARD,
    "incorrect_cvc": Reason.INCORRECT_CVC,
    "lost_card": Reason.CARD_DECLINED,
    "stolen_card": Reason.CARD_DECLINED,
    "fraudulent": Reason.CARD_DECLINED,
    "authentication_required": Reason.AUTHENTICATION_REQUIRED,
}
# https://docs.stripe.com/api/refunds/object#refund_object-status
_REFUND_STATES = {
    "succeeded": ProviderRefundState.SUCCEEDED,
    "pending": ProviderRefundState.PENDING,
    "requires_action": ProviderRefundState.PENDING,
    "failed": ProviderRefundState.FAILED,
    "canceled": ProviderRefundState.FAILED,
}
# https://docs.stripe.com/api/disputes/object#dispute_object-status. A status that is not here is OPEN: better
# a person is asked once too often than the customer paid twice.
_DISPUTE_STATES = {
    "warning_needs_response": DisputeState.INQUIRY,
    "warning_under_review": DisputeState.INQUIRY,
    "warning_closed": DisputeState.INQUIRY,
    "needs_response": DisputeState.OPEN,
    "under_review": DisputeState.OPEN,
    "won": DisputeState.WON,
    "lost": DisputeState.LOST,
}


class StripeProvider:
    """Implements `controllers.payment.ports.PaymentProvider`; an async context manager.

    Args:
        key: The secret API key.
        url: The API's base address.
        timeout_seconds: The most that one call may take.
        failure_threshold, recovery_seconds: Of the circuit breaker, see `ProviderCalls`.
    """

    def __init__(
        self,
        key: str,
        url: str,
        *,
        timeout_seconds: float = 10.0,
        failure_threshold: int = 8,
        recovery_seconds: float = RECOVERY_SECONDS,
    ) -> None:
        self._key = key
        self._url = url
        self._timeout_seconds = timeout_seconds
        self._calls = ProviderCalls(
            "payments", classify_error, failure_threshold=failure_threshold, recovery_seconds=recovery_seconds
        )
        self._session: aiohttp.ClientSession | None = None
        self._client: StripeClient | None = None

    async def __aenter__(self) -> Self:
        # Telemetry stores an id in the user's home and describes the host in every request.
        stripe.enable_telemetry = False
        self._session = open_session(self._timeout_seconds)
        await self.use_key(self._key)
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._session is not None:
            await self._session.close()

    async def use_key(self, key: str) -> None:
        """Make every later call with this key."""
        assert self._session is not None, "the payment provider is not open"
        self._client = StripeClient(
            key,
            base_addresses={"api": self._url},
            # Retries are decided by `ProviderCalls` and by the controller, which looks before it repeats.
            max_network_retries=0,
            http_client=stripe.AIOHTTPClient(timeout=self._session.timeout, session=self._session),
        )

    async def create_intent(
        self, *, key: str, amount: int, currency: str, method: str, merchant: str, reference: str
    ) -> Intent:
        # Any: the SDK's type is of the newest API version, which has no `payment_method_types`.
        params: Any = {
            "amount": _stripe_amount(amount, currency),
            "currency": currency.lower(),
            "payment_method": method,
            "payment_method_types": ["card"],
            "metadata": {"merchant": merchant, "order": reference},
        }
        return parse_intent(
            await self._calls.once(
                "create_intent",
                lambda: self._intents.create_async(params, {"idempotency_key": key}),
                order=reference,
            )
        )

    async def confirm(self, intent_id: str, *, key: str) -> Intent:
        async def work() -> stripe.PaymentIntent:
            try:
                return await self._intents.confirm_async(intent_id, {}, {"idempotency_key": key})
            except stripe.CardError as decline:
                return _declined_intent(decline)

        return parse_intent(await self._calls.once("confirm", work, intent=intent_id))

    async def get_intent(self, intent_id: str) -> Intent:
        return parse_intent(
            await self._calls.with_retries(
                "get_intent", lambda: self._intents.retrieve_async(intent_id), intent=intent_id
            )
        )

    async def cancel_intent(self, intent_id: str) -> Intent:
        try:
            return parse_intent(
                await self._calls.once(
                    "cancel_intent", lambda: self._intents.cancel_async(intent_id), intent=intent_id
                )
            )
        except Refused:
            # An intent that is cancelled or captured already cannot be cancelled:
            # https://docs.stripe.com/api/payment_intents/cancel
            return await self.get_intent(intent_id)

    async def refund(self, intent_id: str, *, key: str, amount: int, currency: str, reference: str) -> Refund:
        params: RefundCreateParams = {
            "payment_intent": intent_id,
            "amount": _stripe_amount(amount, currency),
            "metadata": {"refund": reference},
        }
        return parse_refund(
            await self._calls.once(
                "refund",
                lambda: self._refunds.create_async(params, {"idempotency_key": key}),
                intent=intent_id,
                refund=reference,
            )
        )

    async def get_refund(self, refund_id: str) -> Refund:
        return parse_refund(
            await self._calls.with_retries(
                "get_refund", lambda: self._refunds.retrieve_async(refund_id), refund=refund_id
            )
        )

    async def returns(self, intent_id: str) -> Returns:
        query = {"payment_intent": intent_id}
        return Returns(
            tuple(
                [
                    parse_refund(found)
                    async for found in self._pages("refunds_of", self._refunds.list_async, query)
                ]
            ),
            tuple(
                [
                    parse_dispute(found)
                    async for found in self._pages("disputes_of", self._disputes.list_async, query)
                ]
            ),
        )

    async def intents(self) -> AsyncIterator[Intent]:
        async for intent in self._pages("list_intents", self._intents.list_async, {}):
            yield parse_intent(intent)

    async def refunds(self) -> AsyncIterator[Refund]:
        async for refund in self._pages("list_refunds", self._refunds.list_async, {}):
            yield parse_refund(refund)

    async def disputes(self) -> AsyncIterator[Dispute]:
        async for dispute in self._pages("list_disputes", self._disputes.list_async, {}):
            yield parse_dispute(dispute)

    @property
    def _intents(self) -> stripe.PaymentIntentService:
        assert self._client is not None, "the payment provider is not open"
        return self._client.v1.payment_intents

    @property
    def _refunds(self) -> stripe.RefundService:
        assert self._client is not None, "the payment provider is not open"
        return self._client.v1.refunds

    @property
    def _disputes(self) -> stripe.DisputeService:
        assert self._client is not None, "the payment provider is not open"
        return self._client.v1.disputes

    async def _pages(
        self,
        operation: str,
        list_page: Callable[[Any], Awaitable[stripe.ListObject[T]]],
        query: Mapping[str, str],
    ) -> AsyncIterator[T]:
        cursor: dict[str, str] = {}
        while True:
            page = await self._calls.with_retries(
                operation, partial(list_page, {"limit": PAGE_SIZE, **query, **cursor})
            )
            for item in page.data:
                yield item
            if not page.has_more:
                return
            cursor = {"starting_after": page.data[-1].id}


def parse_intent(found: stripe.PaymentIntent) -> Intent:
    """Read a PaymentIntent."""
    error = found.last_payment_error
    state = _INTENT_STATES.get(found.status)
    if state is None:
        # "requires_payment_method" is the state of a new intent and also of one whose payment failed.
        state = IntentState.REFUSED if error else IntentState.UNCONFIRMED
    reason, message = _refusal(found.status, error) if state is IntentState.REFUSED else (None, None)
    currency = found.currency.upper()
    return Intent(
        id=found.id,
        state=state,
        amount=from_stripe(found.amount, currency),
        currency=currency,
        received=from_stripe(found.amount_received or 0, currency),
        reference=_metadata(found, "order"),
        reason=reason,
        message=message,
    )


def parse_refund(found: stripe.Refund) -> Refund:
    """Read a Refund."""
    currency = found.currency.upper()
    return Refund(
        id=found.id,
        intent_id=_intent_id(found),
        state=_REFUND_STATES.get(found.status or "", ProviderRefundState.PENDING),
        amount=from_stripe(found.amount, currency),
        currency=currency,
        reference=_metadata(found, "refund"),
        # Only a failed refund has this field.
        reason=getattr(found, "failure_reason", None),
    )


def parse_dispute(found: stripe.Dispute) -> Dispute:
    """Read a Dispute. One that was `prevented` has taken its amount if a withdrawal was not reinstated."""
    currency = found.currency.upper()
    state = _DISPUTE_STATES.get(found.status, DisputeState.OPEN)
    if found.status == "prevented":
        is_taken = sum(entry.amount for entry in found.balance_transactions) < 0
        state = DisputeState.LOST if is_taken else DisputeState.INQUIRY
    return Dispute(
        id=found.id,
        intent_id=_intent_id(found),
        state=state,
        amount=from_stripe(found.amount, currency),
        currency=currency,
    )


def classify_error(problem: Exception) -> Transient | Refused | None:
    """What an exception of the SDK means for the call.

    Sources: https://docs.stripe.com/api/errors, https://docs.stripe.com/error-low-level
    """
    match problem:
        case stripe.APIConnectionError():
            # The SDK wraps every network failure in this class; its cause says whether anything was sent.
            if isinstance(problem.__cause__, NEVER_SENT):
                return Transient(Reason.PAYMENTS_UNAVAILABLE, "the payment provider cannot be reached")
            return Unclear(Reason.PAYMENTS_UNCLEAR, "the payment provider did not answer")
        case stripe.RateLimitError():
            return Transient(Reason.PAYMENTS_BUSY, "the payment provider asks to wait", retry_after=1.0)
        case stripe.AuthenticationError() | stripe.PermissionError():
            # A fault of this installation's settings: no order may fail because of it.
            return Transient(
                Reason.PAYMENTS_UNAUTHORIZED,
                "the payment provider refuses our API key; check the key it is given",
            )
        case stripe.IdempotencyError():
            return Refused(
                Reason.PAYMENT_REJECTED, "The payment provider saw another request under the same key."
            )
        case stripe.StripeError() if problem.http_status == 409:
            # A request under the same idempotency key is still being processed.
            return Transient(Reason.PAYMENTS_BUSY, "the payment provider works on the same request", 0.5)
        case stripe.StripeError() if problem.http_status and 400 <= problem.http_status < 500:
            code = problem.code or type(problem).__name__
            return Refused(Reason.PAYMENT_REJECTED, f"The payment provider rejected the request ({code}).")
        case stripe.StripeError():
            # Stripe calls the result of a request that was answered with 5xx indeterminate.
            return Unclear(Reason.PAYMENTS_UNCLEAR, "the payment provider failed")
        case aiohttp.ClientError() | asyncio.TimeoutError() | OSError():
            # The connection broke while the body was read, which the SDK does not wrap.
            return Unclear(Reason.PAYMENTS_UNCLEAR, "the payment provider's answer broke off")
        case _:
            return None


def _stripe_amount(amount: int, currency: str) -> int:
    try:
        return to_stripe(amount, currency)
    except ValueError as problem:
        raise Refused(Reason.PAYMENT_REJECTED, f"The amount cannot be charged: {problem}.") from problem


def _refusal(status: str, error: stripe.PaymentIntent.LastPaymentError | None) -> tuple[Reason, str]:
    if status == "requires_action":
        return Reason.AUTHENTICATION_REQUIRED, "The bank asks the customer to confirm the payment."
    codes = (getattr(error, "decline_code", None), getattr(error, "code", None))
    reason = next((_REASONS[code] for code in codes if code in _REASONS), Reason.CARD_DECLINED)
    message = getattr(error, "message", None) or "The card was declined."
    return reason, message[:_MAX_MESSAGE_LENGTH]


def _declined_intent(decline: stripe.CardError) -> stripe.PaymentIntent:
    """The intent as it is after a decline, which the error carries: an answer, not a failure.

    Source: https://docs.stripe.com/api/errors#errors-payment_intent
    """
    body: Any = decline.json_body or {}
    document = body.get("error", {}).get("payment_intent")
    if document is None:
        raise decline
    return stripe.PaymentIntent.construct_from(document, None)


def _intent_id(found: stripe.Refund | stripe.Dispute) -> str:
    intent = found.payment_intent
    return intent.id if isinstance(intent, stripe.PaymentIntent) else intent or ""


def _metadata(found: stripe.PaymentIntent | stripe.Refund, key: str) -> str:
    metadata = found.metadata
    return metadata[key] if metadata and key in metadata else ""
