"""A PostgreSQL, a Kafka and relays of this folder's own, because its tests stop and kill them."""

import asyncio
import secrets
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import aiohttp
import asyncpg
import orjson
import pytest

from orderplane.adapters.kafka.topics import read_all
from orderplane.adapters.postgres.migrate import migrate
from orderplane.dev.localplane import components
from orderplane.dev.localplane.components import process
from orderplane.dev.localplane.kafka import kafka, kafka_program
from orderplane.dev.localplane.ports import free_port
from orderplane.dev.localplane.progress import ConsoleProgress
from orderplane.dev.localplane.supervisor import Component, Supervisor
from orderplane.events.types import EventType
from orderplane.ledgers.postgres.history import append_event

TYPES = tuple(EventType)
TRACEPARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


async def until(condition: Callable[[], Awaitable[bool]], what: str, *, seconds: float = 40.0) -> None:
    """Wait for a condition; a condition that cannot be asked just now is not met."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        try:
            if await condition():
                return
        except (OSError, aiohttp.ClientError, asyncpg.PostgresError, asyncpg.InterfaceError):
            pass
        await asyncio.sleep(0.05)
    pytest.fail(f"not within {seconds:g} s: {what}")


def check_promise(messages: Sequence[Any], rows: Sequence[Any]) -> int:
    """Nothing is lost, doubles are equal, first occurrences rise per order; answers how many doubles."""
    by_id: dict[str, list[Any]] = defaultdict(list)
    for message in messages:
        by_id[dict(message.headers)["ce_id"].decode()].append(message)
    assert set(by_id) == {str(row["event_id"]) for row in rows}
    for doubles in by_id.values():
        contents = {(m.topic, m.key, m.value, tuple(m.headers)) for m in doubles}
        assert len(contents) == 1
    first: dict[str, list[tuple[int, int]]] = defaultdict(list)
    for row in rows:
        appended = min(message.timestamp for message in by_id[str(row["event_id"])])
        first[str(row["subject"])].append((row["seq"], appended))
    for subject, seen in first.items():
        seen.sort()
        times = [appended for _, appended in seen]
        assert times == sorted(times), f"{subject}: {seen}"
    return len(messages) - len(by_id)


@dataclass
class Stage:
    """What the tests play on."""

    supervisor: Supervisor
    state: Path
    server_dsn: str
    dsn: str
    kafka: str
    merchant: str = "demo"
    ports: dict[str, int] = field(default_factory=dict)

    @asynccontextmanager
    async def database(self) -> AsyncIterator[Any]:
        connection = await asyncpg.connect(self.dsn, timeout=10, command_timeout=30)
        await connection.set_type_codec(
            "jsonb", schema="pg_catalog", encoder=lambda v: orjson.dumps(v).decode(), decoder=orjson.loads
        )
        try:
            yield connection
        finally:
            await connection.close(timeout=5)

    until = staticmethod(until)

    async def start_relay(self, name: str, *, kafka: str | None = None) -> None:
        await self.supervisor.start(self.relay(name, kafka=kafka))

    def relay(self, name: str, *, kafka: str | None = None) -> Component:
        self.ports[name] = free_port()
        env = {
            "ORDERPLANE_POSTGRES_DSN": self.dsn,
            "ORDERPLANE_KAFKA": self.kafka if kafka is None else kafka,
        }
        built = process("relay", env, http_port=free_port(), metrics_port=self.ports[name], state=self.state)
        return replace(built, name=name)

    async def metric(self, relay: str, name: str) -> float:
        """The sum over a metric's labels."""
        async with (
            aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=5)) as session,
            session.get(f"http://127.0.0.1:{self.ports[relay]}/metrics") as response,
        ):
            text = await response.text()
        return sum(
            float(line.rsplit(" ", 1)[1])
            for line in text.splitlines()
            if line.startswith((f"{name} ", f"{name}{{"))
        )

    async def unpublished(self) -> int:
        async with self.database() as connection:
            count: int = await connection.fetchval("SELECT count(*) FROM history WHERE published_at IS NULL")
        return count

    async def all_published(self, *, seconds: float = 40.0) -> None:
        async def are_all() -> bool:
            return await self.unpublished() == 0

        await until(are_all, "every row is published", seconds=seconds)

    async def messages(self) -> list[Any]:
        """What the topics hold of this test's merchant."""
        source = f"/orderplane/{self.merchant}".encode()
        return [
            message
            async for message in read_all(self.kafka, seconds=60)
            if ("ce_source", source) in message.headers
        ]

    async def rows(self) -> list[Any]:
        async with self.database() as connection:
            rows: list[Any] = await connection.fetch("SELECT * FROM history ORDER BY id")
        return rows

    async def check(self) -> int:
        """See that the promise was kept; answers how many messages are doubles."""
        return check_promise(await self.messages(), await self.rows())

    async def write(self, connection: Any, subject: UUID, seq: int) -> None:
        """One row, as the ledgers write it; types take turns, so that an order crosses topics."""
        await append_event(
            connection,
            type_=TYPES[(subject.int + seq) % len(TYPES)],
            effect=uuid4(),
            merchant=self.merchant,
            subject=subject,
            name=f"order-{subject.hex[:8]}",
            seq=seq,
            data={"merchant": self.merchant, "order": {"name": "x", "uid": str(subject)}, "seq": seq},
            traceparent=TRACEPARENT,
        )

    async def write_orders(self, subjects: Sequence[UUID], length: int, *, first: int = 1) -> None:
        """`length` rows of each subject, a transaction for each turn, so that each order is interleaved."""
        async with self.database() as connection:
            for seq in range(first, first + length):
                async with connection.transaction():
                    for subject in subjects:
                        await self.write(connection, subject, seq)


@pytest.fixture(scope="session")
async def kept_stage(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Stage]:
    state = tmp_path_factory.mktemp("relay")
    port = free_port()
    broker = kafka(await kafka_program(ConsoleProgress()), state, port, free_port())
    database, dsn = components.postgres(state, free_port())
    async with Supervisor(state / "logs") as supervisor:
        await supervisor.start(database)
        await supervisor.start(broker)
        yield Stage(supervisor, state, dsn, dsn, f"127.0.0.1:{port}")
    components.remove_postgres(state)


@pytest.fixture
async def stage(kept_stage: Stage) -> AsyncIterator[Stage]:
    """A database and a merchant of this test's own."""
    name = f"relay_{secrets.token_hex(4)}"
    admin = await asyncpg.connect(kept_stage.server_dsn, timeout=10)
    try:
        await admin.execute(f"CREATE DATABASE {name}")
    finally:
        await admin.close(timeout=5)
    dsn = kept_stage.server_dsn.removesuffix("/postgres") + f"/{name}"
    await migrate(dsn)
    own = replace(kept_stage, dsn=dsn, merchant=name, ports={})
    yield own
    for relay in own.ports:
        await own.supervisor.stop(relay)
