"""The webhook's process: `python -m orderplane.webhook.main`.

Kopf serves the requests and reads renewed certificates; nothing is watched but the definitions of our
own kinds, so that it does not matter whether they are installed before or after this process starts.
"""

import asyncio
import logging
import sys
from collections.abc import AsyncIterator
from typing import Any

import asyncpg
import kopf
import stamina
import structlog

from orderplane.adapters.postgres.pool import open_pool
from orderplane.adapters.telemetry.http import serve_telemetry
from orderplane.adapters.telemetry.logs import set_up_logs
from orderplane.adapters.telemetry.traces import set_up_traces
from orderplane.ledgers.postgres.price_list import PostgresPriceList
from orderplane.ledgers.postgres.session import Pool
from orderplane.webhook.handlers import registry_of
from orderplane.webhook.settings import Settings, SettingsError

_CONNECTIONS = 4
_START_SECONDS = 30

log = structlog.get_logger(__name__)


async def run(settings: Settings) -> None:
    """Serve until SIGTERM or SIGINT.

    Raises:
        OSError, asyncpg.PostgresError: PostgreSQL cannot be reached within half a minute.
        Exception: the API server cannot be reached, or the port is taken.
    """
    pool = await _open_pool(settings.postgres_dsn)
    try:
        server = _Server(settings)
        async with serve_telemetry(settings.metrics_port, is_ready=lambda: server.is_serving):
            await kopf.operator(
                registry=registry_of(PostgresPriceList(pool)),
                settings=_kopf_settings(server),
                clusterwide=True,
                standalone=True,
            )
    finally:
        await asyncio.wait_for(pool.close(), 10)


class _Server:
    """Kopf's server, and whether it listens."""

    def __init__(self, settings: Settings) -> None:
        self._server = kopf.WebhookServer(
            addr=settings.host,
            port=settings.port,
            certfile=settings.certificate,
            pkeyfile=settings.key,
            cafile=settings.authority,
        )
        self.is_serving = False

    async def __call__(self, answer: kopf.WebhookFn) -> AsyncIterator[kopf.WebhookClientConfig]:
        try:
            async for configuration in self._server(answer):
                self.is_serving = True
                yield configuration
        finally:
            self.is_serving = False


def _kopf_settings(server: Any) -> kopf.OperatorSettings:
    settings = kopf.OperatorSettings()
    settings.admission.server = server
    # The configuration object is installed with the manifests; this process may not write it.
    settings.admission.managed = None
    settings.posting.enabled = False
    settings.networking.request_timeout = 10
    settings.networking.connect_timeout = 3
    settings.networking.error_backoffs = (0.2, 0.5, 1, 2)
    # A refusal is no error of ours; the handlers log it in one line, without Kopf's traceback.
    logging.getLogger("kopf.objects").setLevel(logging.CRITICAL)
    return settings


async def _open_pool(dsn: str) -> Pool:
    async for attempt in stamina.retry_context(
        on=(OSError, asyncpg.PostgresError), timeout=_START_SECONDS, attempts=None, wait_max=2
    ):
        with attempt:
            return await open_pool(dsn, size=_CONNECTIONS)
    raise AssertionError("stamina either gives a result or raises")


def main() -> None:
    """The process."""
    set_up_logs("webhook")
    set_up_traces("webhook")
    try:
        settings = Settings.from_environment()
    except SettingsError as problem:
        sys.exit(f"orderplane webhook: {problem}")
    asyncio.run(run(settings))


if __name__ == "__main__":
    main()
