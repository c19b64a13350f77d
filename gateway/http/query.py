"""Query parameters that a route does not know are refused, as unknown members of a body are.

Else a filter that is misspelt, or that belongs to another route, would give everything instead of nothing.
"""

import re
from collections import Counter

from fastapi import Request
from fastapi.routing import APIRoute

from orderplane.gateway.http.problems import Problem

_PLAIN_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_-]{0,40}")


async def check_query(request: Request) -> None:
    """Require that the route has each parameter of the query, and that each is there once.

    Raises:
        Problem: `validation_failed`; it names the parameters that the route has.
    """
    given = Counter(name for name, _ in request.query_params.multi_items())
    if not given:
        return
    route = request.scope["route"]
    assert isinstance(route, APIRoute)
    known = sorted(field.alias for field in route.dependant.query_params)
    unknown = f"There is no such parameter here. {_listed(known)}"
    places = [
        {"parameter": _name(name), "detail": "It is given twice." if name in known else unknown}
        for name, count in given.items()
        if name not in known or count > 1
    ]
    if places:
        raise Problem("validation_failed", "Correct the parameters in `errors`.", errors=places[:20])


def _listed(known: list[str]) -> str:
    return f"There are: {', '.join(known)}." if known else "There are none."


def _name(name: str) -> str:
    """The name, unless it is none that a parameter could have: problems do not repeat text of a client."""
    return name if _PLAIN_NAME.fullmatch(name) else "?"
