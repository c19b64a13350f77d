"""The front door as an ASGI application."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import structlog
from fastapi import FastAPI

from orderplane.adapters.postgres.idempotency import PostgresIdempotency
from orderplane.controllers.errors import Transient
from orderplane.gateway import openapi, orders, products
from orderplane.gateway.handlers import add_handlers
from orderplane.gateway.limits import Limits
from orderplane.gateway.services import open_services
from orderplane.gateway.settings import Settings
from orderplane.gateway.telemetry import Telemetry

PURGE_SECONDS = 3600.0

log = structlog.get_logger(__name__)


def create_app(settings: Settings) -> FastAPI:
    """Build the application; its lifespan opens the database and the API server's client."""
    app = FastAPI(
        **openapi.ABOUT,
        lifespan=_lifespan,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
        generate_unique_id_function=lambda route: route.name,
    )
    app.state.settings = settings
    app.include_router(orders.router)
    app.include_router(products.router)
    app.openapi = lambda: openapi.document(app)  # type: ignore[method-assign]
    add_handlers(app)
    app.add_middleware(Limits)
    app.add_middleware(Telemetry)  # added last, so it is outermost
    return app


@asynccontextmanager
async def _lifespan(app: FastAPI) -> AsyncIterator[None]:
    async with open_services(app.state.settings) as services:
        app.state.services = services
        purging = asyncio.create_task(_purge(services.keys), name="purge-idempotency")
        try:
            yield
        finally:
            purging.cancel()
            with suppress(asyncio.CancelledError):
                await purging


async def _purge(keys: PostgresIdempotency) -> None:
    while True:
        await asyncio.sleep(PURGE_SECONDS)
        try:
            dropped = await keys.purge()
        except Transient as problem:
            log.warning("idempotency keys not purged", detail=problem.message)
        else:
            log.info("idempotency keys purged", dropped=dropped)
