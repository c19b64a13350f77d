"""`python -m orderplane.gateway.main`: the gateway as a process."""

import asyncio
import socket
import sys

import uvicorn

from orderplane.adapters.halves import Half
from orderplane.adapters.http_server import Server
from orderplane.adapters.process import Process, run_process
from orderplane.gateway import openapi
from orderplane.gateway.app import create_app, declared_api
from orderplane.gateway.http.connections import protocol_for
from orderplane.gateway.services import open_services
from orderplane.gateway.settings import GatewaySettings

DRAIN_SECONDS = 15
BACKLOG = 512


async def serve(settings: GatewaySettings, process: Process) -> None:
    """Serve requests until the process is asked to stop; then end those that are under way."""
    async with (
        open_services(settings, process) as services,
        process.halves.running(
            Half("watch backlog", services.load_shedding.watch),
            Half("watch orders", services.order_watch.run),
            Half("purge", services.retention.run),
        ),
    ):
        api = declared_api(services)
        openapi.document(api)  # takes 0.1 s; the first request for it would keep all others waiting
        app = create_app(
            api,
            rate_limits=settings.rate_limits,
            trusted_proxies=settings.trusted_proxies,
            cors_origins=settings.cors_origins,
        )
        server = Server(
            uvicorn.Config(
                app,
                host=settings.http_host,
                port=settings.http_port,
                http=protocol_for(settings.trusted_proxies),
                ws="none",
                lifespan="off",
                access_log=False,
                log_config=None,
                server_header=False,
                proxy_headers=False,
                backlog=BACKLOG,
                timeout_keep_alive=30,
                timeout_graceful_shutdown=DRAIN_SECONDS,
            )
        )
        process.serving(
            lambda: server.started,
            address=f"http://{settings.http_host}:{settings.http_port}",
            merchant=settings.merchant,
        )
        leaving = server.exit_when(process.stopping, settings.leave_seconds, services.order_streams.leave)
        stop = asyncio.create_task(leaving, name="stop")
        try:
            await server.serve([_shared_socket(settings)] if settings.http_reuse_port else None)
        finally:
            stop.cancel()


def _shared_socket(settings: GatewaySettings) -> socket.socket:
    """A socket on a port where those of other gateways may listen, too.

    Raises:
        OSError: a process that does not share its port, or one of another user, listens there.
    """
    family = socket.AF_INET6 if ":" in settings.http_host else socket.AF_INET
    address = (settings.http_host, settings.http_port)
    return socket.create_server(address, family=family, backlog=BACKLOG, reuse_port=True)


def main() -> int:
    """Run the gateway; returns the exit code."""
    return run_process("gateway", GatewaySettings, serve)


if __name__ == "__main__":
    sys.exit(main())
