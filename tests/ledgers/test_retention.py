"""What nobody needs any more is deleted faster than it comes, and nothing else is."""

import asyncio
import json
import re
import time
from collections.abc import AsyncIterator
from importlib import resources
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import REGISTRY

from orderplane.crds.reasons import Reason
from orderplane.gateway.retention import BATCH, Retention
from orderplane.ledgers.errors import Transient
from orderplane.ledgers.postgres.retention import LOCK, RULES, PostgresRetention, Rule
from orderplane.ledgers.postgres.session import Pool

from ..support.database import own_database

OLD, LIVE = 50_000, 20_000
PER_SECOND = 2_000 / 60
"""Orders at the target load, each of which leaves a key."""

MIGRATIONS = resources.files("orderplane.ledgers") / "migrations"
SCHEMA = "\n".join(file.read_text() for file in MIGRATIONS.iterdir() if file.name.endswith(".sql"))
PAGE = Path(__file__).parents[2] / "docs" / "retention.md"
BY_TABLE = {rule.table: rule for rule in RULES}


def test_the_page_says_of_every_table_what_bounds_it() -> None:
    tables = set(re.findall(r"^CREATE TABLE (\w+)", SCHEMA, re.MULTILINE))
    named = set(re.findall(r"^\| `(\w+)`", PAGE.read_text(), re.MULTILINE))
    assert named == tables, "docs/retention.md lists every table of the schema, once"
    assert set(BY_TABLE) < tables


class Purged:
    """Rows that are deleted in batches."""

    def __init__(self, rows: int, *, busy: bool = False) -> None:
        self.rows, self.busy = rows, busy
        self.batches: list[int] = []
        self.months: list[int] = []

    async def purge(self, rule: Rule, limit: int) -> int | None:
        if self.busy:
            return None
        gone = min(limit, self.rows)
        self.rows -= gone
        self.batches.append(gone)
        return gone

    async def overdue_seconds(self, rule: Rule) -> float:
        return 0.0

    async def turn_partitions(self, archive_months: int) -> int:
        self.months.append(archive_months)
        if len(self.months) == 1:
            raise Transient(Reason.LEDGER_UNAVAILABLE, "it is away")
        return 0


async def test_a_table_is_purged_until_nothing_is_left_in_bounded_batches() -> None:
    source, beats = Purged(3 * BATCH + 7), []
    await Retention(source).purge(RULES[0], lambda: beats.append(1))
    assert source.batches == [BATCH, BATCH, BATCH, 7]
    assert len(beats) == 4


async def test_a_replica_leaves_it_to_the_one_that_is_at_it() -> None:
    source = Purged(3 * BATCH, busy=True)
    await Retention(source).purge(RULES[0], lambda: None)
    assert source.batches == []


async def test_the_partitions_of_the_archive_are_looked_at_in_each_round(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("orderplane.gateway.retention.ROUND_SECONDS", 0.001)
    source = Purged(0)
    rounds = asyncio.create_task(Retention(source, 36).run(lambda: None))
    async with asyncio.timeout(30):
        while len(source.months) < 3:  # noqa: ASYNC110 - nothing tells of it
            await asyncio.sleep(0.001)
    rounds.cancel()
    assert set(source.months) == {36}


@pytest.fixture
async def pool(plane: Any) -> AsyncIterator[Pool]:
    """A database of this test's own: a gateway of the plane purges as well."""
    async with own_database(plane.postgres_dsn) as opened:
        yield opened


async def add_keys(pool: Pool, prefix: str, count: int, age_days: int) -> None:
    await pool.execute(
        "INSERT INTO idempotency (merchant, principal, key_hash, fingerprint, kind, name, manifest, status, "
        "  body, created_at) "
        "SELECT 'demo', 'p', convert_to($1 || n, 'UTF8'), '', 'Order', $1 || n, NULL, 202, '{}', "
        "  now() - make_interval(days => $3, secs => n) FROM generate_series(1, $2::int) n",
        prefix, count, age_days,
    )  # fmt: skip


async def add_logins(pool: Pool, prefix: str, count: int, ended: str) -> None:
    """Logins with three refresh tokens each; `ended` is when they end, as an interval from now."""
    await pool.execute(
        "INSERT INTO users (merchant, id, email, password_hash) "
        "VALUES ('demo', 'u', 'a@example.org', 'x') ON CONFLICT DO NOTHING"
    )
    await pool.execute(
        "WITH made AS (INSERT INTO logins (merchant, id, user_id, scopes, expires_at) "
        "  SELECT 'demo', md5($1 || n)::uuid, 'u', '{}', now() + $3::text::interval "
        "  FROM generate_series(1, $2::int) n RETURNING id) "
        "INSERT INTO refresh_tokens (merchant, hash, login) "
        "SELECT 'demo', uuid_send(id) || int4send(n), id FROM made, generate_series(1, 3) n",
        prefix, count, ended,
    )  # fmt: skip


@pytest.mark.integration
async def test_fifty_thousand_old_keys_go_and_live_ones_stay(pool: Pool) -> None:
    await add_keys(pool, "old-", OLD, 31)
    await add_keys(pool, "live-", LIVE, 1)
    await add_keys(pool, "open-", 3, 40)
    await pool.execute(
        "INSERT INTO orders (merchant, uid, name, currency, total) "
        "SELECT 'demo', gen_random_uuid(), 'open-' || n, 'EUR', 1 FROM generate_series(1, 3) n"
    )
    store, rule = PostgresRetention(pool), BY_TABLE["idempotency"]
    assert await store.overdue_seconds(rule) > 86_400
    before = REGISTRY.get_sample_value("orderplane_purged_rows_total", {"table": "idempotency"}) or 0
    began = time.monotonic()
    await Retention(store).purge(rule, lambda: None)
    per_second = OLD / (time.monotonic() - began)
    left = await pool.fetch("SELECT split_part(name, '-', 1) AS what, count(*) FROM idempotency GROUP BY 1")
    assert {row["what"]: row["count"] for row in left} == {"live": LIVE, "open": 3}
    assert per_second > 10 * PER_SECOND, f"{per_second:.0f} a second"
    gone = REGISTRY.get_sample_value("orderplane_purged_rows_total", {"table": "idempotency"})
    assert gone == before + OLD
    assert await store.overdue_seconds(rule) == 0
    assert REGISTRY.get_sample_value("orderplane_purge_overdue_seconds", {"table": "idempotency"}) == 0


@pytest.mark.integration
async def test_what_was_not_answered_keeps_its_address_for_a_day(pool: Pool) -> None:
    await add_keys(pool, "old-", 2, 1)
    await add_keys(pool, "claimed-", 1, 1)
    await add_keys(pool, "young-", 1, 0)
    await pool.execute("UPDATE idempotency SET manifest = '{}', status = NULL, body = NULL")
    await pool.execute(
        "UPDATE idempotency SET claimed_until = now() + interval '5 s' WHERE name LIKE 'claimed-%'"
    )
    store = PostgresRetention(pool)
    erasing, purging = (rule for rule in RULES if rule.table == "idempotency")
    assert 0 < await store.overdue_seconds(erasing) < 3_600
    for rule in (erasing, purging):
        await Retention(store).purge(rule, lambda: None)
    rows = await pool.fetch("SELECT name FROM idempotency WHERE manifest IS NOT NULL ORDER BY name")
    assert [row["name"] for row in rows] == ["claimed-1", "young-1"]
    assert await pool.fetchval("SELECT count(*) FROM idempotency") == 4
    assert await store.overdue_seconds(erasing) == 0


@pytest.mark.integration
async def test_logins_go_a_day_after_their_end_with_their_tokens(pool: Pool) -> None:
    await add_logins(pool, "ended", 4_000, "-2 days")
    await add_logins(pool, "just ended", 5, "-1 hour")
    await add_logins(pool, "live", 2_000, "20 days")
    await add_logins(pool, "revoked", 1_000, "21 days")
    await pool.execute(
        "UPDATE logins SET revoked_at = now() - interval '25 hours' "
        "WHERE expires_at > now() + interval '20 days 12 hours'"
    )
    retention = Retention(PostgresRetention(pool))
    for rule in RULES:
        await retention.purge(rule, lambda: None)
    assert await pool.fetchval("SELECT count(*) FROM logins") == 2_005
    assert await pool.fetchval("SELECT count(*) FROM refresh_tokens") == 3 * 2_005
    for rule in RULES:
        assert await PostgresRetention(pool).overdue_seconds(rule) == 0


@pytest.mark.integration
async def test_one_replica_purges_at_a_time(pool: Pool) -> None:
    await add_keys(pool, "old-", 10, 31)
    store, rule = PostgresRetention(pool), BY_TABLE["idempotency"]
    async with pool.acquire() as other, other.transaction():
        await other.execute("SELECT pg_advisory_xact_lock($1)", LOCK)
        assert await store.purge(rule, 5) is None
    assert await store.purge(rule, 5) == 5


@pytest.mark.integration
@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.table)
async def test_where_nothing_may_go_hardly_anything_is_read(pool: Pool, rule: Rule) -> None:
    await add_keys(pool, "live-", LIVE, 1)
    await add_logins(pool, "live", LIVE // 4, "20 days")
    await pool.execute("ANALYZE")
    explained = await pool.fetchval(f"EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) {rule.purge}", BATCH)
    plan = json.loads(explained)[0]["Plan"]
    assert plan["Shared Hit Blocks"] + plan["Shared Read Blocks"] < 50
