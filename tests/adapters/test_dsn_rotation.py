"""The role of the database is replaced under load: no statement fails, and the old role is used no more."""

import asyncio
import secrets
from collections.abc import AsyncIterator
from urllib.parse import urlsplit

import asyncpg
import pytest

from orderplane.adapters.postgres.listen import listen
from orderplane.adapters.postgres.pool import open_pool, use_dsn
from orderplane.dev.localplane.plane import Plane

pytestmark = pytest.mark.integration

SIZE = 4


@pytest.fixture
async def roles(plane: Plane) -> AsyncIterator[list[tuple[str, str]]]:
    """Two roles and their DSNs."""
    parts = urlsplit(plane.postgres_dsn)
    made = []
    admin = await asyncpg.connect(plane.postgres_dsn)
    for _ in range(2):
        name, password = f"role_{secrets.token_hex(4)}", secrets.token_hex(8)
        await admin.execute(f"CREATE ROLE {name} LOGIN PASSWORD '{password}'")
        made.append((name, f"postgresql://{name}:{password}@{parts.hostname}:{parts.port}{parts.path}"))
    try:
        yield made
    finally:
        for name, _ in made:
            await admin.execute(f"DROP ROLE IF EXISTS {name}")
        await admin.close()


async def test_a_pool_changes_over_while_it_is_used(plane: Plane, roles: list[tuple[str, str]]) -> None:
    (old, old_dsn), (new, new_dsn) = roles
    pool = await open_pool(old_dsn, size=SIZE)
    seen: list[str] = []
    is_over = asyncio.Event()

    async def load() -> None:
        while not is_over.is_set():
            seen.append(await pool.fetchval("SELECT current_user::text FROM pg_sleep(0.001)"))

    loads = [asyncio.create_task(load()) for _ in range(2 * SIZE)]
    try:
        while len(seen) < 4 * SIZE:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
        with pytest.raises(asyncpg.InvalidPasswordError):
            await use_dsn(pool, old_dsn.replace(f"//{old}:", f"//{old}:wrong"))
        assert set(seen) == {old}
        await use_dsn(pool, new_dsn)
        async with asyncio.timeout(30):
            while set(seen[-4 * SIZE :]) != {new}:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
        is_over.set()
        await asyncio.gather(*loads)
        assert await sessions_of(plane, old) == 0
    finally:
        is_over.set()
        await asyncio.gather(*loads, return_exceptions=True)
        await pool.close()


async def test_who_listens_changes_over_too(
    plane: Plane, roles: list[tuple[str, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("orderplane.adapters.postgres.listen.CHECK_SECONDS", 0.05)
    (old, old_dsn), (new, new_dsn) = roles
    dsn, heard = old_dsn, asyncio.Event()
    listening = asyncio.create_task(listen(lambda: dsn, "rotation", lambda _: heard.set(), lambda: None))
    try:
        async with asyncio.timeout(30):
            while await sessions_of(plane, old) == 0:  # noqa: ASYNC110
                await asyncio.sleep(0.05)
            dsn = new_dsn
            while await sessions_of(plane, new) == 0 or await sessions_of(plane, old):  # noqa: ASYNC110
                await asyncio.sleep(0.05)
            admin = await asyncpg.connect(plane.postgres_dsn)
            while not heard.is_set():
                await admin.execute("NOTIFY rotation")
                await asyncio.sleep(0.05)
            await admin.close()
    finally:
        listening.cancel()
        await asyncio.gather(listening, return_exceptions=True)


async def sessions_of(plane: Plane, role: str) -> int:
    connection = await asyncpg.connect(plane.postgres_dsn)
    try:
        count: int = await connection.fetchval(
            "SELECT count(*) FROM pg_stat_activity WHERE usename = $1", role
        )
        return count
    finally:
        await connection.close()
