"""The front door as an ASGI application: routes, errors and limits put together, without any process."""

from fastapi import FastAPI

from orderplane.gateway import openapi
from orderplane.gateway.http.bounds import Limits
from orderplane.gateway.http.handlers import add_handlers
from orderplane.gateway.http.telemetry import Telemetry
from orderplane.gateway.identity import auth, profile, users
from orderplane.gateway.inventory import reservations
from orderplane.gateway.inventory import routes as inventory
from orderplane.gateway.orders import routes as orders
from orderplane.gateway.products import routes as products
from orderplane.gateway.services import Services
from orderplane.gateway.settings import Settings
from orderplane.gateway.traffic.doorkeeper import OrderAdmissionMiddleware
from orderplane.gateway.traffic.rates import RateLimits


def create_app(settings: Settings, services: Services | None = None) -> FastAPI:
    """Build the application. Without services it can describe itself, and answer nothing."""
    app = FastAPI(
        **openapi.ABOUT,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
        generate_unique_id_function=lambda route: route.name,
        # One span per request is enough, and ours is the cheaper one.
        telemetry={"tracing": False, "metrics": False, "logs": False, "auto_configure": False},
    )
    app.state.settings = settings
    app.state.services = services
    app.include_router(orders.router)
    app.include_router(products.router)
    app.include_router(inventory.router)
    app.include_router(reservations.router)
    for router in (auth.router, profile.router, users.router):
        app.include_router(router)
    app.openapi = lambda: openapi.document(app)  # type: ignore[method-assign]
    add_handlers(app)
    app.add_middleware(Limits)
    if services is not None:
        app.add_middleware(OrderAdmissionMiddleware, shedding=services.shedding)
    if services is not None and settings.quotas is not None:
        app.add_middleware(
            RateLimits,
            quotas=settings.quotas,
            counters=services.counters,
            trusted=settings.trusted_proxies,
        )
    app.add_middleware(Telemetry)  # added last, so it is outermost
    return app
