"""Connect to everything that a command may need, as the environment says."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from orderplane.adapters.carriers.easypost import EasyPostCarrier
from orderplane.adapters.kubernetes.client import ApiClient
from orderplane.adapters.payments.stripe import StripeGateway
from orderplane.adapters.postgres.pool import Pool, open_pool
from orderplane.audit.collect import collect
from orderplane.audit.snapshot import Snapshot


@dataclass(frozen=True, slots=True)
class World:
    """Open connections to all that Orderplane touches."""

    api: ApiClient
    pool: Pool
    gateway: StripeGateway
    carrier: EasyPostCarrier
    kafka: str

    async def snapshot(self) -> Snapshot:
        """Read everything once."""
        return await collect(self.api, self.pool, self.gateway, self.carrier, self.kafka)


@asynccontextmanager
async def open_world(env: dict[str, str]) -> AsyncIterator[World]:
    """Connect to what `env` (`ORDERPLANE_*`, and the usual `KUBECONFIG`) names.

    Raises:
        KeyError: a variable is missing.
        OSError, asyncpg.PostgresError: something cannot be reached.
    """
    pool = await open_pool(env["ORDERPLANE_POSTGRES_DSN"], size=4)
    try:
        async with (
            await ApiClient.connect(
                user_agent="orderplane-cli", seconds=30, kubeconfig=env.get("KUBECONFIG")
            ) as api,
            StripeGateway(env["ORDERPLANE_PAYMENTS_KEY"], env["ORDERPLANE_PAYMENTS_URL"]) as gateway,
            EasyPostCarrier(env["ORDERPLANE_CARRIER_KEY"], env["ORDERPLANE_CARRIER_URL"]) as carrier,
        ):
            yield World(api, pool, gateway, carrier, env.get("ORDERPLANE_KAFKA", ""))
    finally:
        await pool.close()
