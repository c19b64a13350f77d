"""What the routes work with: opened once, shared by all requests."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import Annotated

import asyncpg
from fastapi import Depends, Request
from kubernetes.config import ConfigException

from orderplane.adapters.kubernetes.client import ApiClient
from orderplane.adapters.postgres.catalogue import PostgresCatalogue
from orderplane.adapters.postgres.gates import PostgresGates
from orderplane.adapters.postgres.idempotency import PostgresIdempotency
from orderplane.adapters.postgres.pool import Pool, open_pool
from orderplane.adapters.postgres.shelf import PostgresShelf
from orderplane.controllers.order.ports import Gates
from orderplane.gateway.orders.acceptance import Acceptance
from orderplane.gateway.settings import Settings
from orderplane.intake.quote import Catalogue

API_SECONDS = 5.0
"""The most that one request to the API server may take; `acceptance.LEASE_SECONDS` counts on it."""


class StartError(Exception):
    """A part that is needed cannot be had; the message says which, and what to do."""


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
        StartError: the database cannot be reached, or there is no usable kubeconfig.
    """
    async with AsyncExitStack() as stack:
        pool = await _open_pool(settings.postgres_dsn)
        stack.push_async_callback(pool.close)
        api = await stack.enter_async_context(await _connect())
        keys = PostgresIdempotency(pool)
        yield Services(
            api=api,
            catalogue=PostgresCatalogue(pool),
            gates=PostgresGates(pool),
            keys=keys,
            shelf=PostgresShelf(pool),
            acceptance=Acceptance(keys, api),
        )


async def _open_pool(dsn: str) -> Pool:
    try:
        return await open_pool(dsn)
    except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError) as error:
        raise StartError(
            f"PostgreSQL cannot be reached ({type(error).__name__}). "
            "See that it runs, and that ORDERPLANE_POSTGRES_DSN is right."
        ) from error


async def _connect() -> ApiClient:
    try:
        return await ApiClient.connect(user_agent="orderplane-gateway", seconds=API_SECONDS)
    except ConfigException as error:
        raise StartError(
            f"There is no usable kubeconfig ({error}). Set KUBECONFIG, or run in a cluster."
        ) from error


async def services(request: Request) -> Services:
    """The services of this app."""
    opened: Services = request.app.state.services
    return opened


ServicesDep = Annotated[Services, Depends(services)]
