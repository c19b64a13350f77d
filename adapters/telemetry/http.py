"""The port that Prometheus and probes ask: /metrics, /healthz, /readyz."""

from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager

import structlog
from aiohttp import web
from prometheus_client import REGISTRY
from prometheus_client.exposition import choose_encoder

log = structlog.get_logger(__name__)


@asynccontextmanager
async def serve_telemetry(
    host: str,
    port: int,
    *,
    why_not_ready: Callable[[], str | None],
    stuck: Callable[[], Mapping[str, float]],
) -> AsyncIterator[None]:
    """Serve while the block runs.

    Args:
        port: 0 takes a free one.
        why_not_ready: What keeps work from being sent here, None where nothing does. /readyz answers it with
            503.
        stuck: What makes no progress, with its seconds of silence. /healthz answers 503 and names it, so that
            the process is started again.

    Raises:
        OSError: the port is taken.
    """

    async def metrics(request: web.Request) -> web.Response:
        # OpenMetrics for those who ask for it: only that format has exemplars.
        encode, content_type = choose_encoder(request.headers.get("Accept", ""))
        return web.Response(body=encode(REGISTRY), headers={"Content-Type": content_type})

    async def readyz(_: web.Request) -> web.Response:
        why = why_not_ready()
        return web.Response(text="ok\n") if why is None else web.Response(text=f"{why}\n", status=503)

    async def healthz(_: web.Request) -> web.Response:
        silent = stuck()
        if not silent:
            return web.Response(text="ok\n")
        lines = [f"{name} has made no progress for {seconds:.0f} s" for name, seconds in silent.items()]
        log.error("not healthy", stuck=lines)
        return web.Response(text="\n".join(lines) + "\n", status=503)

    app = web.Application()
    app.router.add_get("/metrics", metrics)
    app.router.add_get("/readyz", readyz)
    app.router.add_get("/healthz", healthz)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    try:
        await web.TCPSite(runner, host, port).start()
        yield
    finally:
        await runner.cleanup()
