"""What the order controller needs of the ledgers."""

from typing import Protocol

from orderplane.controllers.gate import Gate
from orderplane.crds.order import Compensation, Order


class Gates(Protocol):
    """The row per order that every effect must pass. Each method is one transaction."""

    async def read(self, merchant: str, uid: str) -> Gate | None:
        """The row with its three ledgers, in one snapshot; None where the order was never opened."""
        ...

    async def open(self, order: Order) -> Gate:
        """Make the row and `order.created`, or answer the row that is there."""
        ...

    async def undo(self, merchant: str, uid: str, *, reason: str, message: str, is_cancel: bool) -> Gate:
        """Decide that the order is undone; the first reason stays. Answers the row as it is then."""
        ...

    async def seal(self, merchant: str, uid: str) -> Gate:
        """End an order that is being undone, with `order.failed` or `order.cancelled`.

        Answers the row as it is: still UNDOING where a ledger holds something yet.
        """
        ...

    async def unsealed(self, merchant: str, name: str) -> tuple[Gate, ...]:
        """The rows under that name that are not over: one, unless an order of the same name vanished."""
        ...

    async def unsealed_page(self, after: tuple[str, str] | None, limit: int) -> tuple[Gate, ...]:
        """All rows that are not over, a page at a time, by merchant and uid."""
        ...

    async def compensation(self, merchant: str, uid: str) -> tuple[Compensation, ...]:
        """What was undone so far, from the history."""
        ...
