"""Query parameters that a route does not know are refused, as unknown members of a body are.

Else a filter that is misspelt, or that belongs to another route, would give everything instead of nothing.
"""

import re
from collections import Counter
from collections.abc import Sequence

from starlette.datastructures import QueryParams

from orderplane.gateway.http.problems import Problem

_PLAIN_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_-]{0,40}")


def check_query(query: QueryParams, known: Sequence[str]) -> None:
    """Require that each parameter of the query is `known`, and that each is there once.

    Raises:
        Problem: `validation_failed`; it names the parameters that the route has.
    """
    given = Counter(name for name, _ in query.multi_items())
    unknown = f"There is no such parameter here. {_listed(known)}"
    places = [
        {"parameter": _name(name), "detail": "It is given twice." if name in known else unknown}
        for name, count in given.items()
        if name not in known or count > 1
    ]
    if places:
        raise Problem("validation_failed", "Correct the parameters in `errors`.", errors=places[:20])


def _listed(known: Sequence[str]) -> str:
    return f"There are: {', '.join(known)}." if known else "There are none."


def _name(name: str) -> str:
    """The name, unless it is none that a parameter could have: problems do not repeat text of a client."""
    return name if _PLAIN_NAME.fullmatch(name) else "?"
