"""Exceptions to problems: the one place where failures of the layers below become responses."""

import structlog
from fastapi.exceptions import RequestValidationError
from starlette.responses import Response

from orderplane.crds.api_errors import (
    ApiError,
    Conflict,
    NamespaceTerminating,
    Overloaded,
    Unauthorized,
    Unavailable,
)
from orderplane.gateway.http.calls import Call
from orderplane.gateway.http.problems import Problem, problem_response, unavailable
from orderplane.ledgers.errors import Transient

AUTHORIZE_SECONDS = 5.0
"""A server that has just started knows its roles by then; else somebody has to grant them."""

_LOGGED = "It was logged. Quote `traceId` when you ask about it."

log = structlog.get_logger(__name__)


def response_of(error: Exception, call: Call) -> Response:
    """The answer to a request whose route, or whose limit, has raised."""
    match error:
        case Problem():
            problem = error
        case Transient():
            log.warning("dependency unavailable", reason=error.reason, detail=error.message)
            problem = unavailable("The database did not answer. Repeat the request.", error.retry_after)
        case ApiError():
            problem = problem_of(error)
            if problem.type.status >= 500:
                log.warning(
                    "API server refused", status=error.status, reason=error.reason, detail=error.message
                )
        case RequestValidationError():
            errors = [
                {"parameter": str(detail["loc"][-1]), "detail": str(detail["msg"])}
                for detail in error.errors()
            ]
            problem = Problem("validation_failed", "Correct the parameters in `errors`.", errors=errors)
        case _:
            log.error("request failed", method=call.method, route=call.template or "none", exc_info=error)
            problem = Problem("internal_error", _LOGGED)
    return problem_response(problem)


def problem_of(error: ApiError) -> Problem:
    """The problem for an error of the API server that is not the client's fault."""
    if isinstance(error, Overloaded):
        return unavailable(
            "The API server sheds load. Repeat the request.", error.retry_after, code="overloaded"
        )
    if isinstance(error, Unavailable):
        return unavailable("The API server did not answer. Repeat the request.", error.retry_after)
    if isinstance(error, Unauthorized):
        return unavailable(
            "The API server does not let the gateway work yet. Repeat the request.", AUTHORIZE_SECONDS
        )
    if isinstance(error, NamespaceTerminating):
        return unavailable("This merchant is being closed; nothing new can be made.", 60)
    if isinstance(error, Conflict):
        return Problem("write_conflict", "It was changed at the same moment. Repeat the request.")
    return Problem("internal_error", _LOGGED)
