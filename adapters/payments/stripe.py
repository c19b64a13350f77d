"""Stripe as a payment provider, through its own SDK.

Sources: https://docs.stripe.com/payments/paymentintents/lifecycle,
https://docs.stripe.com/api/idempotent_requests, https://docs.stripe.com/declines/codes
"""

import asyncio
from collections.abc import AsyncIterator
from functools import partial
from typing import Any, Self

import aiohttp
import stripe
from stripe import StripeClient

from orderplane.adapters.providers import NEVER_SENT, ProviderCalls, open_session
from orderplane.controllers.payment.ports import Intent, IntentState, Refund
from orderplane.crds.reasons import Reason
from orderplane.ledgers.errors import Refused, Transient, Unclear
from orderplane.ledgers.payments import ProviderRefundState

PAGE = 100

_STATES = {
    "requires_confirmation": IntentState.UNCONFIRMED,
    "requires_action": IntentState.REFUSED,
    "processing": IntentState.PROCESSING,
    "requires_capture": IntentState.PROCESSING,
    "succeeded": IntentState.CAPTURED,
    "canceled": IntentState.CANCELLED,
}
_REASONS = {
    "insufficient_funds": Reason.INSUFFICIENT_FUNDS,
    "expired_card": Reason.EXPIRED_CARD,
    "incorrect_cvc": Reason.INCORRECT_CVC,
    "lost_card": Reason.CARD_DECLINED,
    "stolen_card": Reason.CARD_DECLINED,
    "fraudulent": Reason.CARD_DECLINED,
    "authentication_required": Reason.AUTHENTICATION_REQUIRED,
}
_REFUND_STATES = {
    "succeeded": ProviderRefundState.SUCCEEDED,
    "pending": ProviderRefundState.PENDING,
    "requires_action": ProviderRefundState.PENDING,
    "failed": ProviderRefundState.FAILED,
    "canceled": ProviderRefundState.FAILED,
}


class StripeProvider:
    """Implements `controllers.payment.ports.PaymentProvider`; an async context manager.

    Args:
        timeout_seconds: The most that one call may take.
    """

    def __init__(
        self,
        key: str,
        url: str,
        *,
        timeout_seconds: float = 10.0,
        failure_threshold: int = 8,
        recovery_seconds: float = 5.0,
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
        # Telemetry would keep an id in the user's home and describe this machine in every request.
        stripe.enable_telemetry = False
        self._session = open_session(self._timeout_seconds)
        self._client = StripeClient(
            self._key,
            base_addresses={"api": self._url},
            max_network_retries=0,
            http_client=stripe.AIOHTTPClient(timeout=self._session.timeout, session=self._session),
        )
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._session is not None:
            await self._session.close()

    async def create_intent(
        self, *, key: str, amount: int, currency: str, method: str, merchant: str, reference: str
    ) -> Intent:
        params: Any = {
            "amount": amount,
            "currency": currency.lower(),
            "payment_method": method,
            "payment_method_types": ["card"],
            "metadata": {"merchant": merchant, "order": reference},
        }
        return intent_of(
            await self._calls.once(
                "create_intent",
                lambda: self._intents.create_async(params, {"idempotency_key": key}),
                order=reference,
            )
        )

    async def confirm(self, intent_id: str, *, key: str) -> Intent:
        async def work() -> Any:
            try:
                return await self._intents.confirm_async(intent_id, {}, {"idempotency_key": key})
            except stripe.CardError as decline:
                # A decline is an answer, and carries the intent as it is now.
                return _declined(decline)

        return intent_of(await self._calls.once("confirm", work, intent=intent_id))

    async def get_intent(self, intent_id: str) -> Intent:
        return intent_of(
            await self._calls.with_retries(
                "get_intent", lambda: self._intents.retrieve_async(intent_id), intent=intent_id
            )
        )

    async def cancel_intent(self, intent_id: str) -> Intent:
        try:
            return intent_of(
                await self._calls.once(
                    "cancel_intent", lambda: self._intents.cancel_async(intent_id), intent=intent_id
                )
            )
        except Refused:
            # It was cancelled already, or the money was faster.
            return await self.get_intent(intent_id)

    async def refund(self, intent_id: str, *, key: str, amount: int, reference: str) -> Refund:
        params: Any = {"payment_intent": intent_id, "amount": amount, "metadata": {"refund": reference}}
        return refund_of(
            await self._calls.once(
                "refund",
                lambda: self._refunds.create_async(params, {"idempotency_key": key}),
                intent=intent_id,
                refund=reference,
            )
        )

    async def get_refund(self, refund_id: str) -> Refund:
        return refund_of(
            await self._calls.with_retries(
                "get_refund", lambda: self._refunds.retrieve_async(refund_id), refund=refund_id
            )
        )

    async def find_refund(self, intent_id: str, reference: str) -> Refund | None:
        async for refund in self._pages("find_refund", self._refunds, {"payment_intent": intent_id}):
            found = refund_of(refund)
            if found.reference == reference and found.state is not ProviderRefundState.FAILED:
                return found
        return None

    async def intents(self) -> AsyncIterator[Intent]:
        async for intent in self._pages("list_intents", self._intents, {}):
            yield intent_of(intent)

    async def refunds(self) -> AsyncIterator[Refund]:
        async for refund in self._pages("list_refunds", self._refunds, {}):
            yield refund_of(refund)

    @property
    def _intents(self) -> Any:
        assert self._client is not None, "the payment provider is not open"
        return self._client.v1.payment_intents

    @property
    def _refunds(self) -> Any:
        assert self._client is not None, "the payment provider is not open"
        return self._client.v1.refunds

    async def _pages(self, operation: str, service: Any, query: dict[str, Any]) -> AsyncIterator[Any]:
        after: dict[str, str] = {}
        while True:
            page = await self._calls.with_retries(
                operation, partial(service.list_async, {"limit": PAGE, **query, **after})
            )
            for item in page.data:
                yield item
            if not page.has_more:
                return
            after = {"starting_after": page.data[-1].id}


def intent_of(found: Any) -> Intent:
    """Read a PaymentIntent."""
    error = found.last_payment_error
    status = str(found.status)
    state = _STATES.get(status)
    if state is None:
        # requires_payment_method: new, or sent back by a decline.
        state = IntentState.REFUSED if error else IntentState.UNCONFIRMED
    reason, message = _why(status, error) if state is IntentState.REFUSED else (None, None)
    return Intent(
        id=found.id,
        state=state,
        amount=found.amount,
        currency=found.currency.upper(),
        received=found.amount_received or 0,
        reference=found.metadata["order"] if found.metadata and "order" in found.metadata else "",
        reason=reason,
        message=message,
    )


def refund_of(found: Any) -> Refund:
    """Read a Refund."""
    intent = found.payment_intent
    return Refund(
        id=found.id,
        intent_id=intent if isinstance(intent, str) else intent.id,
        state=_REFUND_STATES.get(str(found.status), ProviderRefundState.PENDING),
        amount=found.amount,
        currency=found.currency.upper(),
        reference=found.metadata["refund"] if found.metadata and "refund" in found.metadata else "",
        reason=getattr(found, "failure_reason", None),
    )


def classify_error(problem: Exception) -> Transient | Refused | None:
    """What an exception of the SDK means for the effect that was tried."""
    match problem:
        case stripe.APIConnectionError():
            # The SDK wraps every network failure in this one; only its cause tells whether anything was sent.
            if isinstance(problem.__cause__, NEVER_SENT):
                return Transient(Reason.PAYMENTS_UNAVAILABLE, "the payment provider cannot be reached")
            return Unclear(Reason.PAYMENTS_UNCLEAR, "the payment provider did not answer")
        case stripe.RateLimitError():
            return Transient(Reason.PAYMENTS_BUSY, "the payment provider asks to wait", retry_after=1.0)
        case stripe.AuthenticationError() | stripe.PermissionError():
            # Our fault, not the customer's: no order is to fail for it.
            return Transient(
                Reason.PAYMENTS_UNAUTHORIZED,
                "the payment provider refuses our API key; check the key it is given",
            )
        case stripe.IdempotencyError():
            return Refused(
                Reason.PAYMENT_REJECTED, "The payment provider saw another request under the same key."
            )
        case stripe.StripeError() if problem.http_status == 409:
            return Transient(Reason.PAYMENTS_BUSY, "the payment provider works on the same request", 0.5)
        case stripe.StripeError() if problem.http_status and 400 <= problem.http_status < 500:
            code = getattr(problem, "code", None) or type(problem).__name__
            return Refused(Reason.PAYMENT_REJECTED, f"The payment provider rejected the request ({code}).")
        case stripe.StripeError():
            return Unclear(Reason.PAYMENTS_UNCLEAR, "the payment provider failed")
        case aiohttp.ClientError() | asyncio.TimeoutError() | OSError():
            # The body of an answer broke off: what it said is not known.
            return Unclear(Reason.PAYMENTS_UNCLEAR, "the payment provider's answer broke off")
        case _:
            return None


def _why(status: str, error: Any) -> tuple[Reason, str]:
    if status == "requires_action":
        return Reason.AUTHENTICATION_REQUIRED, "The bank asks the customer to confirm the payment."
    codes = (getattr(error, "decline_code", None), getattr(error, "code", None))
    reason = next((_REASONS[code] for code in codes if code in _REASONS), Reason.CARD_DECLINED)
    return reason, str(getattr(error, "message", None) or "The card was declined.")[:200]


def _declined(decline: stripe.CardError) -> Any:
    body: Any = decline.json_body or {}
    document = body.get("error", {}).get("payment_intent")
    if document is None:
        raise decline
    return stripe.PaymentIntent.construct_from(document, None)
