"""Resources as the JSON that the API server sends, for code that passes them on.

Reading a resource into its model costs more than most requests of the gateway. These types give the same JSON
names for the type checker, at no cost at run time.
"""

from collections.abc import Mapping
from typing import Any, NotRequired

from typing_extensions import TypedDict


class ManifestMetadata(TypedDict):
    """The metadata that a new resource is created with."""

    name: str
    namespace: str
    finalizers: list[str]
    labels: dict[str, str]
    annotations: dict[str, str]


class Manifest(TypedDict):
    """A resource to be created; `spec` has the form of its kind's model."""

    apiVersion: str
    kind: str
    metadata: ManifestMetadata
    spec: Mapping[str, Any]


class MetadataDocument(TypedDict):
    """The metadata of a stored resource."""

    name: str
    namespace: str
    uid: str
    resourceVersion: str
    creationTimestamp: str
    deletionTimestamp: NotRequired[str]


class ResourceDocument(TypedDict):
    """A stored resource of any kind."""

    metadata: MetadataDocument
    spec: Mapping[str, Any]


class ItemDocument(TypedDict):
    """See `crds.order.Item`."""

    sku: str
    quantity: int


class QuoteLineDocument(TypedDict):
    """See `crds.order.QuoteLine`."""

    sku: str
    quantity: int
    unitAmount: int
    weightGrams: int


class AmountsDocument(TypedDict):
    """See `crds.order.Amounts`."""

    items: int
    shipping: int
    tax: int
    includedTax: NotRequired[int]
    discount: int
    total: int


class AppliedPriceRuleDocument(TypedDict):
    """See `crds.order.AppliedPriceRule`."""

    version: int
    taxBasisPoints: int


class QuoteDocument(TypedDict):
    """See `crds.order.Quote`."""

    currency: str
    lines: list[QuoteLineDocument]
    amounts: AmountsDocument
    priceRule: NotRequired[AppliedPriceRuleDocument]


class AddressDocument(TypedDict):
    """See `crds.order.Address`."""

    name: str
    line1: str
    line2: NotRequired[str]
    city: str
    region: NotRequired[str]
    postalCode: str
    country: str


class OrderSpecDocument(TypedDict):
    """The part of `crds.order.OrderSpec` that the gateway reads."""

    customer: str
    items: list[ItemDocument]
    quote: QuoteDocument
    paymentMethod: str
    address: NotRequired[AddressDocument]
    reference: NotRequired[str]
    metadata: NotRequired[dict[str, str]]
    cancel: NotRequired[bool]


class ConditionDocument(TypedDict):
    """See `crds.meta.Condition`."""

    type: str
    status: str
    reason: str
    message: NotRequired[str]
    lastTransitionTime: str


class CompensationDocument(TypedDict):
    """See `crds.order.Compensation`."""

    step: str
    reference: str
    at: str


class TrackingDocument(TypedDict):
    """See `crds.order.TrackingInfo`."""

    carrier: str
    code: str
    url: str


class OrderStatusDocument(TypedDict, total=False):
    """The part of `crds.order.OrderStatus` that the gateway reads."""

    phase: str
    reason: str
    stalled: bool
    conditions: list[ConditionDocument]
    compensation: list[CompensationDocument]
    tracking: TrackingDocument
    finishedAt: str


class OrderDocument(TypedDict):
    """A stored Order."""

    metadata: MetadataDocument
    spec: OrderSpecDocument
    status: NotRequired[OrderStatusDocument]
