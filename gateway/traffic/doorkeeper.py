"""While new orders are sent away, few of them are looked at, and the others not even that.

To find out who is asking, and whether it is a repeat of something that was answered, takes as long as many a
read. In a rush that work alone would make everybody wait. Pure ASGI: it runs before anything is parsed.
"""

from starlette.types import ASGIApp, Receive, Scope, Send

from orderplane.gateway.http.problems import Problem, response_of
from orderplane.gateway.traffic.quotas import RouteClass, class_of
from orderplane.gateway.traffic.shedding import Shedding

MOST_LOOKED_AT = 3
"""New orders and repeats of old ones that are being answered, while the door is shut for the new ones."""


class OrderAdmissionMiddleware:
    """Counts who is placing an order, and sends away (503) who would have to be sent away anyhow."""

    def __init__(self, app: ASGIApp, *, shedding: Shedding, most: int = MOST_LOOKED_AT) -> None:
        self._app = app
        self._shedding = shedding
        self._most = most
        self._inside = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or class_of(scope["method"], scope["path"]) is not RouteClass.ORDERS:
            await self._app(scope, receive, send)
            return
        if self._inside >= self._most:
            try:
                self._shedding.check()
            except Problem as problem:
                await response_of(problem)(scope, receive, send)
                return
        self._inside += 1
        try:
            await self._app(scope, receive, send)
        finally:
            self._inside -= 1
