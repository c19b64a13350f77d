"""The ASGI application of the gateway: its routes, exception handlers and middleware."""

from collections.abc import Sequence

from fastapi import Depends, FastAPI
from starlette.middleware.cors import CORSMiddleware

from orderplane.gateway import openapi
from orderplane.gateway.http import cors
from orderplane.gateway.http.client_address import Networks
from orderplane.gateway.http.exception_handlers import add_handlers
from orderplane.gateway.http.head import HeadMiddleware
from orderplane.gateway.http.query import check_query
from orderplane.gateway.http.request_limits import RequestLimitsMiddleware
from orderplane.gateway.http.telemetry import TelemetryMiddleware
from orderplane.gateway.identity import auth_routes, confirmation_routes, user_routes
from orderplane.gateway.inventory import reservation_routes, stock_routes
from orderplane.gateway.orders import routes as order_routes
from orderplane.gateway.products import routes as product_routes
from orderplane.gateway.services import Services
from orderplane.gateway.traffic.load_shedding import OrderAdmissionMiddleware
from orderplane.gateway.traffic.rate_limits import Quotas, RateLimitMiddleware


def create_app(
    services: Services | None = None,
    *,
    rate_limits: Quotas | None = None,
    trusted_proxies: Networks = (),
    cors_origins: Sequence[str] = (),
) -> FastAPI:
    """Build the application. Without services it can only describe itself as OpenAPI."""
    app = FastAPI(
        **openapi.ABOUT,
        openapi_url=None,  # `openapi.serve_document` serves it
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
        dependencies=[Depends(check_query)],
        generate_unique_id_function=lambda route: route.name,
        # `TelemetryMiddleware` makes the one span per request, at less cost.
        telemetry={"tracing": False, "metrics": False, "logs": False, "auto_configure": False},
    )
    app.state.services = services
    for routes in (
        order_routes, product_routes, stock_routes, reservation_routes, auth_routes, confirmation_routes,
        user_routes,
    ):  # fmt: skip
        app.include_router(routes.router)
    openapi.serve_document(app)
    add_handlers(app)
    app.add_middleware(HeadMiddleware)
    if services is not None:
        app.add_middleware(OrderAdmissionMiddleware, load_shedding=services.load_shedding)
    app.add_middleware(RequestLimitsMiddleware, trusted=trusted_proxies)
    if services is not None and rate_limits is not None:
        app.add_middleware(
            RateLimitMiddleware,
            quotas=rate_limits,
            counters=services.counters,
            trusted=trusted_proxies,
        )
    app.add_middleware(TelemetryMiddleware)
    if cors_origins:
        # Added last, so it is outermost: also a refusal must be readable for a script.
        app.add_middleware(CORSMiddleware, allow_origins=cors_origins, **cors.RULES)
    return app
