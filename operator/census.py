"""The census of the ledgers as metrics. Each operator exports the same: take the maximum, not the sum."""

import asyncio

import structlog
from prometheus_client import Gauge

from orderplane.adapters.halves import Beat
from orderplane.ledgers.errors import Transient
from orderplane.ledgers.postgres.census import Census, take_census
from orderplane.ledgers.postgres.session import Pool

log = structlog.get_logger(__name__)

SECONDS = 10.0
"""Between two counts: shorter than the usual interval of scrapes."""

ORDERS = Gauge(
    "orderplane_orders_unfinished", "Orders whose gate is not sealed, of all merchants.", ["phase"]
)
OLDEST_ORDER = Gauge(
    "orderplane_orders_unfinished_oldest_age_seconds",
    "Age of the oldest order of that phase; 0 where there is none.",
    ["phase"],
)
REFUNDS = Gauge("orderplane_refunds_open", "Refunds that the customer does not have yet.", ["state"])
PARCELS = Gauge("orderplane_parcels_tracked", "Parcels about which the carrier is still asked.")
AUDIT_VIOLATIONS = Gauge("orderplane_audit_violations", "Violations that the newest recorded audit found.")
AUDITED_AT = Gauge(
    "orderplane_audit_last_run_timestamp_seconds",
    "When the newest recorded audit ended, in Unix time; 0 before the first.",
)


async def count_for_ever(pool: Pool, beat: Beat) -> None:
    """Update the metrics until cancelled; while PostgreSQL is away they keep what was counted last."""
    while True:
        beat()
        try:
            show(await take_census(pool))
        except Transient as problem:
            log.warning("no census; it is tried again", why=problem.message)
        await asyncio.sleep(SECONDS)


def show(census: Census) -> None:
    """Export a census."""
    for phase, orders in census.orders.items():
        ORDERS.labels(phase.value).set(orders.number)
        OLDEST_ORDER.labels(phase.value).set(orders.oldest_seconds)
    for state, number in census.refunds.items():
        REFUNDS.labels(state.value).set(number)
    PARCELS.set(census.parcels)
    if census.audit is not None:
        AUDIT_VIOLATIONS.set(census.audit.violations)
        AUDITED_AT.set(census.audit.at.timestamp())
