"""One reading of a request's path: the route that serves it.

Rate limits, load shedding and metrics ask for the route and do not look at the path themselves. So no
spelling of a path can be served as one route and counted as another.
"""

import re
from collections import defaultdict
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any

from starlette.responses import Response
from starlette.types import Scope

METHODS = ("DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT")

_CANONICAL = re.compile(rb"/|(?:/\.well-known)?(?:/[A-Za-z0-9_~-][A-Za-z0-9._~-]*)+")


@dataclass(frozen=True, slots=True)
class Route:
    """A route: the template of its path, and what answers a call."""

    template: str
    path: re.Pattern[str]
    methods: frozenset[str]
    answer: Callable[[Any], Awaitable[Response]]


class Routes:
    """All routes, in the order in which they are tried."""

    def __init__(self, routes: Sequence[Route]) -> None:
        self._routes = routes
        # A parameter is one segment: most routes cannot serve a path because of its length.
        self._candidates: defaultdict[tuple[str, int], list[Route]] = defaultdict(list)
        for route in routes:
            for method in route.methods:
                self._candidates[method, route.template.count("/")].append(route)

    def find(self, method: str, path: str) -> tuple[Route, dict[str, str]] | None:
        """The route that serves a path, and its parameters; None if there is none, or none for the method."""
        for route in self._candidates.get((method, path.count("/")), ()):
            if match := route.path.match(path):
                return route, match.groupdict()
        return None

    def allowed_methods(self, path: str) -> list[str]:
        """The methods of all routes at this path.

        A concrete path comes before a template that also matches it (OpenAPI 3.1, 4.8.8).
        """
        here = [route for route in self._routes if route.template == path]
        here = here or [route for route in self._routes if route.path.match(path)]
        return [method for method in METHODS if any(method in route.methods for route in here)]


def is_canonical(scope: Scope) -> bool:
    """Whether the path is written in the one way that is served.

    No id that there is needs percent-encoding, so `%` is refused. So are empty segments, a slash at the end,
    and segments that begin with a dot; `.well-known` (RFC 8615) is the exception.
    """
    path: bytes = scope.get("raw_path") or scope["path"].encode()
    return _CANONICAL.fullmatch(path) is not None
