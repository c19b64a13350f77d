"""What processes need before they can serve, waited for at start-up and closed at the end."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from functools import partial

import asyncpg
from kubernetes.config import ConfigException

from orderplane.adapters.kubernetes.client import ApiClient
from orderplane.adapters.postgres.migrate import OlderSchema, check_schema
from orderplane.adapters.postgres.pool import open_pool, use_dsn
from orderplane.adapters.process import Process
from orderplane.adapters.retryable import KUBERNETES, POSTGRES
from orderplane.adapters.settings import SettingsError
from orderplane.crds.api_errors import Unauthorized
from orderplane.ledgers.postgres.session import Pool

CLOSE_SECONDS = 5.0


@asynccontextmanager
async def postgres(process: Process, *, size: int, plans_once: bool = False) -> AsyncIterator[Pool]:
    """A pool as `open_pool` makes it, as soon as PostgreSQL answers and has the schema of this version.

    An older schema is waited for: the pods of a new version start while its migrations still run.

    Raises:
        Stopped: the process was asked to stop meanwhile.
        SettingsError: the DSN cannot be used.
    """
    dsn = process.secrets.reader("postgres_dsn")

    async def attempt() -> Pool:
        try:
            return await open_pool(dsn(), size=size, plans_once=plans_once)
        except asyncpg.ClientConfigurationError:
            raise SettingsError(
                "ORDERPLANE_POSTGRES_DSN: this cannot be used to connect; give it as "
                "postgresql://USER:PASSWORD@HOST:5432/DATABASE."
            ) from None

    pool = await process.wait_for("PostgreSQL", attempt, POSTGRES)
    try:
        process.secrets.on_change("postgres_dsn", partial(use_dsn, pool, plans_once=plans_once))
        await process.wait_for("PostgreSQL", partial(check_schema, pool), (*POSTGRES, OlderSchema))
        yield pool
    finally:
        # What still holds a connection then is abandoned with it.
        with suppress(TimeoutError):
            await asyncio.wait_for(pool.close(), CLOSE_SECONDS)


@asynccontextmanager
async def api_server(
    process: Process, *, connections: int = 64, timeout_seconds: float = 10.0
) -> AsyncIterator[ApiClient]:
    """A client as `ApiClient.connect` makes it, as soon as the API server answers.

    Raises:
        Stopped: the process was asked to stop meanwhile.
        SettingsError: there is no kubeconfig.
    """
    try:
        client = await ApiClient.connect(
            user_agent=f"orderplane-{process.name}", connections=connections, timeout_seconds=timeout_seconds
        )
    except ConfigException as error:
        raise SettingsError(f"KUBECONFIG: {error}. Set it to a file, or run in a cluster.") from error
    async with client:

        async def attempt() -> None:
            # Whoever may not read the version still knows that the server answers.
            with suppress(Unauthorized):
                await client.version()

        await process.wait_for("the API server", attempt, KUBERNETES)
        yield client
