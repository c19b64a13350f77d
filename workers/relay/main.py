"""`python -m orderplane.workers.relay.main`: the relay as a process."""

import logging
import sys

from orderplane.adapters.postgres.migrate import OlderSchema
from orderplane.adapters.process import Process, run_process
from orderplane.adapters.retryable import POSTGRES
from orderplane.workers.relay.outbox import check_database
from orderplane.workers.relay.relay import DRAIN_SECONDS, Relay
from orderplane.workers.settings import RelaySettings


async def serve(settings: RelaySettings, process: Process) -> None:
    """Publish events until the process is asked to stop; then finish the batch in hand."""
    # aiokafka would log twenty lines a second while a broker is away; its failures are raised as well.
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)
    dsn = process.secrets.reader("postgres_dsn")
    process.secrets.on_change("postgres_dsn", check_database)
    relay = Relay(dsn, settings.kafka, settings.kafka_replication, process.stopping)
    await process.wait_for("PostgreSQL", lambda: check_database(dsn()), (*POSTGRES, OlderSchema))
    process.serving(lambda: relay.is_ready, kafka=settings.kafka)
    async with process.halves.running(*relay.halves, drain_seconds=DRAIN_SECONDS):
        await process.stopping.wait()


def main() -> int:
    """Run the relay; returns the exit code."""
    return run_process("relay", RelaySettings, serve)


if __name__ == "__main__":
    sys.exit(main())
