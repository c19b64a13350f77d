"""The application of the gateway: its routes, and the door before them."""

from collections.abc import Sequence

from fastapi import FastAPI
from starlette.middleware.cors import CORSMiddleware
from starlette.types import ASGIApp

from orderplane.gateway import openapi
from orderplane.gateway.front_door import FrontDoor
from orderplane.gateway.http import cors
from orderplane.gateway.http.client_address import Networks
from orderplane.gateway.identity import auth_routes, client_routes, confirmation_routes, user_routes
from orderplane.gateway.inventory import reservation_routes, stock_routes
from orderplane.gateway.operations import routes as operation_routes
from orderplane.gateway.orders import refund_routes, repair_routes, watch_routes
from orderplane.gateway.orders import routes as order_routes
from orderplane.gateway.prices import routes as price_rule_routes
from orderplane.gateway.products import routes as product_routes
from orderplane.gateway.services import Services
from orderplane.gateway.traffic.load_shedding import OrderAdmission
from orderplane.gateway.traffic.rate_limits import Quotas, RateLimits
from orderplane.gateway.webhook_endpoints import delivery_routes
from orderplane.gateway.webhook_endpoints import routes as webhook_endpoint_routes


def declared_api(services: Services | None = None) -> FastAPI:
    """All routes, as FastAPI documents them and `FrontDoor` serves them. Without services they can only be
    documented.
    """
    api = FastAPI(
        **openapi.ABOUT,
        openapi_url=None,  # `openapi.serve_document` serves it
        docs_url=None,
        redoc_url=None,
        generate_unique_id_function=lambda route: route.name,
    )
    api.state.services = services
    for routes in (
        # /api/orders/watch comes before /api/orders/{order_id}.
        watch_routes, order_routes, refund_routes, repair_routes, product_routes, price_rule_routes,
        stock_routes, reservation_routes, operation_routes, webhook_endpoint_routes, delivery_routes,
        auth_routes, confirmation_routes, user_routes, client_routes,
    ):  # fmt: skip
        api.include_router(routes.router)
    openapi.serve_document(api)
    return api


def create_app(
    api: FastAPI,
    *,
    rate_limits: Quotas | None = None,
    trusted_proxies: Networks = (),
    cors_origins: Sequence[str] = (),
) -> ASGIApp:
    """Build the application that serves `api`, which was declared with services."""
    services: Services = api.state.services
    door = FrontDoor(
        api,
        trusted=trusted_proxies,
        rate_limits=RateLimits(rate_limits, services.counters) if rate_limits is not None else None,
        admission=OrderAdmission(services.load_shedding),
    )
    # Outermost: also a refusal must be readable for a script.
    return CORSMiddleware(door, allow_origins=cors_origins, **cors.RULES) if cors_origins else door
