"""Price rules in PostgreSQL: every version of them, of which the newest is in force."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime

from orderplane.ledgers.postgres.history import session_actor
from orderplane.ledgers.postgres.session import Connection, Pool, Row, session, transaction
from orderplane.ledgers.price_rules import PriceRule

_IN_FORCE = "SELECT * FROM current_price_rules WHERE merchant = $1 AND rule IS NOT NULL ORDER BY currency"

_NEWEST = "SELECT * FROM current_price_rules WHERE merchant = $1 AND currency = $2"

_VERSIONS = """
SELECT * FROM price_rule_versions
WHERE merchant = $1 AND currency = $2 AND ($3::bigint IS NULL OR version < $3)
ORDER BY version DESC LIMIT $4
"""

# A rule that does not exist yet has no row to lock. Two rules with one hash wait for each other: no harm.
_LOCK = "SELECT pg_advisory_xact_lock(hashtextextended('price rule ' || $1 || ' ' || $2, 0))"

_ADD = """
INSERT INTO price_rule_versions (merchant, currency, version, rule, actor) VALUES ($1, $2, $3, $4, $5)
"""


@dataclass(frozen=True, slots=True)
class PriceRuleVersion:
    """One version of the price rule of a currency.

    Args:
        version: 1, 2, 3... without gaps.
        rule: None where this version deletes the rule: then no order is taken in the currency.
        actor: Who made it, as in `crds.actors`; None where that is not known.
    """

    currency: str
    version: int
    rule: PriceRule | None
    changed_at: datetime
    actor: str | None


class PriceRuleStore:
    """The table `price_rule_versions`. Raises `Transient` as `session` does."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def in_force(self, merchant: str) -> Sequence[PriceRuleVersion]:
        """The merchant's price rules, by currency, without those that are deleted."""
        async with session(self._pool) as connection:
            return [_version(row) for row in await connection.fetch(_IN_FORCE, merchant)]

    async def newest(self, merchant: str, currency: str) -> PriceRuleVersion | None:
        """The newest version of a price rule; None where the currency never had one."""
        async with session(self._pool) as connection:
            return await _newest(connection, merchant, currency)

    async def versions(
        self, merchant: str, currency: str, *, before: int | None, limit: int
    ) -> Sequence[PriceRuleVersion]:
        """The versions of a price rule, the newest first.

        Args:
            before: Only those before this one.
        """
        async with session(self._pool) as connection:
            rows = await connection.fetch(_VERSIONS, merchant, currency, before, limit)
        return [_version(row) for row in rows]

    async def change(
        self,
        merchant: str,
        currency: str,
        edit: Callable[[PriceRuleVersion | None], PriceRule | None],
        *,
        actor: str | None = None,
    ) -> PriceRuleVersion | None:
        """Add the version that `edit` makes of the newest one; None deletes the rule.

        An exception of `edit` passes through, and nothing is changed. There is no new version where nothing
        differs, and none is returned where the currency never had one.

        Args:
            actor: Who does it; None: the role of the database session.
        """
        async with transaction(self._pool) as connection:
            await connection.execute(_LOCK, merchant, currency)
            newest = await _newest(connection, merchant, currency)
            rule = edit(newest)
            if rule == (newest.rule if newest else None):
                return newest
            document = rule.model_dump(mode="json", by_alias=True, exclude_none=True) if rule else None
            number = newest.version + 1 if newest else 1
            actor = actor or await session_actor(connection)
            await connection.execute(_ADD, merchant, currency, number, document, actor)
            return await _newest(connection, merchant, currency)


async def _newest(connection: Connection, merchant: str, currency: str) -> PriceRuleVersion | None:
    row = await connection.fetchrow(_NEWEST, merchant, currency)
    return _version(row) if row else None


def _version(row: Row) -> PriceRuleVersion:
    return PriceRuleVersion(
        currency=row["currency"],
        version=row["version"],
        rule=PriceRule.model_validate(row["rule"]) if row["rule"] is not None else None,
        changed_at=row["changed_at"],
        actor=row["actor"],
    )
