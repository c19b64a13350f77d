"""The application of the console: its pages, and what every request passes."""

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp

from orderplane.console import sign_in
from orderplane.console.context import Console, Observed, console_of
from orderplane.console.pages import accounts, actions, board, messages, order, orders, products, stock

_FOR_EVER = "public, max-age=31536000, immutable"


async def static_file(request: Request) -> Response:
    """A file that pages load. Its address has its hash."""
    found = console_of(request).static.find(request.path_params["digest"], request.path_params["name"])
    if found is None:
        raise HTTPException(404)
    content, media_type = found
    return Response(content, headers={"Cache-Control": _FOR_EVER}, media_type=media_type)


async def to_console(_: Request) -> Response:
    """The beginning."""
    return RedirectResponse("/console/", 308)


def create_app(console: Console) -> ASGIApp:
    """Build the application."""
    app = Starlette(
        routes=[
            Route("/", to_console),
            Route("/console", to_console),
            Route("/console/static/{digest}/{name}", static_file),
            *sign_in.ROUTES,
            *board.ROUTES,
            *orders.ROUTES,
            *order.ROUTES,
            *stock.ROUTES,
            *products.ROUTES,
            *messages.ROUTES,
            *accounts.ROUTES,
            *actions.ROUTES,
        ],
        exception_handlers={404: sign_in.not_found},
    )
    app.router.redirect_slashes = False
    app.state.console = console
    return Observed(app)
