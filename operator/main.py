"""`python -m orderplane.operator.main`: the operator as a process."""

import asyncio
import sys
from datetime import timedelta

import kopf
import structlog

from orderplane.adapters.carriers.easypost import EasyPostCarrier
from orderplane.adapters.dependencies import api_server, postgres
from orderplane.adapters.kubernetes.kopf_runner import run_kopf
from orderplane.adapters.payments.stripe import StripeProvider
from orderplane.adapters.process import Process, run_process
from orderplane.crds.api_errors import ApiError
from orderplane.ledgers.errors import Transient
from orderplane.operator.ledger_listener import listen_to_ledgers
from orderplane.operator.resync import Resync
from orderplane.operator.settings import OperatorSettings
from orderplane.operator.stateless import NoDiffBase, NoProgress
from orderplane.operator.watch import Watch
from orderplane.operator.wiring import Operator, build

log = structlog.get_logger(__name__)

DRAIN_SECONDS = 12.0
"""Longer than a provider call may take: the result of a call that was begun must be written down."""

CONNECTIONS = 12
"""To the API server: enough to keep it busy. With more at once nothing is done sooner, and the requests of
other clients wait behind them."""

POOL_SIZE = 16


async def serve(settings: OperatorSettings, process: Process) -> None:
    """Run the controllers until the process is asked to stop; then finish what is in hand.

    Raises:
        EtcdRestored: the caches are worth nothing; a new process has to begin.
    """
    async with (
        postgres(process, settings, size=POOL_SIZE, plans_once=True) as pool,
        api_server(process, connections=CONNECTIONS) as api,
        StripeProvider(
            settings.payments_key.get_secret_value(),
            settings.payments_url,
            timeout_seconds=settings.payments_seconds,
        ) as payments,
        EasyPostCarrier(
            settings.carrier_key.get_secret_value(),
            settings.carrier_url,
            timeout_seconds=settings.carrier_seconds,
            sender=settings.carrier_sender,
        ) as carrier,
    ):
        operator = build(
            api,
            pool,
            payments,
            carrier,
            kinds=settings.controllers,
            settle=timedelta(seconds=settings.carrier_settle_seconds),
            first_poll=timedelta(seconds=settings.tracking_first_seconds),
            longest_poll=timedelta(seconds=settings.tracking_longest_seconds),
        )
        resync = Resync(operator, api)
        await process.wait_for("the first list of all resources", resync.resync, (ApiError, Transient))
        process.serving(controllers=[kind.value for kind in operator.controllers])
        await _run(operator, resync, settings, process)


async def _run(operator: Operator, resync: Resync, settings: OperatorSettings, process: Process) -> None:
    dsn = settings.postgres_dsn.get_secret_value()
    background = [
        asyncio.create_task(resync.run(), name="resync"),
        asyncio.create_task(listen_to_ledgers(dsn, operator), name="ledgers"),
    ]
    background += [asyncio.create_task(go(), name=name) for name, go in operator.polls.items()]
    workers = [
        asyncio.create_task(controller.run(), name=kind.value)
        for kind, controller in operator.controllers.items()
    ]
    streams = asyncio.create_task(_watch(operator, resync, process), name="kopf")
    everything = {streams, *background, *workers}
    done, _ = await asyncio.wait(everything, return_when=asyncio.FIRST_COMPLETED)
    log.info("stopping", because=[task.get_name() for task in done])
    for controller in operator.controllers.values():
        controller.stop()
    for task in (streams, *background):
        task.cancel()
    _, late = await asyncio.wait(everything, timeout=DRAIN_SECONDS)
    for task in late:
        task.cancel()
    await asyncio.gather(*everything, return_exceptions=True)
    for task in everything:
        if not task.cancelled() and (problem := task.exception()) is not None:
            raise problem


async def _watch(operator: Operator, resync: Resync, process: Process) -> None:
    """Kopf's part: logins and watch streams. It ends when the process is asked to stop."""
    registry = kopf.OperatorRegistry()
    Watch(operator, resync).register(registry)
    settings = kopf.OperatorSettings()
    settings.persistence.diffbase_storage = NoDiffBase()
    settings.persistence.progress_storage = NoProgress()
    settings.scanning.disabled = True
    settings.networking.error_backoffs = [0.2, 0.5, 1, 2, 2, 2, 2, 2]
    settings.networking.request_timeout = 30
    settings.watching.server_timeout = 300
    settings.watching.client_timeout = 330
    settings.queueing.idle_timeout = 0.5
    await run_kopf(process, registry, settings)


def main() -> int:
    """Run the operator; returns the exit code."""
    return run_process("operator", OperatorSettings, serve)


if __name__ == "__main__":
    sys.exit(main())
