"""What the audit compares: everything that every system says, as plain values."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, TypedDict
from uuid import UUID

from orderplane.controllers.payment.ports import Dispute, Intent, Refund
from orderplane.controllers.shipment.ports import CarrierShipment
from orderplane.crds.meta import Kind
from orderplane.events.notifications import Channel
from orderplane.ledgers.states import GOODS_LEFT, GateState, StockMovementKind


class OrderRow(TypedDict):
    """Of a row of `orders`; states are the values of the enums in `ledgers.states`."""

    merchant: str
    uid: UUID
    name: str
    state: str
    outcome: str | None
    seq: int
    currency: str
    total: int
    sealed_at: datetime | None
    finished_at: datetime | None
    is_archived: bool
    is_archive_due: bool


class ArchivedRow(TypedDict):
    """An order that is noted as archived; `phase` is None where no row of the archive is found, although its
    partition is there."""

    merchant: str
    uid: UUID
    name: str
    phase: str | None
    is_outdated: bool
    outcome: str | None


class StockRow(TypedDict):
    """Of a row of `stock`."""

    merchant: str
    sku: str
    opening: int
    on_hand: int
    reserved: int


class ReservationRow(TypedDict):
    """Of a row of `reservations`."""

    merchant: str
    holder: UUID
    order_uid: UUID | None
    name: str
    state: str
    expires_at: datetime


class ReservationLineRow(TypedDict):
    """A row of `reservation_lines`."""

    merchant: str
    holder: UUID
    sku: str
    quantity: int


class StockMovementRow(TypedDict):
    """Of a row of `stock_movements`."""

    merchant: str
    sku: str
    on_hand_delta: int
    reserved_delta: int
    kind: str
    holder: UUID | None
    note: str | None
    at: datetime


class PaymentRow(TypedDict):
    """Of a row of `payments`."""

    merchant: str
    order_uid: UUID
    name: str
    amount: int
    currency: str
    state: str
    intent_id: str | None
    captured: int
    reason: str | None


class RefundRow(TypedDict):
    """Of a row of `refunds`."""

    id: UUID
    order_uid: UUID
    amount: int
    state: str
    provider_id: str | None


class RetryRow(TypedDict):
    """Of a row of `retries`."""

    id: UUID
    order_uid: UUID


class RefundRequestRow(TypedDict):
    """Of a row of `refund_requests`; `lines` are quantities by SKU."""

    merchant: str
    order_uid: UUID
    name: str
    amount: int
    lines: dict[str, int]
    is_restocked: bool
    refund_id: UUID | None


class WithdrawalRow(TypedDict):
    """Of a row of `withdrawals`."""

    id: UUID
    order_uid: UUID
    provider_id: str
    kind: str
    amount: int


class ShipmentRow(TypedDict):
    """Of a row of `shipments`."""

    merchant: str
    order_uid: UUID
    name: str
    state: str
    provider_id: str | None
    tracking_code: str | None
    void_state: str
    is_shipped: bool


class EventRow(TypedDict):
    """Of a row of `history`."""

    event_id: UUID
    merchant: str
    subject: UUID
    name: str
    seq: int
    type: str
    data: dict[str, Any]
    at: datetime
    published_at: datetime | None


class IdempotencyRow(TypedDict):
    """Of a row of `idempotency`."""

    merchant: str
    kind: str | None
    name: str | None
    status: int | None


class NotificationRow(TypedDict):
    """Of a row of `notifications`."""

    merchant: str
    event_id: UUID
    channel: str
    order_uid: UUID
    seq: int
    type: str
    customer: str
    state: str
    reason: str | None
    unknown_attempts: int
    is_forced: bool
    ended_at: datetime | None


class UserRow(TypedDict):
    """Of a row of `users`, nothing that identifies a person."""

    merchant: str
    id: str
    preferences: dict[str, bool]
    is_email_confirmed: bool
    has_phone: bool
    updated_at: datetime
    deleted_at: datetime | None


class AccountMessageRow(TypedDict):
    """Of a row of `account_messages`, nothing that identifies a person."""

    id: UUID
    channel: str
    kind: str
    state: str
    unknown_attempts: int


class WebhookEndpointRow(TypedDict):
    """Of a row of `webhook_endpoints`, neither its URL nor its secrets."""

    merchant: str
    id: str
    event_types: Sequence[str]
    subscribed_at: datetime
    deleted_at: datetime | None


class EventDeliveryRow(TypedDict):
    """Of a row of `event_deliveries`; `was_taken`: its log has an attempt that was answered with 2xx."""

    merchant: str
    endpoint_id: str
    event_id: UUID
    is_test: bool
    state: str
    was_taken: bool


class Tables(TypedDict):
    """The rows of each table that the audit compares."""

    orders: Sequence[OrderRow]
    archived_orders: Sequence[ArchivedRow]
    stock: Sequence[StockRow]
    reservations: Sequence[ReservationRow]
    reservation_lines: Sequence[ReservationLineRow]
    stock_movements: Sequence[StockMovementRow]
    payments: Sequence[PaymentRow]
    refunds: Sequence[RefundRow]
    retries: Sequence[RetryRow]
    refund_requests: Sequence[RefundRequestRow]
    withdrawals: Sequence[WithdrawalRow]
    shipments: Sequence[ShipmentRow]
    history: Sequence[EventRow]
    idempotency: Sequence[IdempotencyRow]
    notifications: Sequence[NotificationRow]
    users: Sequence[UserRow]
    account_messages: Sequence[AccountMessageRow]
    webhook_endpoints: Sequence[WebhookEndpointRow]
    event_deliveries: Sequence[EventDeliveryRow]


@dataclass(frozen=True, slots=True)
class Message:
    """One Kafka message. `appended_at` is the broker's time, in milliseconds."""

    topic: str
    partition: int
    offset: int
    key: str
    event_id: str
    sequence: int
    appended_at: int
    value: bytes


@dataclass(frozen=True, slots=True)
class Snapshot:
    """Read from both ends: what the ledgers say and what the other systems have.

    Args:
        taken_at: When the reading began. tables: The rows of the ledgers, read in one transaction. resources:
        The live objects of each kind. intents, refunds, disputes, parcels: All that the providers have.
        messages: All that is in the topics; None where no Kafka is read. outgoing: The reference of every
        message that was sent through a channel, once for each copy; without the channels that cannot be read.
    """

    taken_at: datetime
    tables: Tables
    resources: Mapping[Kind, Sequence[Mapping[str, Any]]]
    intents: Sequence[Intent]
    refunds: Sequence[Refund]
    disputes: Sequence[Dispute]
    parcels: Sequence[CarrierShipment]
    messages: Sequence[Message] | None = None
    outgoing: Mapping[Channel, Sequence[str]] = field(default_factory=dict)
    _unsealed: set[str] = field(default_factory=set, compare=False)

    def __post_init__(self) -> None:
        self._unsealed.update(
            str(row["uid"]) for row in self.tables["orders"] if row["state"] != GateState.SEALED
        )

    def is_unsealed(self, order_uid: str) -> bool:
        """Whether an order is still under way, so that the ledger may be a step behind a provider."""
        return order_uid in self._unsealed

    def sold(self) -> frozenset[UUID]:
        """The orders whose goods have left: something of them may be refunded."""
        return frozenset(row["uid"] for row in self.tables["orders"] if row["outcome"] in GOODS_LEFT)

    def lost(self) -> frozenset[UUID]:
        """The holders whose stock a recount has taken."""
        return frozenset(
            row["holder"]
            for row in self.tables["stock_movements"]
            if row["kind"] == StockMovementKind.LOSE and row["holder"] is not None
        )


@dataclass(frozen=True, slots=True, order=True)
class Violation:
    """One invariant that does not hold: which one, for what, and what is there instead."""

    invariant: str
    subject: str
    detail: str


@dataclass(frozen=True, slots=True, order=True)
class Notice:
    """Something that is not wrong, and that somebody should know: it was done at a provider, not by us."""

    subject: str
    detail: str
