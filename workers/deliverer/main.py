"""`python -m orderplane.workers.deliverer.main`: the deliverer as a process."""

import sys
from datetime import timedelta

from orderplane.adapters.dependencies import postgres
from orderplane.adapters.process import Process, run_process
from orderplane.adapters.webhook_endpoints.client import open_client
from orderplane.adapters.webhook_endpoints.secrets import EndpointSecrets
from orderplane.ledgers.errors import Transient
from orderplane.workers.deliverer.deliverer import DRAIN_SECONDS, Deliverer, Rules
from orderplane.workers.deliverer.store import DeliveryStore
from orderplane.workers.settings import DelivererSettings

POOL_SIZE = 8


async def serve(settings: DelivererSettings, process: Process) -> None:
    """Send events until the process is asked to stop; then finish what is in hand."""
    secrets = EndpointSecrets(settings.endpoint_keys.get_secret_value())
    rules = Rules(
        lease=timedelta(seconds=settings.delivery_lease_seconds),
        good_for=timedelta(seconds=settings.delivery_good_for_seconds),
        patience=timedelta(seconds=settings.endpoint_patience_seconds),
        pauses=settings.delivery_pauses,
    )
    async with (
        postgres(process, size=POOL_SIZE, plans_once=True) as pool,
        open_client(
            timeout_seconds=settings.delivery_timeout_seconds, networks=settings.endpoint_networks
        ) as client,
    ):
        deliverer = Deliverer(DeliveryStore(pool), client, secrets, rules)

        async def use_keys(keys: str) -> None:
            await secrets.use_keys(keys)
            await deliverer.renew_secrets()

        process.secrets.on_change("endpoint_keys", use_keys)
        await process.wait_for("PostgreSQL", deliverer.renew_secrets, (Transient,))
        process.serving(lambda: deliverer.is_ready)
        async with process.halves.running(*deliverer.halves, drain_seconds=DRAIN_SECONDS):
            await process.stopping.wait()


def main() -> int:
    """Run the deliverer; returns the exit code."""
    return run_process("deliverer", DelivererSettings, serve)


if __name__ == "__main__":
    sys.exit(main())
