"""Metadata that an Order or a Reservation gets at its creation, so that no later write is needed for it.

The finalizer: without it a deleted object would be gone before its effects are compensated. The shard label:
an operator replica sees only objects of its shards. The customer label: lists are filtered by label. Its
value is a hash, because labels are visible to everyone who may list the objects.
"""

import hashlib
import random
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from orderplane.crds.documents import Manifest
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
    """What is added to the metadata of a new object."""

    finalizer: str
    labels: Mapping[str, str]
    annotations: Mapping[str, str]


def draw_shard(draw: Callable[[int], int] = random.randrange) -> str:
    """A random shard; `draw(n)` gives a number from 0 to n-1 with equal probability."""
    return str(draw(SHARDS))


def is_shard(text: str) -> bool:
    """Whether the text is a shard as `draw_shard` writes it: a number without leading zeros."""
    return text in _SHARDS


_SHARDS = frozenset(str(shard) for shard in range(SHARDS))


def customer_hash(merchant: str, customer: str) -> str:
    """The value of the customer label: 32 hexadecimal digits, different for each merchant."""
    return hashlib.sha256(f"{merchant}/{customer}".encode()).hexdigest()[:32]


def looks_like_card_number(text: str) -> bool:
    """Whether the text has twelve digits in a row, however they are grouped.

    Never log or repeat such a text.
    """
    return _CARD_NUMBER.search(text.translate(_SEPARATORS)) is not None


def order_defaults(merchant: str, customer: str, shard: str, traceparent: str | None) -> Defaults:
    """The defaults of an Order."""
    labels = {SHARD_LABEL: shard, CUSTOMER_LABEL: customer_hash(merchant, customer)}
    return Defaults(COMPENSATE_FINALIZER, labels, _annotations(traceparent))


def reservation_defaults(shard: str, traceparent: str | None) -> Defaults:
    """The defaults of a Reservation without an order; the operator creates those of orders itself."""
    return Defaults(RELEASE_STOCK_FINALIZER, {SHARD_LABEL: shard}, _annotations(traceparent))


def order_manifest(
    namespace: str,
    name: str,
    spec: Mapping[str, Any],
    quote: Quote,
    traceparent: str | None,
    shard: str,
) -> Manifest:
    """The manifest of a new Order.

    Args:
        namespace: The merchant.
        spec: `customer`, `items`, `address`, `paymentMethod` and optional fields, as in JSON.
        quote: From `ledgers.pricing`, for the same items.
        shard: From `draw_shard`.
    """
    defaults = order_defaults(namespace, spec["customer"], shard, traceparent)
    whole = {"cancel": False, **spec, "quote": quote.model_dump(mode="json", by_alias=True)}
    return _manifest(Kind.ORDER, namespace, name, defaults, whole)


def reservation_manifest(
    namespace: str,
    name: str,
    items: Sequence[Item],
    expires_at: datetime,
    traceparent: str | None,
    shard: str,
) -> Manifest:
    """The manifest of a new Reservation without an order; `expires_at` is aware and truncated to seconds."""
    spec = {
        "items": [item.model_dump(mode="json") for item in items],
        "expiresAt": expires_at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
    }
    return _manifest(Kind.RESERVATION, namespace, name, reservation_defaults(shard, traceparent), spec)


def _manifest(kind: Kind, namespace: str, name: str, defaults: Defaults, spec: Mapping[str, Any]) -> Manifest:
    return {
        "apiVersion": API_VERSION,
        "kind": kind.value,
        "metadata": {
            "name": name,
            "namespace": namespace,
            "finalizers": [defaults.finalizer],
            "labels": dict(defaults.labels),
            "annotations": dict(defaults.annotations),
        },
        "spec": spec,
    }


def _annotations(traceparent: str | None) -> dict[str, str]:
    return {TRACEPARENT_ANNOTATION: traceparent} if traceparent else {}
