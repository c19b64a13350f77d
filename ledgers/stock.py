"""The port of the stock ledger: what the reservation controller needs of it."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from orderplane.crds.order import Item
from orderplane.ledgers.states import ReservationState


@dataclass(frozen=True, slots=True)
class ReservationEntry:
    """One reservation as the ledger has it; `message` says what was short."""

    state: ReservationState
    message: str | None
    expires_at: datetime


class StockLedger(Protocol):
    """Stock on hand, and the reservations of it. Each method is one transaction.

    `holder` is the order's uid, or the Reservation's own uid where it has no order (`order_uid` is None).
    """

    async def uid_of(self, merchant: str, name: str) -> str | None:
        """The holder of the newest entry for a Reservation of that name."""
        ...

    async def overdue(self, limit: int) -> Sequence[tuple[str, str]]:
        """Merchant and name of the reservations without an order that are HELD past their expiry, oldest
        first."""
        ...

    async def read(self, merchant: str, holder: str) -> ReservationEntry | None:
        """The entry; None where nothing was ever reserved."""
        ...

    async def hold(
        self,
        merchant: str,
        holder: str,
        *,
        order_uid: str | None,
        name: str,
        items: Sequence[Item],
        expires_at: datetime,
        traceparent: str | None,
    ) -> ReservationEntry:
        """Hold all lines or none: HELD with `inventory.reserved`, or REJECTED. A repeat returns the first
        result.

        Raises:
            GateClosed: the order is not open.
        """
        ...

    async def expire(self, merchant: str, holder: str, now: datetime) -> ReservationEntry | None:
        """Release what is HELD past its expiry; what is PINNED stays."""
        ...

    async def release(self, merchant: str, holder: str) -> ReservationEntry | None:
        """Give back what is HELD, PINNED or COMMITTED.

        Raises:
            GateClosed: the order is not being compensated, or a label of it may be valid.
        """
        ...
