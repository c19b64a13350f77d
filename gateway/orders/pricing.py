"""From a client's request to the Order resource to be made: prices, the total it expects, the presets."""

from typing import Any

from orderplane.adapters.telemetry.traces import current_traceparent
from orderplane.crds.defaults import draw_shard, order_manifest
from orderplane.crds.money import format_minor
from orderplane.crds.order import Quote
from orderplane.gateway.http.problems import Problem
from orderplane.gateway.orders.request import ExpectedTotal, OrderRequest
from orderplane.ledgers.pricing import PriceList, QuoteRefused, RefusalCode, quote_from

IMMUTABLE = ("customer", "items", "quote", "address", "paymentMethod")
"""The fields of the spec by which an order is known to be the one that was asked for."""

_NOT_IN_SPEC = {"currency", "expected_total"}


async def price(catalogue: PriceList, merchant: str, name: str, request: OrderRequest) -> dict[str, Any]:
    """The manifest of the order `name`.

    Raises:
        Problem: `price_changed`, or one of the codes of `QuoteRefused`.
        Transient: the catalogue did not answer.
    """
    try:
        quote = await quote_from(catalogue, merchant, request.items, request.currency)
    except QuoteRefused as refusal:
        raise _refused(refusal, request) from refusal
    if request.expected_total is not None:
        check_total(request.expected_total, quote)
    spec = request.model_dump(mode="json", by_alias=True, exclude_none=True, exclude=_NOT_IN_SPEC)
    return order_manifest(merchant, name, spec, quote, current_traceparent(), draw_shard())


def check_total(expected: ExpectedTotal, quote: Quote) -> None:
    """See that the customer pays what was shown.

    Raises:
        Problem: `price_changed`, with the total as it is now.
    """
    total, currency = quote.amounts.total, quote.currency
    if (expected.amount, expected.currency) != (total, currency):
        raise Problem(
            "price_changed",
            f"The total is {format_minor(total, currency)} now. Nothing was ordered; show it to the customer "
            "and send it as expectedTotal.",
            extra={"total": {"amount": total, "currency": currency}},
        )


def _refused(refusal: QuoteRefused, request: OrderRequest) -> Problem:
    message = f"{refusal.message[:1].upper()}{refusal.message[1:]}."
    lines = [index for index, item in enumerate(request.items) if item.sku == refusal.sku]
    errors = [{"pointer": f"#/items/{index}/sku", "detail": message} for index in lines[-1:]]
    if request.currency and refusal.code is RefusalCode.UNSUPPORTED_CURRENCY:
        errors = [{"pointer": "#/currency", "detail": message}]
    return Problem(refusal.code, message, errors=errors)
