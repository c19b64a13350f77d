"""What the audit looks at: everything that every system says, as plain values."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from uuid import UUID

from orderplane.controllers.payment.ports import Intent, Refund
from orderplane.controllers.shipment.ports import CarrierShipment
from orderplane.crds.meta import Kind
from orderplane.events.notifications import Channel

Row = Mapping[str, Any]
"""One row of a table, by column."""


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
    """Read from both ends: what was promised and what was done.

    Args:
        taken_at: When the reading began.
        tables: Rows of each ledger table, by the table's name, read in one transaction.
        resources: Live objects of each kind, as the API server tells them.
        intents, refunds, parcels: All that the providers know.
        messages: All that is in the topics; None where there is no Kafka to look into.
        outgoing: The reference of every message that went out through a channel, once for each copy; without
            the channels that cannot be looked into.
    """

    taken_at: datetime
    tables: Mapping[str, Sequence[Row]]
    resources: Mapping[Kind, Sequence[Mapping[str, Any]]]
    intents: Sequence[Intent]
    refunds: Sequence[Refund]
    parcels: Sequence[CarrierShipment]
    messages: Sequence[Message] | None = None
    outgoing: Mapping[Channel, Sequence[str]] = field(default_factory=dict)
    _by_order: dict[str, dict[str, Row]] = field(default_factory=dict, compare=False)
    _open: set[str] = field(default_factory=set, compare=False)

    def __post_init__(self) -> None:
        self._open.update(str(row["uid"]) for row in self.tables["orders"] if row["state"] != "Sealed")

    def is_open(self, order_uid: str) -> bool:
        """Whether an order is still under way, so that the ledger may be a step behind a provider."""
        return order_uid in self._open

    def of_order(self, table: str, column: str) -> Mapping[str, Row]:
        """The one row of `table` per order, by the order's uid in `column`."""
        known = self._by_order.get(table)
        if known is None:
            known = {str(row[column]): row for row in self.tables[table] if row[column] is not None}
            self._by_order[table] = known
        return known

    def lost(self) -> frozenset[UUID]:
        """The holders whose stock a recount has taken."""
        return frozenset(row["holder"] for row in self.tables["stock_movements"] if row["kind"] == "Lose")


@dataclass(frozen=True, slots=True, order=True)
class Violation:
    """One promise that is not kept: which, about what, and how it looks."""

    invariant: str
    subject: str
    detail: str
