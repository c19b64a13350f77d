"""A PostgreSQL, receivers that misbehave, and deliverers that tests stop and kill."""

import asyncio
import secrets
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import aiohttp
import pytest
from aiohttp import web
from standardwebhooks import Webhook

from orderplane.adapters.webhook_endpoints.secrets import EndpointSecrets, new_key
from orderplane.dev.localplane.components import process
from orderplane.dev.localplane.plane import Plane
from orderplane.dev.localplane.ports import free_port
from orderplane.dev.localplane.supervisor import Supervisor
from orderplane.events.standard_webhooks import new_secret
from orderplane.events.types import EventType
from orderplane.ledgers.postgres.history import append_event
from orderplane.ledgers.postgres.session import Pool, transaction
from orderplane.ledgers.postgres.webhook_endpoints import add_endpoint
from orderplane.ledgers.webhook_endpoints import EndpointDetails

from ...support.database import own_database
from ..relay.conftest import until

MERCHANT = "shop"
Answering = Callable[["Receiver", web.Request], Awaitable[web.StreamResponse]]


async def takes(_: "Receiver", __: web.Request) -> web.StreamResponse:
    return web.Response(text="ok")


@dataclass
class Receiver:
    """A merchant's server. It notes what it was sent, verifies it by the official library, then answers.

    Args:
        took: How often it has answered an event with 200.
        asked: How often it was sent an event, also those that it did not take.
        delays: Seconds from the event until it was taken for the first time.
    """

    secret: str
    url: str = ""
    answering: Answering = takes
    took: Counter[str] = field(default_factory=Counter)
    asked: Counter[str] = field(default_factory=Counter)
    delays: dict[str, float] = field(default_factory=dict)
    forged: list[str] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)

    async def serve(self, request: web.Request) -> web.StreamResponse:
        body = await request.read()
        headers = dict(request.headers)
        self.headers.append(headers)
        try:
            event = Webhook(self.secret).verify(body, headers)
        except Exception as problem:
            self.forged.append(repr(problem))
            return web.Response(status=401)
        id_ = event["id"]
        assert id_ == request.headers["webhook-id"]
        self.asked[id_] += 1
        answer = await self.answering(self, request)
        if answer.status == 200:
            self.took[id_] += 1
            happened = datetime.fromisoformat(event["time"]).timestamp()
            self.delays.setdefault(id_, time.time() - happened)
        return answer


@dataclass
class DelivererStage:
    """All that runs, and a database of its own: a deliverer serves every merchant in it."""

    supervisor: Supervisor
    state: Path
    env: dict[str, str]
    pool: Pool
    secrets: EndpointSecrets
    runners: list[web.AppRunner] = field(default_factory=list)
    ports: dict[str, int] = field(default_factory=dict)

    until = staticmethod(until)

    async def start_deliverer(self, name: str = "deliverer", **env: str) -> None:
        self.ports[name] = free_port()
        built = process(
            "deliverer", {**self.env, **env}, http_port=0, metrics_port=self.ports[name], state=self.state
        )
        await self.supervisor.start(replace(built, name=name))

    async def receiver(
        self, answering: Answering = takes, *, types: tuple[str, ...] = (), **more: Any
    ) -> Receiver:
        """A server on loopback, registered as an endpoint."""
        made = Receiver(new_secret(), answering=answering)
        app = web.Application()
        app.router.add_post("/hook", made.serve)
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await runner.setup()
        self.runners.append(runner)
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        made.url = f"http://127.0.0.1:{runner.addresses[0][1]}/hook"
        await self.register(made, types=types, **more)
        return made

    async def register(
        self, receiver: Receiver, *, types: tuple[str, ...] = (), url: str | None = None
    ) -> str:
        """An endpoint for a receiver; returns its id."""
        id_ = f"we-{secrets.token_hex(8)}"
        details = EndpointDetails(url or receiver.url, "", types, is_enabled=True)
        async with transaction(self.pool) as connection:
            await add_endpoint(
                connection,
                MERCHANT,
                id_,
                details,
                secret=self.secrets.encrypt(receiver.secret),
                actor="user:u-1",
            )
        return id_

    async def happen(self, count: int = 1, type_: EventType = EventType.ORDER_CREATED) -> list[str]:
        """Events of so many orders; returns their ids."""
        made = []
        for _ in range(count):
            uid = uuid4()
            async with transaction(self.pool) as connection:
                await append_event(
                    connection, type_=type_, effect=uid, merchant=MERCHANT, subject=uid,
                    name=f"o-{uid.hex[:12]}", seq=1, data={"merchant": MERCHANT, "text": "Gr\u00fc\u00dfe"},
                    traceparent=None,
                )  # fmt: skip
            made.append(uid)
        rows = await self.pool.fetch("SELECT event_id FROM history WHERE subject = ANY($1::uuid[])", made)
        return [str(row["event_id"]) for row in rows]

    async def taken(self, receiver: Receiver, events: list[str], *, seconds: float = 60) -> None:
        """Wait until a receiver has taken events."""

        async def has_all() -> bool:
            return all(receiver.took[event] for event in events)

        await until(has_all, f"{len(events)} events are taken", seconds=seconds)

    async def rows(self, endpoint: str | None = None) -> list[Any]:
        return await self.pool.fetch(
            "SELECT * FROM event_deliveries WHERE $1::text IS NULL OR endpoint_id = $1 ORDER BY created_at",
            endpoint,
        )

    async def all_in(self, state: str, count: int, *, seconds: float = 60) -> None:
        """Wait until so many deliveries have ended so."""

        async def have() -> bool:
            return [row["state"] for row in await self.rows()] == [state] * count

        await until(have, f"{count} deliveries are {state}", seconds=seconds)

    async def log(self, event: str) -> list[Any]:
        return await self.pool.fetch(
            "SELECT * FROM delivery_attempts WHERE event_id = $1 ORDER BY attempt", UUID(event)
        )

    async def metric(self, name: str, **labels: str) -> float:
        url = f"http://127.0.0.1:{self.ports['deliverer']}/metrics"
        async with aiohttp.ClientSession() as http, http.get(url) as answer:
            lines = (await answer.text()).splitlines()
        wanted = [f'{label}="{value}"' for label, value in labels.items()]
        return sum(
            float(line.rsplit(" ", 1)[1])
            for line in lines
            if line.startswith((f"{name} ", f"{name}{{")) and all(each in line for each in wanted)
        )


@pytest.fixture
async def stage(plane: Plane, tmp_path: Path) -> AsyncIterator[DelivererStage]:
    """A database of this test's own, and no deliverer yet."""
    keys = new_key()
    async with own_database(plane.postgres_dsn) as pool, Supervisor(tmp_path / "logs") as supervisor:
        name = await pool.fetchval("SELECT current_database()")
        env = {
            "ORDERPLANE_POSTGRES_DSN": plane.postgres_dsn.rpartition("/")[0] + f"/{name}",
            "ORDERPLANE_ENDPOINT_KEYS": keys,
            "ORDERPLANE_ENDPOINT_NETWORKS": "127.0.0.0/8",
            "ORDERPLANE_DELIVERY_TIMEOUT_SECONDS": "0.5",
            "ORDERPLANE_DELIVERY_LEASE_SECONDS": "2",
            "ORDERPLANE_DELIVERY_PAUSES": "0.1, 0.2, 0.4",
        }
        made = DelivererStage(supervisor, tmp_path, env, pool, EndpointSecrets(keys))
        yield made
        for name in made.ports:
            await supervisor.stop(name)
        await asyncio.gather(*(runner.cleanup() for runner in made.runners))
