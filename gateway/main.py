"""`python -m orderplane.gateway.main`: the front door as a process. Configured by the environment alone."""

import asyncio
import signal
import sys

import structlog
import uvicorn
import uvloop

from orderplane.adapters.garbage import spare_what_stays
from orderplane.adapters.telemetry.http import serve_telemetry
from orderplane.adapters.telemetry.logs import set_up_logs
from orderplane.adapters.telemetry.traces import set_up_traces
from orderplane.gateway.app import create_app
from orderplane.gateway.background import running
from orderplane.gateway.http.request_limits import HeaderTimeoutProtocol
from orderplane.gateway.idempotency import purge
from orderplane.gateway.services import Services, StartError, open_services
from orderplane.gateway.settings import Settings, SettingsError

DRAIN_SECONDS = 15

log = structlog.get_logger(__name__)


def main() -> int:
    """Serve until SIGTERM or SIGINT; answers the exit code (1 not started, 2 wrong settings)."""
    set_up_logs("gateway")
    set_up_traces("gateway")
    try:
        settings = Settings.from_environment()
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(_serve(settings))
    except (SettingsError, StartError) as error:
        log.error("cannot start", reason=str(error))
        return 2 if isinstance(error, SettingsError) else 1
    return 0


async def _serve(settings: Settings) -> None:
    async with (
        open_services(settings) as services,
        running("purge-idempotency", purge(services.idempotency)),
        running("watch-backlog", services.load_shedding.watch()),
    ):
        server = _server(settings, services)
        spare_what_stays()
        ready = lambda: server.started and not server.should_exit  # noqa: E731
        async with serve_telemetry(settings.metrics_port, is_ready=ready):
            log.info(
                "serving",
                address=f"http://{settings.http_host}:{settings.http_port}",
                merchant=settings.merchant,
            )
            # uvicorn raises the signal again after its shutdown; by default that would end us before ours.
            for number in (signal.SIGINT, signal.SIGTERM):
                signal.signal(number, lambda *_: None)
            await server.serve()


def _server(settings: Settings, services: Services) -> uvicorn.Server:
    return uvicorn.Server(
        uvicorn.Config(
            create_app(settings, services),
            host=settings.http_host,
            port=settings.http_port,
            http=HeaderTimeoutProtocol,
            ws="none",
            lifespan="off",
            access_log=False,
            log_config=None,
            server_header=False,
            proxy_headers=False,
            backlog=512,
            timeout_keep_alive=30,
            timeout_graceful_shutdown=DRAIN_SECONDS,
            h11_max_incomplete_event_size=16 * 1024,
        )
    )


if __name__ == "__main__":
    sys.exit(main())
