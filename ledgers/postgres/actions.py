"""What people have done: the table `actions`, which triggers of the database write (migration 0011)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from orderplane.ledgers.postgres.session import Pool, session

_PAGE = """
SELECT id, actor, action, object, before, after, at FROM actions
WHERE merchant = $1 AND ($2::bigint IS NULL OR id < $2) AND ($3::text IS NULL OR object = $3)
  AND ($4::text IS NULL OR actor = $4)
ORDER BY id DESC LIMIT $5
"""


@dataclass(frozen=True, slots=True)
class Action:
    """One thing that somebody has changed.

    Args:
        actor: Who, as in `crds.actors`.
        action: The kind of object and what was done to it, as `order.cancel`.
        object: Its name or id.
        before, after: What was changed, as it was and as it became; None where there was nothing.
    """

    id: int
    actor: str
    action: str
    object: str
    before: Mapping[str, Any] | None
    after: Mapping[str, Any] | None
    at: datetime


class ActionLog:
    """Reads the actions of a merchant. Raises `Transient` as `session` does."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def page(
        self, merchant: str, *, before: int | None, object_: str | None, actor: str | None, limit: int
    ) -> Sequence[Action]:
        """The newest actions before the one with this id, of one object or actor where these are given."""
        async with session(self._pool) as connection:
            rows = await connection.fetch(_PAGE, merchant, before, object_, actor, limit)
        return [Action(**row) for row in rows]
