"""Exceptions to problems: the one place where failures of the layers below become responses."""

import structlog
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.responses import Response

from orderplane.crds.api_errors import (
    ApiError,
    Conflict,
    NamespaceTerminating,
    Overloaded,
    Unauthorized,
    Unavailable,
)
from orderplane.gateway.http.problems import Problem, problem_response, unavailable
from orderplane.gateway.http.served_route import allowed_methods
from orderplane.ledgers.errors import Transient

AUTHORIZE_SECONDS = 5.0
"""A server that has just started knows its roles by then; else somebody has to grant them."""

log = structlog.get_logger(__name__)


def add_handlers(app: FastAPI) -> None:
    """Answer every exception of `app` with a problem document."""
    app.add_exception_handler(Problem, _problem)
    app.add_exception_handler(Transient, _transient)
    app.add_exception_handler(ApiError, _api_error)
    app.add_exception_handler(HTTPException, _http_exception)
    app.add_exception_handler(RequestValidationError, _query_error)


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
    return Problem("internal_error", "It was logged. Quote `traceId` when you ask about it.")


async def _problem(_: Request, error: Exception) -> Response:
    assert isinstance(error, Problem)
    return problem_response(error)


async def _transient(_: Request, error: Exception) -> Response:
    assert isinstance(error, Transient)
    log.warning("dependency unavailable", reason=error.reason, detail=error.message)
    return problem_response(
        unavailable("The database did not answer. Repeat the request.", error.retry_after)
    )


async def _api_error(_: Request, error: Exception) -> Response:
    assert isinstance(error, ApiError)
    problem = problem_of(error)
    if problem.type.status >= 500:
        log.warning("API server refused", status=error.status, reason=error.reason, detail=error.message)
    return problem_response(problem)


async def _http_exception(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    if error.status_code == 404:
        return problem_response(Problem("route_not_found", "See /openapi.json for what there is."))
    if error.status_code == 405:
        allow = ", ".join(allowed_methods(request.app, request.scope["path"]))
        return problem_response(Problem("method_not_allowed", f"Use {allow}.", headers={"Allow": allow}))
    return problem_response(Problem("bad_request", "See /openapi.json for what this address takes."))


async def _query_error(_: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    errors = [
        {"parameter": str(detail["loc"][-1]), "detail": str(detail["msg"])} for detail in error.errors()
    ]
    return problem_response(
        Problem("validation_failed", "Correct the parameters in `errors`.", errors=errors)
    )
