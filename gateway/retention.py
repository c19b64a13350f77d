"""Delete what is not needed any more: in small batches, until nothing is left, again and again."""

import asyncio
from typing import Protocol

import structlog
from prometheus_client import Counter, Gauge

from orderplane.adapters.halves import Beat
from orderplane.ledgers.errors import Transient
from orderplane.ledgers.postgres.retention import RULES, Rule

log = structlog.get_logger(__name__)

PURGED = Counter("orderplane_purged_rows_total", "Rows that nobody needs and that were deleted.", ["table"])
OVERDUE = Gauge(
    "orderplane_purge_overdue_seconds",
    "Time since the oldest row that is left could have been deleted.",
    ["table"],
)

ROUND_SECONDS = 60.0
BATCH = 500
BATCH_PAUSE_SECONDS = 0.05
"""Requests go in between: a batch takes about as long. So 5,000 rows a second are deleted at most, and 2,000
orders a minute leave 33."""


class Source(Protocol):
    """What is needed of `PostgresRetention`."""

    async def purge(self, rule: Rule, limit: int) -> int | None: ...
    async def overdue_seconds(self, rule: Rule) -> float: ...
    async def turn_partitions(self, archive_months: int) -> int: ...


class Retention:
    """Purges one table after the other. One replica does so at a time.

    Args:
        archive_months: How long orders are archived; 0: for ever.
    """

    def __init__(self, source: Source, archive_months: int = 0) -> None:
        self._source = source
        self._archive_months = archive_months

    async def run(self, beat: Beat) -> None:
        """Purge every minute, until cancelled."""
        while True:
            await self._turn_partitions()
            for rule in RULES:
                try:
                    await self.purge(rule, beat)
                except Transient as problem:
                    log.warning("not purged; it is tried again", table=rule.table, why=problem.message)
            beat()
            await asyncio.sleep(ROUND_SECONDS)

    async def _turn_partitions(self) -> None:
        try:
            dropped = await self._source.turn_partitions(self._archive_months)
        except Transient as problem:
            log.warning("the archive's partitions were not looked at; it is tried again", why=problem.message)
            return
        if dropped:
            log.info("dropped old partitions of the archive", tables=dropped)

    async def purge(self, rule: Rule, beat: Beat) -> None:
        """Delete every row of one table that may go.

        Raises:
            Transient: the database did not answer.
        """
        total = 0
        while True:
            beat()
            gone = await self._source.purge(rule, BATCH)
            total += gone or 0
            PURGED.labels(rule.table).inc(gone or 0)
            if gone is None or gone < BATCH:
                break
            await asyncio.sleep(BATCH_PAUSE_SECONDS)
        OVERDUE.labels(rule.table).set(await self._source.overdue_seconds(rule))
        if total:
            log.info("purged", table=rule.table, rows=total)
