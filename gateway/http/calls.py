"""One request, with what several layers need of it."""

from starlette.requests import Request
from starlette.types import Receive, Scope

from orderplane.gateway.http.client_address import Subscribers
from orderplane.gateway.http.routes import Route, Routes, is_canonical


class Call(Request):
    """One request, read once.

    `fields` has the first value of each header field. `route` serves it; None if there is none, or none for
    its method. `subscriber` is whom it counts for. `content` is its body, once that has arrived.
    """

    def __init__(self, scope: Scope, receive: Receive, routes: Routes, subscribers: Subscribers) -> None:
        super().__init__(scope, receive)
        self.fields: dict[bytes, bytes] = dict(reversed(scope["headers"]))
        if self.fields.pop(b"cookie", None) is not None:
            # This API has none, and Python's parser takes seconds for some of a few kB (CVE-2024-7592).
            scope["headers"] = [header for header in scope["headers"] if header[0] != b"cookie"]
        self.is_canonical = is_canonical(scope)
        self.route: Route | None = None
        if self.is_canonical and (found := routes.find(scope["method"], scope["path"])):
            self.route, scope["path_params"] = found
        self.subscriber = subscribers.of(self)
        self.has_body = b"content-length" in self.fields or b"transfer-encoding" in self.fields
        self.is_body_refused = False
        self.content = b""

    @property
    def template(self) -> str | None:
        """The template of the route's path; None if there is no route."""
        return self.route.template if self.route is not None else None

    async def body(self) -> bytes:
        """`content`."""
        return self.content
