"""What all kinds share: names of the API group, object metadata, conditions."""

from datetime import datetime
from enum import StrEnum
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, SerializeAsAny
from pydantic.alias_generators import to_camel

GROUP = "orderplane.dev"
VERSION = "v1alpha1"
API_VERSION = f"{GROUP}/{VERSION}"

SHARD_LABEL = f"{GROUP}/shard"
CUSTOMER_LABEL = f"{GROUP}/customer"
ORDER_LABEL = f"{GROUP}/order"
TRACEPARENT_ANNOTATION = f"{GROUP}/traceparent"
RETRY_ANNOTATION = f"{GROUP}/retry"
CANCELLED_BY_ANNOTATION = f"{GROUP}/cancelled-by"
RETRIED_BY_ANNOTATION = f"{GROUP}/retried-by"
KEEP_UNTIL_ANNOTATION = f"{GROUP}/keep-until"
"""Of an Order: until when it stays in the API server, RFC 3339."""

REVISION_ANNOTATION = f"{GROUP}/revision"
REVISION = 3
"""Revision of the CRDs, which each of them has as an annotation. It grows when one of them changes."""

COMPENSATE_FINALIZER = f"{GROUP}/compensate"
RELEASE_STOCK_FINALIZER = f"{GROUP}/release-stock"
REFUND_PAYMENT_FINALIZER = f"{GROUP}/refund-payment"
CANCEL_SHIPMENT_FINALIZER = f"{GROUP}/cancel-shipment"

SHARDS = 64
"""Number of virtual shards. The shard of an object never changes, but the replica that serves the shard
may."""

MAX_ORDER_NAME = 50
"""A child's name is the order's plus nine characters and must fit into a label value (63)."""

CUSTOMER_PATTERN = r"^[A-Za-z0-9]([A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?$"
REFUND_NAME_PATTERN = r"^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$"
SKU_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$"
Sku = Annotated[str, Field(pattern=SKU_PATTERN, max_length=63, examples=["TEA-EARL-GREY-100"])]
Quantity = Annotated[int, Field(ge=1, le=10_000, examples=[2])]
MOST_MINOR = 999_999_999_999
Minor = Annotated[int, Field(ge=0, le=MOST_MINOR)]
"""An amount of money in minor units of its currency (ISO 4217): cents, yen, fils."""
Currency = Annotated[str, Field(pattern=r"^[A-Z]{3}$", max_length=3)]


class ApiModel(BaseModel):
    """A part of a resource: camelCase in JSON, snake_case in Python, immutable."""

    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True, frozen=True, extra="ignore")


class Kind(StrEnum):
    """The kinds of this group."""

    ORDER = "Order"
    RESERVATION = "Reservation"
    PAYMENT = "Payment"
    SHIPMENT = "Shipment"

    @property
    def plural(self) -> str:
        """As in URLs."""
        return f"{self.value.lower()}s"


class OwnerReference(ApiModel):
    """https://kubernetes.io/docs/concepts/overview/working-with-objects/owners-dependents/"""

    api_version: str
    kind: str
    name: str
    uid: str
    controller: bool = False
    block_owner_deletion: bool = False


class ObjectMeta(ApiModel):
    """The metadata that controllers read."""

    name: str
    namespace: str
    uid: str
    resource_version: str
    generation: int = 1
    creation_timestamp: datetime
    deletion_timestamp: datetime | None = None
    finalizers: tuple[str, ...] = ()
    labels: dict[str, str] = Field(default_factory=dict)
    annotations: dict[str, str] = Field(default_factory=dict)
    owner_references: tuple[OwnerReference, ...] = ()


class Condition(ApiModel):
    """metav1.Condition: `last_transition_time` changes only if `status` does."""

    type: Annotated[str, Field(max_length=63)]
    status: Literal["True", "False", "Unknown"]
    reason: Annotated[str, Field(pattern=r"^[A-Z][A-Za-z0-9]*$", max_length=64)]
    message: Annotated[str, Field(max_length=1024)] = ""
    observed_generation: int = 0
    last_transition_time: datetime


Conditions = Annotated[tuple[Condition, ...], Field(max_length=16)]


class ResourceStatus(ApiModel):
    """What the status of every kind has."""

    observed_generation: int = 0
    reason: Annotated[str | None, Field(max_length=64)] = None
    stalled: bool | None = None
    conditions: Conditions = ()


class OrderRef(ApiModel):
    """The order that a child belongs to; with the uid, because a name can be used again."""

    name: Annotated[str, Field(max_length=MAX_ORDER_NAME)]
    uid: Annotated[str, Field(max_length=36)]


class Resource(ApiModel):
    """An object of this API group, as read from the API server."""

    metadata: ObjectMeta

    @property
    def key(self) -> tuple[str, str]:
        """Namespace and name."""
        return self.metadata.namespace, self.metadata.name

    @property
    def uid(self) -> str:
        """Of this very object: another one may get its name."""
        return self.metadata.uid

    @property
    def version(self) -> int:
        """The resourceVersion, which grows with each write."""
        return int(self.metadata.resource_version)

    @property
    def is_deleting(self) -> bool:
        """Whether it was deleted and finalizers still hold it."""
        return self.metadata.deletion_timestamp is not None


class ManifestMeta(ApiModel):
    """The metadata of an object that is to be created; the server adds the rest."""

    name: str
    namespace: str
    labels: dict[str, str]
    annotations: dict[str, str]
    finalizers: tuple[str, ...]
    owner_references: tuple[OwnerReference, ...]


class Manifest(ApiModel):
    """An object that is to be created."""

    api_version: str = API_VERSION
    kind: Kind
    metadata: ManifestMeta
    spec: SerializeAsAny[ApiModel]

    def document(self) -> dict[str, Any]:
        """As it goes over the wire."""
        return self.model_dump(mode="json", by_alias=True, exclude_none=True)
