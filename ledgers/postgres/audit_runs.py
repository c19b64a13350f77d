"""What the audits found: kept for those who are not there when one runs."""

from orderplane.ledgers.postgres.session import Pool, session

# A quarter of a year shows whether a violation is new; an audit an hour leaves two thousand rows.
_RECORD = """
WITH old AS (DELETE FROM audit_runs WHERE at < now() - interval '90 days')
INSERT INTO audit_runs (violations) VALUES ($1)
"""


async def record_audit_run(pool: Pool, violations: int) -> None:
    """Keep how many violations an audit found, for 90 days. Raises as `session` does."""
    async with session(pool) as connection:
        await connection.execute(_RECORD, violations)
