"""The names of what happens. Each is a CloudEvents type and a Kafka topic."""

from enum import StrEnum
from uuid import UUID, uuid5


class EventType(StrEnum):
    """Past facts; none is ever taken back, an undo is an event of its own."""

    ORDER_CREATED = "order.created"
    INVENTORY_RESERVED = "inventory.reserved"
    INVENTORY_RELEASED = "inventory.released"
    PAYMENT_SUCCESS = "payment.success"
    PAYMENT_FAILED = "payment.failed"
    PAYMENT_CANCELLED = "payment.cancelled"
    PAYMENT_REFUNDED = "payment.refunded"
    ORDER_SHIPPED = "order.shipped"
    SHIPMENT_CANCELLED = "shipment.cancelled"
    ORDER_DELIVERED = "order.delivered"
    ORDER_FAILED = "order.failed"
    ORDER_CANCELLED = "order.cancelled"


OUTBOX_PARTITIONS = 16
"""Relay partitions: all events of one subject share a partition, so that one worker keeps their order."""


def event_id(effect: UUID, type_: EventType) -> UUID:
    """The id that an effect's event always has, however often it is told (RFC 9562, version 5).

    `effect` is the id of the ledger row, so that a second refund is a second event.
    """
    return uuid5(effect, type_.value)


def outbox_partition_of(subject: UUID) -> int:
    """Which partition a subject's events go through."""
    return subject.int % OUTBOX_PARTITIONS
