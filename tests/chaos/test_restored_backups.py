"""Real backups of etcd and PostgreSQL, taken while orders are under way, and restored: docs/backup.md."""

import asyncio
import os
import shutil
import subprocess
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from orderplane.audit.verdict import audit
from orderplane.cli.backends import Backends, open_backends
from orderplane.dev.demo.mix import Story, mix
from orderplane.dev.demo.products import seed
from orderplane.dev.demo.shop import Shop
from orderplane.dev.localplane.plane import Plane
from orderplane.ledgers.postgres.session import session

from .conftest import alarms_of, story_of, verdict_of

pytestmark = [pytest.mark.integration, pytest.mark.chaos]

PROCESSES = ("operator", "notifier", "deliverer", "relay", "gateway", "webhook")
"""In the order in which docs/backup.md has them stopped."""

SHARES = {Story.GOOD: 8, Story.CANCELLED: 1, Story.DECLINED: 1}
SECONDS = 120.0


class Backups:
    """Copies of the data of both stores, as they were at some moment."""

    def __init__(self, plane: Plane) -> None:
        self._plane = plane
        postgres = plane.supervisor.component("postgres")
        self._programs, self._user = Path(postgres.command[0]).parent, postgres.user
        self._data = {
            "postgres": Path(postgres.command[postgres.command.index("-D") + 1]),
            "etcd": plane.state / "etcd",
        }

    def _copy(self, store: str) -> Path:
        return self._data[store].with_name(f"{self._data[store].name}-backup")

    async def back_up_etcd(self) -> None:
        """As a snapshot of its volume: the member stands still meanwhile."""
        await self._plane.supervisor.stop("etcd")
        await asyncio.to_thread(shutil.copytree, self._data["etcd"], self._copy("etcd"))
        await self._plane.supervisor.start("etcd")

    async def back_up_postgres(self) -> None:
        """A base backup with the log that it needs, while everything runs."""
        target = self._copy("postgres")
        target.mkdir(mode=0o700)
        if self._user is not None:
            os.chown(target, self._user, self._user)
        await asyncio.to_thread(
            subprocess.run,
            [self._programs / "pg_basebackup", f"--dbname={self._plane.postgres_dsn}", f"--pgdata={target}",
             "--checkpoint=fast", "--wal-method=stream", "--no-sync"],
            check=True, capture_output=True, timeout=60, user=self._user,
        )  # fmt: skip

    async def restore(self, *stores: str) -> None:
        """Throw away what these stores have, and start them from their backups."""
        supervisor = self._plane.supervisor
        stopped = [*(("kube-apiserver",) if "etcd" in stores else ()), *stores]
        for name in stopped:
            await supervisor.stop(name)
        for store in stores:
            await asyncio.to_thread(shutil.rmtree, self._data[store])
            self._copy(store).rename(self._data[store])
        for name in reversed(stopped):
            await supervisor.start(name)


@asynccontextmanager
async def shop_of(plane: Plane) -> AsyncIterator[tuple[Shop, Backends]]:
    """Connections of one part of the test: they do not outlive the stores."""
    async with open_backends(plane.env("admin")) as backends:
        await seed(backends.pool)
        yield Shop(plane.url("gateway"), backends.api, backends.pool, rate=8.0), backends


async def until_gates(backends: Backends, at_least: int) -> None:
    """Wait until so many orders have their gate."""
    async with asyncio.timeout(SECONDS), session(backends.pool) as connection:
        while await connection.fetchval("SELECT count(*) FROM orders") < at_least:  # noqa: ASYNC110
            await asyncio.sleep(0.1)


async def until_sealed(plane: Plane) -> None:
    """Wait until no order is under way."""
    async with open_backends(plane.env("admin")) as backends, asyncio.timeout(SECONDS):
        while True:
            async with session(backends.pool) as connection:
                if not await connection.fetchval("SELECT count(*) FROM orders WHERE state <> 'Sealed'"):
                    return
            await asyncio.sleep(0.3)


@pytest.mark.timeout(500)
async def test_both_stores_are_restored_to_different_moments(own_plane: Plane, chaos_seed: int) -> None:
    plane, backups = own_plane, Backups(own_plane)
    supervisor = plane.supervisor

    # etcd is restored to a moment before orders that the ledgers know: they are finished, or undone.
    async with shop_of(plane) as (shop, backends), asyncio.TaskGroup() as group:
        placing = group.create_task(shop.place_all(mix(30, chaos_seed, stories=SHARES)))
        await until_gates(backends, 12)
        await backups.back_up_etcd()
        await placing
        await until_gates(backends, 30)
        assert not any(placed.problem for placed in shop.placed), story_of(shop.placed)
    for name in PROCESSES:
        await supervisor.stop(name)
    await backups.back_up_postgres()
    await backups.restore("etcd", "postgres")
    for name in reversed(PROCESSES):
        await supervisor.start(name)
    await until_sealed(plane)
    verdict = await verdict_of(plane)
    # An order that had ended already has no resource any more, and was not archived: the audit names it.
    assert {each.invariant for each in verdict.violations} <= {"archive-missing"}, verdict.violations
    assert not verdict.open

    # PostgreSQL is restored to a moment before charges and labels: the audit names each, and changes nothing.
    async with shop_of(plane) as (shop, backends):
        await backups.back_up_postgres()
        await shop.place_all(mix(4, chaos_seed + 1, stories={Story.GOOD: 4}))
        assert await shop.watch(SECONDS, lambda: None), story_of(shop.placed)
    for name in PROCESSES:
        await supervisor.stop(name)
    await backups.restore("postgres")
    async with open_backends(plane.env("admin")) as backends:
        found = Counter(each.invariant for each in (await audit(backends.snapshot)).violations)
    forgotten = len(shop.placed)
    assert found["intent-unknown"] == found["label-unknown"] == forgotten, found
    assert found["message-unknown"] >= 4 * forgotten, found
    assert not alarms_of(plane)
