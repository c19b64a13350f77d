"""The first page: how the orders go now, and in the last hour."""

from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from orderplane.console.charts import bar_chart
from orderplane.console.context import console_of, signed_in
from orderplane.console.sessions import Session
from orderplane.crds.order import OrderPhase


async def show(request: Request, session: Session) -> Response:
    """The page."""
    return console_of(request).page(request, session, "page/board.html", **await _seen(request, session))


async def live(request: Request, session: Session) -> Response:
    """The part of the page that changes."""
    return console_of(request).page(request, session, "part/board.html", **await _seen(request, session))


async def _seen(request: Request, session: Session) -> dict[str, Any]:
    overview = await session.client.operations.overview()
    minutes = overview["minutes"]
    return {
        "overview": overview,
        "phases": [(phase.value, overview["phases"].get(phase.value, 0)) for phase in OrderPhase],
        "charts": [
            bar_chart("Placed per minute", [(minute["at"][11:16], minute["placed"]) for minute in minutes]),
            bar_chart(
                "Finished per minute", [(minute["at"][11:16], minute["finished"]) for minute in minutes]
            ),
        ],
        "breakers": await console_of(request).open_breakers(),
    }


ROUTES = [
    Route("/console/", signed_in(show), methods=["GET"]),
    Route("/console/board", signed_in(live), methods=["GET"]),
]
