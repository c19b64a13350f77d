"""One reading of a request's path: the route that serves it.

Rate limits, load shedding and metrics ask here and do not look at the path themselves. So no spelling of a
path can be served as one route and counted as another.
"""

import re
from dataclasses import dataclass

from fastapi import FastAPI
from fastapi.routing import iter_route_contexts
from starlette.types import Scope

METHODS = ("DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT")

_CANONICAL = re.compile(r"/|(/[A-Za-z0-9_~-][A-Za-z0-9._~-]*)+")
_SCOPE_KEY = "orderplane.served_route"


@dataclass(frozen=True, slots=True)
class _Route:
    template: str
    path: re.Pattern[str]
    methods: frozenset[str]


def is_canonical(scope: Scope) -> bool:
    """Whether the path is written in the one way that is served.

    No id that there is needs percent-encoding, so `%` is refused. So are empty segments, a slash at the end,
    and segments that begin with a dot; `.well-known` (RFC 8615) is the exception.
    """
    path: bytes = scope.get("raw_path") or scope["path"].encode()
    text = path.decode("latin-1").removeprefix("/.well-known")
    return _CANONICAL.fullmatch(text) is not None


def served_route(scope: Scope) -> str | None:
    """The template of the route that serves the request; None if there is none, or none for its method.

    It is found once, by the patterns of the router.
    """
    if _SCOPE_KEY not in scope:
        scope[_SCOPE_KEY] = _find(scope) if is_canonical(scope) else None
    template: str | None = scope[_SCOPE_KEY]
    return template


def allowed_methods(app: FastAPI, path: str) -> list[str]:
    """The methods of all routes at this path; Starlette itself names only those of the first one.

    A concrete path comes before a template that also matches it (OpenAPI 3.1, 4.8.8).
    """
    routes = _routes_of(app)
    here = [route for route in routes if route.template == path]
    here = here or [route for route in routes if route.path.match(path)]
    return [method for method in METHODS if any(method in route.methods for route in here)]


def _find(scope: Scope) -> str | None:
    path, method = scope["path"], scope["method"]
    for route in _routes_of(scope["app"]):
        if method in route.methods and route.path.match(path):
            return route.template
    return None


def _routes_of(app: FastAPI) -> tuple[_Route, ...]:
    """The routes in the order in which the router tries them."""
    known: tuple[_Route, ...] | None = getattr(app.state, "served_routes", None)
    if known is None:
        known = tuple(
            _Route(context.path or "", context.path_regex, _with_head(context.methods or set()))
            for context in iter_route_contexts(app.router.routes)
        )
        app.state.served_routes = known
    return known


def _with_head(methods: set[str]) -> frozenset[str]:
    """`HeadMiddleware` serves HEAD where there is GET."""
    return frozenset(methods | {"HEAD"} if "GET" in methods else methods)
