"""The operator's process: `python -m orderplane.operator.main`."""

import asyncio
import contextlib
import sys
from contextlib import AsyncExitStack

import asyncpg
import kopf
import structlog
import uvloop

from orderplane.adapters.carriers.easypost import EasyPostCarrier
from orderplane.adapters.garbage import spare_what_stays
from orderplane.adapters.kubernetes.client import ApiClient
from orderplane.adapters.payments.stripe import StripeProvider
from orderplane.adapters.postgres.pool import open_pool
from orderplane.adapters.telemetry.http import serve_telemetry
from orderplane.adapters.telemetry.logs import set_up_logs
from orderplane.adapters.telemetry.traces import set_up_traces
from orderplane.crds.api_errors import ApiError
from orderplane.ledgers.errors import Transient
from orderplane.operator.ledger_news import follow_ledgers
from orderplane.operator.resync import EtcdRestored, Resync
from orderplane.operator.settings import Settings
from orderplane.operator.stateless import NoDiffBase, NoProgress
from orderplane.operator.watch import Watch
from orderplane.operator.wiring import Operator, build

log = structlog.get_logger(__name__)

DRAIN_SECONDS = 12.0
"""Longer than a provider call may take: what was begun is to be written down."""

CONNECTIONS = 12
"""To the API server: enough to keep it busy. With more at once nothing gets done sooner, and whoever else
asks waits behind them."""

POOL_SIZE = 16

_RECOVERABLE = (ApiError, Transient, OSError, asyncpg.PostgresError, asyncpg.InterfaceError)


async def run(settings: Settings) -> None:
    """Run until SIGTERM or SIGINT, then finish what is in hand.

    Raises:
        EtcdRestored: the caches are worth nothing; a new process has to begin.
    """
    async with AsyncExitStack() as stack:
        api = await stack.enter_async_context(
            await ApiClient.connect(user_agent="orderplane-operator", connections=CONNECTIONS)
        )
        pool = await _patiently(
            "PostgreSQL", lambda: open_pool(settings.postgres_dsn, size=POOL_SIZE, plans_once=True)
        )
        stack.push_async_callback(_close_pool, pool)
        payment_provider = await stack.enter_async_context(
            StripeProvider(
                settings.payments_key, settings.payments_url, timeout_seconds=settings.payments_seconds
            )
        )
        carrier = await stack.enter_async_context(
            EasyPostCarrier(
                settings.carrier_key,
                settings.carrier_url,
                timeout_seconds=settings.carrier_seconds,
                sender=settings.sender,
            )
        )
        operator = build(
            api,
            pool,
            payment_provider,
            carrier,
            kinds=settings.kinds,
            settle=settings.settle,
            first_poll=settings.first_poll,
            longest_poll=settings.longest_poll,
        )
        resync = Resync(operator, api)
        await stack.enter_async_context(
            serve_telemetry(settings.metrics_port, is_ready=lambda: resync.is_synced)
        )
        await _patiently("the API server", resync.resync)
        await _serve(operator, resync, settings)


async def _serve(operator: Operator, resync: Resync, settings: Settings) -> None:
    background = [
        asyncio.create_task(resync.run(), name="resync"),
        asyncio.create_task(follow_ledgers(settings.postgres_dsn, operator), name="ledgers"),
    ]
    background += [asyncio.create_task(go(), name=name) for name, go in operator.rounds.items()]
    workers = [
        asyncio.create_task(controller.run(), name=kind.value)
        for kind, controller in operator.controllers.items()
    ]
    streams = asyncio.create_task(_stream(Watch(operator, resync)), name="kopf")
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


async def _stream(watch: Watch) -> None:
    """Kopf's part: logins, watch streams, signals."""
    registry = kopf.OperatorRegistry()
    kopf.on.login(registry=registry, id="login")(kopf.login_via_client)
    watch.register(registry)
    settings = kopf.OperatorSettings()
    settings.persistence.diffbase_storage = NoDiffBase()
    settings.persistence.progress_storage = NoProgress()
    settings.posting.enabled = False
    settings.scanning.disabled = True
    settings.networking.error_backoffs = [0.2, 0.5, 1, 2, 2, 2, 2, 2]
    settings.networking.request_timeout = 30
    settings.watching.server_timeout = 300
    settings.watching.client_timeout = 330
    settings.queueing.idle_timeout = 0.5
    settings.process.ultimate_exiting_timeout = None
    await kopf.operator(registry=registry, settings=settings, clusterwide=True, standalone=True)


async def _patiently(what: str, attempt: object) -> object:
    pause = 0.2
    while True:
        try:
            return await attempt()  # type: ignore[operator]
        except _RECOVERABLE as problem:
            log.warning("cannot reach", what=what, why=str(problem))
            await asyncio.sleep(pause)
            pause = min(5.0, pause * 2)


async def _close_pool(pool: object) -> None:
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(5):
            await pool.close()  # type: ignore[attr-defined]


def main() -> int:
    """Run the operator; 1 where it has to be started afresh."""
    set_up_logs("operator")
    set_up_traces("operator")
    spare_what_stays()
    try:
        uvloop.run(run(Settings.from_env()))
    except EtcdRestored as problem:
        log.error("start afresh", why=str(problem))
        return 1
    except (KeyError, ValueError) as problem:
        log.error("wrong settings", why=repr(problem))
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
