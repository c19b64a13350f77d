"""The bodies of a new order and of a quote, the price of both, and the manifest of the Order."""

from collections.abc import Mapping
from typing import Annotated, ClassVar

from pydantic import AfterValidator, ConfigDict, Field

from orderplane.adapters.telemetry.traces import current_traceparent
from orderplane.crds.countries import Country
from orderplane.crds.defaults import draw_shard, looks_like_card_number, order_manifest
from orderplane.crds.documents import Manifest
from orderplane.crds.meta import ApiModel, Currency, Minor
from orderplane.crds.money import format_minor
from orderplane.crds.order import Item, Metadata, NewAddress, OrderSpec, Quote, Reference, ReservationName
from orderplane.gateway.http.body import STRICT
from orderplane.gateway.http.problems import Problem
from orderplane.ledgers.postgres.inventory import ReservationRecord
from orderplane.ledgers.pricing import ChargeLimits, PriceList, QuoteRefused, RefusalCode, quote_from
from orderplane.ledgers.states import ReservationState


class ExpectedTotal(ApiModel):
    """The total that was shown to the customer.

    If it is another now, the order is refused (`price_changed`).
    """

    model_config = STRICT

    amount: Annotated[Minor, Field(description="In minor units: cents, yen, fils.", examples=[2390])]
    currency: Annotated[Currency, Field(description="ISO 4217.", examples=["EUR"])]


class OrderItemRequest(Item):
    """A product and how many of it."""

    model_config = STRICT


class AddressRequest(NewAddress):
    """The shipping address, in lines of printable text.

    A line begins and ends with something visible, has no control, invisible or direction characters, and is
    in Unicode's normal form C. The country is an officially assigned code of ISO 3166-1 alpha-2.
    """

    model_config = STRICT


def _not_a_card_number(token: str) -> str:
    if looks_like_card_number(token):
        raise ValueError("This looks like a card number. Send the payment provider's token, as pm_....")
    return token


_Items = Annotated[
    tuple[OrderItemRequest, ...],
    Field(min_length=1, max_length=50, description="Each product at most once."),
]
_OrderCurrency = Annotated[
    Currency | None,
    Field(
        description="ISO 4217. Each product needs a price in this currency, and the shop a price rule. By "
        "default, the currency of the products, which must be the same for all.",
        examples=["EUR"],
    ),
]


class QuoteRequest(ApiModel):
    """What somebody may order, and where it would go."""

    model_config = STRICT
    country_pointer: ClassVar[str] = "#/country"

    items: _Items
    country: Annotated[
        Country,
        Field(
            description="Where it goes, ISO 3166-1 alpha-2: shipping and tax depend on it.", examples=["DE"]
        ),
    ]
    currency: _OrderCurrency = None


class OrderRequest(ApiModel):
    """A new order. Prices are those of the products; a client cannot set them."""

    model_config = ConfigDict(
        **STRICT,
        json_schema_extra={
            "examples": [
                {
                    "customer": "c-1001",
                    "items": [{"sku": "TEA-EARL-GREY-100", "quantity": 2}],
                    "address": {
                        "name": "Ada Example",
                        "line1": "1 Sample Street",
                        "city": "Berlin",
                        "postalCode": "10115",
                        "country": "DE",
                    },
                    "paymentMethod": "pm_card_visa",
                }
            ]
        },
    )
    country_pointer: ClassVar[str] = "#/address/country"

    customer: Annotated[
        str | None,
        *OrderSpec.model_fields["customer"].metadata,
        Field(
            description="The shop's id of the customer, not an e-mail address or a name. Customers order for "
            "themselves and leave it out; other callers have to give it.",
        ),
    ] = None
    items: _Items
    address: AddressRequest
    payment_method: Annotated[
        str,
        *OrderSpec.model_fields["payment_method"].metadata,
        AfterValidator(_not_a_card_number),
        Field(description="The payment provider's token, `pm_...`. Never a card number."),
    ]
    currency: _OrderCurrency = None
    expected_total: ExpectedTotal | None = None
    reservation: Annotated[
        ReservationName | None,
        Field(
            description="The id of a reservation without an order, of the same items, which holds them. They "
            "pass over to the order. It needs the scope `inventory:write`.",
            examples=["r-mfrggzdfmztwq2lknnwg23tpoa"],
        ),
    ] = None
    reference: Annotated[
        Reference | None,
        Field(
            description="The shop's own number of the order, by which it can be found. No personal data. It "
            "cannot be changed, and several orders may have the same.",
            examples=["2026-11-0042"],
        ),
    ] = None
    metadata: Annotated[
        Metadata | None,
        Field(
            description="What the shop keeps with the order for itself: at most 50 names of at most 40 "
            "characters, with values of at most 500. No personal data. It cannot be changed.",
            examples=[{"channel": "newsletter"}],
        ),
    ] = None
    ttl_seconds_after_finished: Annotated[
        int | None,
        Field(
            ge=0,
            le=31_536_000,
            description="Remove the order this long after it has finished. By default it stays.",
        ),
    ] = None

    @property
    def country(self) -> str:
        """Where it goes."""
        return self.address.country

    def of_customer(self, customer: str | None) -> "OrderRequest":
        """The request with its customer: the caller, if that is a customer, else the one it names.

        Raises:
            Problem: `validation_failed`.
        """
        if customer is None and self.customer is None:
            raise _wrong_customer("This field is required: say whose order it is.")
        if customer is not None and self.customer not in (None, customer):
            raise _wrong_customer("Leave it out: customers order for themselves.")
        return self.model_copy(update={"customer": customer or self.customer})


def _wrong_customer(detail: str) -> Problem:
    places = [{"pointer": "#/customer", "detail": detail}]
    return Problem("validation_failed", "Correct the fields in `errors`.", errors=places)


IMMUTABLE_FIELDS = (
    "customer", "items", "quote", "address", "paymentMethod", "reservation", "reference", "metadata",
)  # fmt: skip
"""The fields of the spec that identify an order as the requested one."""

_NOT_IN_SPEC = {"currency", "expected_total"}


async def build_order(
    price_list: PriceList,
    stored_prices: PriceList,
    charge_limits: Mapping[str, ChargeLimits],
    merchant: str,
    name: str,
    request: OrderRequest,
) -> Manifest:
    """Price an order and build its manifest.

    Args:
        price_list, stored_prices, charge_limits: As in `quote_request`.

    Raises:
        Problem: `price_changed`, or one of the codes of `QuoteRefused`.
        Transient: the price list cannot be read.
    """
    quote = await quote_request(
        price_list, stored_prices, charge_limits, merchant, request, request.expected_total
    )
    spec = request.model_dump(mode="json", by_alias=True, exclude_none=True, exclude=_NOT_IN_SPEC)
    return order_manifest(merchant, name, spec, quote, current_traceparent(), draw_shard())


async def quote_request(
    price_list: PriceList,
    stored_prices: PriceList,
    charge_limits: Mapping[str, ChargeLimits],
    merchant: str,
    request: OrderRequest | QuoteRequest,
    expected_total: ExpectedTotal | None = None,
) -> Quote:
    """What an order costs now.

    Args:
        price_list: May be a moment old. It is enough to accept an order, and not to refuse one.
        stored_prices: What an order is refused by.
        charge_limits: What can be charged, by currency.

    Raises:
        Problem: `price_changed`, or one of the codes of `QuoteRefused`.
        Transient: the price list cannot be read.
    """

    async def by(prices: PriceList) -> Quote:
        try:
            quote = await quote_from(
                prices, charge_limits, merchant, request.items, request.country, request.currency
            )
        except QuoteRefused as refusal:
            raise _refused(refusal, request) from refusal
        if expected_total is not None:
            check_total(expected_total, quote)
        return quote

    try:
        return await by(price_list)
    except Problem:
        return await by(stored_prices)


def check_reservation(found: ReservationRecord | None, request: OrderRequest) -> None:
    """Require that the reservation which the order names has no order, and holds its items.

    Raises:
        Problem: `reservation_not_held`, `reservation_differs`.
    """
    if found is None or found.order is not None or found.state is not ReservationState.HELD:
        raise Problem(
            "reservation_not_held",
            "The reservation does not exist, holds nothing yet or any more, or belongs to an order. Nothing "
            "was ordered. Look at it, or order without it.",
        )
    if dict(found.items) != {item.sku: item.quantity for item in request.items}:
        raise Problem(
            "reservation_differs",
            "The reservation holds other items. Nothing was ordered. Order exactly what it holds.",
        )


def check_total(expected: ExpectedTotal, quote: Quote) -> None:
    """Require that the customer pays what was shown.

    Raises:
        Problem: `price_changed`, with the current total.
    """
    total, currency = quote.amounts.total, quote.currency
    if (expected.amount, expected.currency) != (total, currency):
        raise Problem(
            "price_changed",
            f"The total is {format_minor(total, currency)} now. Nothing was ordered; show it to the customer "
            "and send it as expectedTotal.",
            extra={"total": {"amount": total, "currency": currency}},
        )


def _refused(refusal: QuoteRefused, request: OrderRequest | QuoteRequest) -> Problem:
    message = f"{refusal.message[:1].upper()}{refusal.message[1:]}."
    lines = [index for index, item in enumerate(request.items) if item.sku == refusal.sku]
    pointers = [f"#/items/{index}/sku" for index in lines[-1:]]
    if request.currency and refusal.code in (RefusalCode.UNSUPPORTED_CURRENCY, RefusalCode.NO_PRICE_RULE):
        pointers = ["#/currency"]
    if refusal.code is RefusalCode.UNSERVED_COUNTRY:
        pointers = [request.country_pointer]
    errors = [{"pointer": pointer, "detail": message} for pointer in pointers]
    return Problem(refusal.code, message, errors=errors)
