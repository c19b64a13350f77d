"""Event types, event ids and the partitions of the outbox."""

from enum import StrEnum
from uuid import UUID, uuid5


class EventType(StrEnum):
    """Facts that have happened. Each value is a CloudEvents type and the name of a Kafka topic.

    No event is ever withdrawn: compensation appends events of its own.
    """

    ORDER_CREATED = "order.created"
    INVENTORY_RESERVED = "inventory.reserved"
    INVENTORY_RELEASED = "inventory.released"
    PAYMENT_SUCCESS = "payment.success"
    PAYMENT_FAILED = "payment.failed"
    PAYMENT_CANCELLED = "payment.cancelled"
    PAYMENT_REFUNDED = "payment.refunded"
    PAYMENT_WITHDRAWN = "payment.withdrawn"
    ORDER_RETRIED = "order.retried"
    REFUND_REQUESTED = "refund.requested"
    ORDER_SHIPPED = "order.shipped"
    SHIPMENT_CANCELLED = "shipment.cancelled"
    ORDER_DELIVERED = "order.delivered"
    ORDER_RETURNED = "order.returned"
    ORDER_FAILED = "order.failed"
    ORDER_CANCELLED = "order.cancelled"


OUTBOX_PARTITIONS = 16
"""All events of one subject are in one partition, which one relay serves at a time: it keeps their order."""


def event_id(effect: UUID, type_: EventType) -> UUID:
    """The id of an effect's event: the same however often its transaction is tried (UUIDv5, RFC 9562).

    Args:
        effect: The id of the ledger row, so that a second refund is a second event.
    """
    return uuid5(effect, type_.value)


def outbox_partition_of(subject: UUID) -> int:
    """The outbox partition of a subject's events."""
    return subject.int % OUTBOX_PARTITIONS
