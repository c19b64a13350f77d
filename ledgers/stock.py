"""The port of the stock ledger: what the reservation controller needs of it."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Protocol

from orderplane.crds.order import Item
from orderplane.ledgers.states import ReservationState

HOLD_SECONDS = 900
"""How long stock is held for an order that has not begun to pay, from the moment at which it is held."""


@dataclass(frozen=True, slots=True)
class ReservationEntry:
    """One reservation as the ledger has it; `message` says what was short.

    `left` is the time until `expires_at` at the moment of reading, by the ledger's clock: no other clock
    decides.
    """

    state: ReservationState
    message: str | None
    expires_at: datetime
    left: timedelta = field(compare=False)


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
        expires_at: datetime | None,
        traceparent: str | None,
        taking: str | None = None,
    ) -> ReservationEntry:
        """Hold all lines or none: HELD with `inventory.reserved`, or REJECTED. A repeat returns the first
        result.

        Args:
            expires_at: None: `HOLD_SECONDS` from now.
            taking: A Reservation without an order, by name. What it holds passes over to this one, if it is
                the same items; in between nobody else gets them.

        Raises:
            GateClosed: the order is not open.
        """
        ...

    async def expire(self, merchant: str, holder: str) -> ReservationEntry | None:
        """Release what is HELD past its expiry; what is PINNED stays."""
        ...

    async def extend(self, merchant: str, holder: str) -> ReservationEntry | None:
        """Hold for another `HOLD_SECONDS` what an open order has HELD past its expiry."""
        ...

    async def release(self, merchant: str, holder: str) -> ReservationEntry | None:
        """Give back what is HELD, PINNED or COMMITTED.

        Raises:
            GateClosed: the order is not being compensated, or a label of it may be valid.
        """
        ...
