"""The review of a new object: which defaults are added, or why it is refused. And who asks for a change.

It knows neither Kopf nor HTTP nor a clock. A mutating webhook runs after defaulting and pruning but before
the validation by the schema, so the object may contain anything.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

import orjson
from pydantic import BaseModel, TypeAdapter, ValidationError

from orderplane.crds.actors import ActorKind
from orderplane.crds.defaults import (
    Defaults,
    is_shard,
    looks_like_card_number,
    order_defaults,
    reservation_defaults,
)
from orderplane.crds.meta import (
    CANCELLED_BY_ANNOTATION,
    CUSTOMER_LABEL,
    RETRIED_BY_ANNOTATION,
    RETRY_ANNOTATION,
    SHARD_LABEL,
    SHARDS,
    TRACEPARENT_ANNOTATION,
)
from orderplane.crds.money import format_minor
from orderplane.crds.order import Item, NewOrderSpec, Quote
from orderplane.crds.reservation import LONGEST_HOLD, NewReservationSpec
from orderplane.ledgers.pricing import ChargeLimits, PriceList, QuoteRefused, RefusalCode, quote_from

_ITEMS = TypeAdapter(tuple[Item, ...])
_TRACEPARENT = re.compile(r"00-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}")
_MAX_PROBLEMS = 5


class Denied(Exception):  # noqa: N818
    """The object is refused.

    Args:
        code: The HTTP status that the API server passes on.
        reason: A stable word, for logs and metrics.
        message: What to change; never a value of a payment method or an address.
    """

    def __init__(self, code: int, reason: str, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.reason = reason
        self.message = message


@dataclass(frozen=True, slots=True)
class MissingDefaults:
    """What is added to the object: whole lists and single keys, never a change of what its author wrote.

    Args:
        quote: A merge patch of `spec.quote`.
    """

    finalizers: list[str]
    labels: dict[str, str]
    annotations: dict[str, str]
    quote: dict[str, Any] | None = None


async def review_order(
    merchant: str,
    body: Mapping[str, Any],
    price_list: PriceList,
    charge_limits: Mapping[str, ChargeLimits],
    *,
    shard: str,
    traceparent: str | None,
) -> MissingDefaults:
    """Add the quote and the defaults of an Order. If its quote has a currency only, that is the order's
    currency.

    Args:
        charge_limits: What the payment provider can charge, by currency.
        shard: For an order without one.
        traceparent: For an order without one.

    Raises:
        Denied: the order is wrong.
        Transient: the price list cannot be read.
    """
    spec = _spec_of(body)
    _refuse_card_number(spec.get("paymentMethod"))
    given = spec.get("quote")
    if is_currency_only := _is_currency_only(given):
        spec = {name: value for name, value in spec.items() if name != "quote"}
    # Not left to the API server, whose messages repeat the refused values.
    _validate(NewOrderSpec, spec, may_lack="quote")
    currency = given["currency"] if given is not None else None
    metadata = body.get("metadata") or {}
    defaults = order_defaults(merchant, spec["customer"], _shard_of(metadata) or shard, traceparent)
    missing = _missing_defaults(metadata, defaults)
    try:
        items = _ITEMS.validate_python(spec["items"])
        quote = await quote_from(
            price_list, charge_limits, merchant, items, spec["address"]["country"], currency
        )
    except QuoteRefused as refusal:
        raise Denied(
            422, refusal.code, f"{_place_of(refusal.code, currency)}: {refusal.message}"
        ) from refusal
    written = quote.model_dump(mode="json", by_alias=True)
    if given is None or is_currency_only:
        return replace(missing, quote=written)
    _refuse_other_quote(Quote.model_validate(given), quote)
    return replace(missing, quote=_missing_members(given, written))


def review_reservation(
    body: Mapping[str, Any], now: datetime, *, shard: str, traceparent: str | None
) -> MissingDefaults:
    """Add the defaults of a Reservation without an order.

    Raises:
        Denied: the reservation is wrong.
    """
    spec = _spec_of(body)
    _validate(NewReservationSpec, spec)
    expires_at = NewReservationSpec.model_validate(spec).expires_at
    if expires_at is None or not now < expires_at <= now + LONGEST_HOLD:
        raise Denied(
            422,
            "expires_at",
            f"spec.expiresAt must be in the future, and at most {LONGEST_HOLD.days} days from now",
        )
    metadata = body.get("metadata") or {}
    return _missing_defaults(metadata, reservation_defaults(_shard_of(metadata) or shard, traceparent))


def actor_annotations(before: Mapping[str, Any], after: Mapping[str, Any], username: str) -> dict[str, str]:
    """Who asks for what is new of an Order, in annotations: for its cancellation, or for a retry.

    Args:
        username: Whom the API server has authenticated.
    """
    actor = f"{ActorKind.KUBERNETES}:{username}"
    annotations: dict[str, str] = {}
    if _spec_of(after).get("cancel") and not _spec_of(before).get("cancel"):
        annotations[CANCELLED_BY_ANNOTATION] = actor
    if _retry_of(after) != _retry_of(before):
        annotations[RETRIED_BY_ANNOTATION] = actor
    return annotations


def _retry_of(body: Mapping[str, Any]) -> str | None:
    annotations = (body.get("metadata") or {}).get("annotations") or {}
    retry: str | None = annotations.get(RETRY_ANNOTATION)
    return retry


def _spec_of(body: Mapping[str, Any]) -> Mapping[str, Any]:
    spec = body.get("spec")
    return spec if isinstance(spec, dict) else {}


def _is_currency_only(quote: Any) -> bool:
    return isinstance(quote, dict) and quote.keys() == {"currency"} and isinstance(quote["currency"], str)


def _refuse_card_number(method: Any) -> None:
    # Unquoted in YAML it is a number.
    if looks_like_card_number(str(method)):
        raise Denied(
            422,
            "card_number",
            "spec.paymentMethod looks like a card number; never send one: give the payment provider's token "
            "(pm_...) instead",
        )


def _validate(model: type[BaseModel], spec: Mapping[str, Any], may_lack: str | None = None) -> None:
    try:
        model.model_validate_json(orjson.dumps(spec), strict=True)
    except ValidationError as problem:
        found = _problems(problem, may_lack)
        if found:
            more = f"; and {len(found) - _MAX_PROBLEMS} more" if len(found) > _MAX_PROBLEMS else ""
            raise Denied(422, "invalid", "; ".join(found[:_MAX_PROBLEMS]) + more) from None


def _problems(problem: ValidationError, may_lack: str | None) -> list[str]:
    """One sentence per problem, without values. Of a wrong item and its list, only the item is reported."""
    errors = problem.errors(include_input=False, include_url=False, include_context=False)
    outer = {error["loc"][:depth] for error in errors for depth in range(len(error["loc"]))}
    return [
        f"{_path(error['loc'])}: {error['msg'][:1].lower()}{error['msg'][1:]}"
        for error in errors
        if error["loc"] not in outer and (error["loc"], error["type"]) != ((may_lack,), "missing")
    ]


def _path(location: tuple[int | str, ...]) -> str:
    return "spec" + "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in location)


def _shard_of(metadata: Mapping[str, Any]) -> str | None:
    shard: str | None = (metadata.get("labels") or {}).get(SHARD_LABEL)
    if shard is not None and not is_shard(shard):
        raise Denied(
            422,
            "shard",
            f"metadata.labels[{SHARD_LABEL}] must be a number from 0 to {SHARDS - 1}; leave it out to have "
            "one drawn",
        )
    return shard


def _missing_defaults(metadata: Mapping[str, Any], defaults: Defaults) -> MissingDefaults:
    """The defaults that the object lacks; finalizers as a whole, because a merge patch replaces lists."""
    labels = metadata.get("labels") or {}
    annotations = metadata.get("annotations") or {}
    finalizers = list(metadata.get("finalizers") or ())
    customer = defaults.labels.get(CUSTOMER_LABEL)
    if labels.get(CUSTOMER_LABEL, customer) != customer:
        raise Denied(
            422,
            "customer_label",
            f"metadata.labels[{CUSTOMER_LABEL}] is not the one of spec.customer; leave it out to have it "
            "written",
        )
    given = annotations.get(TRACEPARENT_ANNOTATION)
    if given is not None and not _TRACEPARENT.fullmatch(given):
        raise Denied(
            422,
            "traceparent",
            f"metadata.annotations[{TRACEPARENT_ANNOTATION}] is not a W3C traceparent; leave it out to have "
            "one made",
        )
    return MissingDefaults(
        finalizers if defaults.finalizer in finalizers else [*finalizers, defaults.finalizer],
        {name: value for name, value in defaults.labels.items() if name not in labels},
        {name: value for name, value in defaults.annotations.items() if name not in annotations},
    )


def _place_of(code: RefusalCode, currency: str | None) -> str:
    if code is RefusalCode.UNSERVED_COUNTRY:
        return "spec.address.country"
    if code is RefusalCode.NO_PRICE_RULE and currency is not None:
        return "spec.quote.currency"
    return "spec.items"


def _refuse_other_quote(given: Quote, right: Quote) -> None:
    is_same_rule = given.price_rule in (None, right.price_rule)
    given_amounts = given.amounts.model_fields_set
    if not is_same_rule or _comparable(given, given_amounts) != _comparable(right, given_amounts):
        raise Denied(
            422,
            "price_changed",
            "spec.quote is not what the catalogue says: the total is "
            f"{format_minor(right.amounts.total, right.currency)} ({right.amounts.total} in minor units); "
            "leave spec.quote out to have it written",
        )


def _comparable(quote: Quote, amounts: set[str]) -> tuple[Any, ...]:
    lines = sorted(tuple(line.model_dump().values()) for line in quote.lines)
    return quote.currency, lines, quote.amounts.model_dump(include=amounts)


def _missing_members(given: Mapping[str, Any], written: Mapping[str, Any]) -> dict[str, Any] | None:
    """What a quote that was given lacks: it may be older than a member of it."""
    missing = {name: value for name, value in written.items() if name not in given}
    amounts = {name: value for name, value in written["amounts"].items() if name not in given["amounts"]}
    return {**missing, **({"amounts": amounts} if amounts else {})} or None
