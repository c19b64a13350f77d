"""What an Order or a Reservation carries from birth, so that no write is spent on it later.

The finalizer, because what disappears could not be undone; the shard, because a replica that
does not see an object cannot serve it; the customer as a hash, because lists go by label and labels are
no place for a customer's id.
"""

import hashlib
import random
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from orderplane.crds.meta import (
    API_VERSION,
    COMPENSATE_FINALIZER,
    CUSTOMER_LABEL,
    RELEASE_STOCK_FINALIZER,
    SHARD_LABEL,
    SHARDS,
    TRACEPARENT_ANNOTATION,
    Kind,
)
from orderplane.crds.order import Item, Quote

_CARD_NUMBER = re.compile(r"\d{12}")
_SEPARATORS = str.maketrans("", "", "_- ")


@dataclass(frozen=True, slots=True)
class Defaults:
    """What is added to an object's metadata."""

    finalizer: str
    labels: Mapping[str, str]
    annotations: Mapping[str, str]


def draw_shard(draw: Callable[[int], int] = random.randrange) -> str:
    """A virtual shard; `draw(n)` gives one of 0..n-1, each as likely as the others."""
    return str(draw(SHARDS))


def is_shard(text: str) -> bool:
    """Whether it is a shard as `draw_shard` writes them: a number without leading zeros."""
    return text in _SHARDS


_SHARDS = frozenset(str(shard) for shard in range(SHARDS))


def customer_hash(merchant: str, customer: str) -> str:
    """The value of the customer label: 32 hexadecimal digits, different for each merchant."""
    return hashlib.sha256(f"{merchant}/{customer}".encode()).hexdigest()[:32]


def looks_like_card_number(text: str) -> bool:
    """Whether there are twelve digits in a row, however they are grouped; never repeat such a text."""
    return _CARD_NUMBER.search(text.translate(_SEPARATORS)) is not None


def order_defaults(merchant: str, customer: str, shard: str, traceparent: str | None) -> Defaults:
    """What an Order carries."""
    labels = {SHARD_LABEL: shard, CUSTOMER_LABEL: customer_hash(merchant, customer)}
    return Defaults(COMPENSATE_FINALIZER, labels, _annotations(traceparent))


def reservation_defaults(shard: str, traceparent: str | None) -> Defaults:
    """What a Reservation without an order carries; the operator presets those of orders itself."""
    return Defaults(RELEASE_STOCK_FINALIZER, {SHARD_LABEL: shard}, _annotations(traceparent))


def order_manifest(
    namespace: str,
    name: str,
    spec: Mapping[str, Any],
    quote: Quote,
    traceparent: str | None,
    shard: str,
) -> dict[str, Any]:
    """A whole Order, ready to be created.

    Args:
        namespace: The merchant.
        spec: `customer`, `items`, `address`, `paymentMethod`, and what else was asked for, as in JSON.
        quote: From `ledgers.pricing`, for the same items.
        shard: From `draw_shard`.
    """
    preset = order_defaults(namespace, spec["customer"], shard, traceparent)
    whole = {"cancel": False, **spec, "quote": quote.model_dump(mode="json", by_alias=True)}
    return _manifest(Kind.ORDER, namespace, name, preset, whole)


def reservation_manifest(
    namespace: str,
    name: str,
    items: Sequence[Item],
    expires_at: datetime,
    traceparent: str | None,
    shard: str,
) -> dict[str, Any]:
    """A whole Reservation without an order, ready to be created; `expires_at` is aware, in whole seconds."""
    spec = {
        "items": [item.model_dump(mode="json") for item in items],
        "expiresAt": expires_at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
    }
    return _manifest(Kind.RESERVATION, namespace, name, reservation_defaults(shard, traceparent), spec)


def _manifest(
    kind: Kind, namespace: str, name: str, preset: Defaults, spec: Mapping[str, Any]
) -> dict[str, Any]:
    return {
        "apiVersion": API_VERSION,
        "kind": kind.value,
        "metadata": {
            "name": name,
            "namespace": namespace,
            "finalizers": [preset.finalizer],
            "labels": dict(preset.labels),
            "annotations": dict(preset.annotations),
        },
        "spec": spec,
    }


def _annotations(traceparent: str | None) -> dict[str, str]:
    return {TRACEPARENT_ANNOTATION: traceparent} if traceparent else {}
