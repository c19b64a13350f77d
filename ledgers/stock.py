"""What the reservation controller needs of the stock ledger."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from orderplane.crds.order import Item
from orderplane.ledgers.gate import ReservationState


@dataclass(frozen=True, slots=True)
class ReservationEntry:
    """One reservation as the ledger has it; `message` says what was short."""

    state: ReservationState
    message: str | None
    expires_at: datetime


class StockLedger(Protocol):
    """Stock on hand, and what of it is kept for whom. Each method is one transaction.

    `holder` is the order's uid, or the Reservation's own where it stands alone (`order_uid` is None).
    """

    async def uid_of(self, merchant: str, name: str) -> str | None:
        """The holder of the newest entry that was made for a resource of that name."""
        ...

    async def overdue(self, limit: int) -> Sequence[tuple[str, str]]:
        """Merchant and name of what no order answers for and is HELD past its time, the longest first."""
        ...

    async def read(self, merchant: str, holder: str) -> ReservationEntry | None:
        """The entry; None where nothing was ever asked for."""
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
        """Take all lines or none: HELD with `inventory.reserved`, or REJECTED. Asked again: the first answer.

        Raises:
            GateClosed: the order is not open.
        """
        ...

    async def expire(self, merchant: str, holder: str, now: datetime) -> ReservationEntry | None:
        """Release what is HELD past its time; what is PINNED stays."""
        ...

    async def release(self, merchant: str, holder: str) -> ReservationEntry | None:
        """Give back what is HELD, PINNED or COMMITTED.

        Raises:
            GateClosed: the order is not being undone, or a label of it may still be alive.
        """
        ...
