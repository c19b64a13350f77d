"""The port that Prometheus and probes ask: /metrics, /healthz, /readyz."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from aiohttp import web
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest


@asynccontextmanager
async def serve_telemetry(
    port: int, *, is_ready: Callable[[], bool], is_alive: Callable[[], bool] = lambda: True
) -> AsyncIterator[None]:
    """Serve on 127.0.0.1 (or `ORDERPLANE_METRICS_HOST`'s caller) while the block runs.

    Args:
        port: 0 takes a free one.
        is_ready: Whether work can be sent here; /readyz answers 503 while it says no.
        is_alive: Whether a restart would not help; /healthz answers 503 when it says no.

    Raises:
        OSError: the port is taken.
    """

    async def metrics(_: web.Request) -> web.Response:
        return web.Response(body=generate_latest(), headers={"Content-Type": CONTENT_TYPE_LATEST})

    def probe(check: Callable[[], bool]) -> Callable[[web.Request], object]:
        async def answer(_: web.Request) -> web.Response:
            return web.Response(text="ok\n") if check() else web.Response(text="not yet\n", status=503)

        return answer

    app = web.Application()
    app.router.add_get("/metrics", metrics)
    app.router.add_get("/readyz", probe(is_ready))  # type: ignore[arg-type]
    app.router.add_get("/healthz", probe(is_alive))  # type: ignore[arg-type]
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", port).start()
        yield
    finally:
        await runner.cleanup()
