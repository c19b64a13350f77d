"""What a client sends to place an order, and how its body is read."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Self

import orjson
from pydantic import AfterValidator, ConfigDict, Field, ValidationError, model_validator

from orderplane.crds.meta import ApiModel, Currency, Minor
from orderplane.crds.order import Address, Item, OrderSpec
from orderplane.gateway.problems import Problem
from orderplane.intake.preset import looks_like_card_number

MAX_DEPTH = 8
MAX_ERRORS = 20

_FIELD_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,40}")
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")
Loc = tuple[str | int, ...]

_STRICT = ConfigDict(extra="forbid", strict=True)


class ExpectedTotal(ApiModel):
    """The total that the client showed its customer; another one is refused with `price_changed`."""

    model_config = _STRICT

    amount: Annotated[Minor, Field(description="In minor units: cents, yen, fils.", examples=[2390])]
    currency: Annotated[Currency, Field(description="ISO 4217.", examples=["EUR"])]


class WantedItem(Item):
    """A product and how many of it."""

    model_config = _STRICT


class WantedAddress(Address):
    """Where it goes. Plain lines of text, without control characters."""

    model_config = _STRICT

    @model_validator(mode="after")
    def _is_plain_text(self) -> Self:
        for value in self.__dict__.values():
            if value is not None and _CONTROL.search(value):
                raise ValueError("No line of an address may contain control characters or line breaks.")
        return self


def _is_no_card_number(token: str) -> str:
    if looks_like_card_number(token):
        raise ValueError("This looks like a card number. Send the payment provider's token, as pm_....")
    return token


class OrderRequest(ApiModel):
    """An order as a client places it. Prices come from the catalogue; a client cannot set them."""

    model_config = ConfigDict(
        **_STRICT,
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

    customer: Annotated[
        str,
        *OrderSpec.model_fields["customer"].metadata,
        Field(description="The shop's id of its customer. No e-mail address, no name."),
    ]
    items: Annotated[
        tuple[WantedItem, ...],
        Field(min_length=1, max_length=50, description="Each product at most once."),
    ]
    address: WantedAddress
    payment_method: Annotated[
        str,
        *OrderSpec.model_fields["payment_method"].metadata,
        AfterValidator(_is_no_card_number),
        Field(description="The payment provider's token, `pm_...`. Never a card number."),
    ]
    expected_total: ExpectedTotal | None = None
    ttl_seconds_after_finished: Annotated[
        int | None,
        Field(ge=0, le=31_536_000, description="When to remove the finished order. Without it, it stays."),
    ] = None


@dataclass(frozen=True, slots=True)
class Body:
    """A body that was read: the request, and the client's own JSON for the fingerprint."""

    request: OrderRequest
    document: Any


def read_body(raw: bytes) -> Body:
    """Parse and validate.

    Raises:
        Problem: `invalid_json`, `validation_failed`.
    """
    try:
        document = orjson.loads(raw)
    except orjson.JSONDecodeError as error:
        where = f"line {error.lineno}, column {error.colno}"
        raise Problem("invalid_json", f"The body is not JSON: look at {where}. It must be UTF-8.") from None
    if is_deeper_than(MAX_DEPTH, document):
        raise Problem("invalid_json", f"The body nests deeper than {MAX_DEPTH} levels. An order needs three.")
    try:
        return Body(OrderRequest.model_validate_json(raw), document)
    except ValidationError as error:
        details = error.errors(include_url=False, include_context=False, include_input=False)
        inner = innermost([detail["loc"] for detail in details])
        places = [
            _place(detail["loc"], detail["type"], detail["msg"])
            for detail in details
            if detail["loc"] in inner
        ][:MAX_ERRORS]
        raise Problem("validation_failed", "Correct the fields in `errors`.", errors=places) from None


def is_deeper_than(limit: int, document: Any) -> bool:
    """Whether arrays and objects nest more than `limit` deep."""
    if not isinstance(document, dict | list):
        return False
    inner = document.values() if isinstance(document, dict) else document
    return limit == 0 or any(is_deeper_than(limit - 1, part) for part in inner)


def innermost(locs: Sequence[Loc]) -> set[Loc]:
    """The places that hold no other: a list whose only item is wrong is not also called too short."""
    holders = {loc[:size] for loc in locs for size in range(len(loc))}
    return set(locs) - holders


def pointer_to(loc: Loc) -> str:
    """A JSON pointer as a URI fragment (RFC 6901, 6).

    It stops before a member whose name is no plain field name: such a name is the client's text, and
    may be anything.
    """
    pointer = "#"
    for part in loc:
        if isinstance(part, str) and not _FIELD_NAME.fullmatch(part):
            break
        pointer += f"/{part}"
    return pointer


def _place(loc: Loc, kind: str, message: str) -> dict[str, str]:
    detail = _WORDS.get(kind, message).removeprefix("Value error, ")
    return {"pointer": pointer_to(loc), "detail": detail}


_WORDS = {
    "extra_forbidden": "There is no such field here. Take it out.",
    "missing": "This field is required.",
}
