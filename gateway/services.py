"""What the routes work with: opened once, shared by all requests."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import Annotated

from fastapi import Depends, Request

from orderplane.adapters.kubernetes.client import ApiClient
from orderplane.adapters.postgres.catalogue import PostgresCatalogue
from orderplane.adapters.postgres.gates import PostgresGates
from orderplane.adapters.postgres.idempotency import PostgresIdempotency
from orderplane.adapters.postgres.pool import open_pool
from orderplane.adapters.postgres.shelf import PostgresShelf
from orderplane.controllers.order.ports import Gates
from orderplane.gateway.acceptance import Acceptance
from orderplane.gateway.settings import Settings
from orderplane.intake.quote import Catalogue

API_SECONDS = 5.0
"""The most that one request to the API server may take; `acceptance.LEASE_SECONDS` counts on it."""


@dataclass(frozen=True, slots=True)
class Services:
    """See the module."""

    api: ApiClient
    catalogue: Catalogue
    gates: Gates
    keys: PostgresIdempotency
    shelf: PostgresShelf
    acceptance: Acceptance


@asynccontextmanager
async def open_services(settings: Settings) -> AsyncIterator[Services]:
    """Open the connections, and close them after the block.

    Raises:
        OSError, asyncpg.PostgresError: the database cannot be reached.
        kubernetes.config.ConfigException: there is no usable kubeconfig.
    """
    async with AsyncExitStack() as stack:
        pool = await open_pool(settings.postgres_dsn)
        stack.push_async_callback(pool.close)
        api = await stack.enter_async_context(
            await ApiClient.connect(user_agent="orderplane-gateway", seconds=API_SECONDS)
        )
        keys = PostgresIdempotency(pool)
        yield Services(
            api=api,
            catalogue=PostgresCatalogue(pool),
            gates=PostgresGates(pool),
            keys=keys,
            shelf=PostgresShelf(pool),
            acceptance=Acceptance(keys, api),
        )


async def services(request: Request) -> Services:
    """The services of this app."""
    opened: Services = request.app.state.services
    return opened


ServicesDep = Annotated[Services, Depends(services)]
