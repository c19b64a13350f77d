"""PostgreSQL restarts: under load every caller gets a Transient, and no memory of before is believed."""

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import suppress

import asyncpg
import pytest

from orderplane.adapters.postgres.pool import open_pool
from orderplane.dev.localplane.plane import Plane, PlaneSpec, remove
from orderplane.dev.localplane.progress import ConsoleProgress
from orderplane.gateway.products.catalogue import Catalogue
from orderplane.ledgers.errors import Transient
from orderplane.ledgers.postgres.products import ProductDetails, ProductStore
from orderplane.ledgers.postgres.session import session, transaction

pytestmark = [pytest.mark.integration, pytest.mark.chaos]


@pytest.fixture(scope="module")
async def bare_plane(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Plane]:
    state = tmp_path_factory.mktemp("ledger")
    try:
        async with Plane.start(state, PlaneSpec(processes=(), kafka=False), ConsoleProgress()) as started:
            yield started
    finally:
        remove(state)


async def test_a_restart_is_nothing_but_transient(bare_plane: Plane) -> None:
    pool = await open_pool(bare_plane.postgres_dsn, size=12)
    seen: Counter[str] = Counter()

    async def work(number: int) -> None:
        use = session if number % 2 else transaction
        while True:
            try:
                async with use(pool) as connection:
                    await connection.fetch("SELECT $1::int, pg_sleep(0.002)", number)
                seen["done"] += 1
            except Transient as problem:
                assert problem.reason == "LedgerUnavailable"
                seen["transient"] += 1
            await asyncio.sleep(0.005)

    async def trouble() -> None:
        for _ in range(6):
            done = seen["done"]
            while seen["done"] < done + 200:  # noqa: ASYNC110 - it has to be under load again
                await asyncio.sleep(0.02)
            await bare_plane.supervisor.restart("postgres")

    workers = [asyncio.create_task(work(number)) for number in range(20)]
    try:
        async with asyncio.timeout(90):
            await trouble()
            done = seen["done"]
            while seen["done"] < done + 200:  # noqa: ASYNC110
                await asyncio.sleep(0.02)
        assert not [worker for worker in workers if worker.done()]
    finally:
        for worker in workers:
            worker.cancel()
        await asyncio.gather(*workers, return_exceptions=True)
        pool.terminate()
    assert seen["transient"]


async def test_a_catalogue_in_memory_is_read_anew(bare_plane: Plane) -> None:
    """A standby that takes over may lack the last transactions, and give their versions again."""
    pool = await open_pool(bare_plane.postgres_dsn, size=2)
    store = ProductStore(pool)
    catalogue = Catalogue(store, max_bytes=1_000_000)
    watching = asyncio.create_task(catalogue.watch(lambda: None))

    async def amount() -> int:
        known = catalogue.product("shop", "TEA")
        if known is None:
            begun_at = time.monotonic()
            catalogue.keep("shop", await store.find("shop", ["TEA"]), begun_at)
        return known.price.unit_amount if known else 0

    async def until_it_is(wanted: int) -> None:
        async with asyncio.timeout(60):
            while True:
                with suppress(Transient):
                    if await amount() == wanted:
                        return
                await asyncio.sleep(0.05)

    try:
        await store.add("shop", "TEA", ProductDetails("Tea", "", "EUR", 890, {}, 120))
        await until_it_is(890)
        await bare_plane.supervisor.restart("postgres")
        psql = await asyncpg.connect(bare_plane.postgres_dsn)
        await psql.execute("SET session_replication_role = replica")  # no trigger makes a version
        await psql.execute("UPDATE products SET unit_amount = 1")
        await psql.close()
        await until_it_is(1)
    finally:
        watching.cancel()
        await asyncio.gather(watching, return_exceptions=True)
        pool.terminate()
