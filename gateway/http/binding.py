"""From the declaration of a route to the function that answers a call.

Routes are declared in the way of FastAPI, which documents them and says what each parameter is. What
FastAPI itself does for a request costs a multiple of all else, because it allows for what no route here
has: parameters of cookies and bodies, dependencies with a clean-up, functions that block, answers that are
made from a return type. So the parameters are looked up once, when the process starts. A route that
declares anything else ends the start with a message.
"""

from collections.abc import Awaitable, Callable, Iterator, Sequence
from inspect import iscoroutinefunction
from typing import Any, get_type_hints

from fastapi import FastAPI
from fastapi.dependencies.models import Dependant
from fastapi.dependencies.utils import request_params_to_args
from fastapi.exceptions import RequestValidationError
from fastapi.routing import iter_route_contexts
from starlette.responses import Response

from orderplane.gateway.http.calls import Call
from orderplane.gateway.http.query import check_query
from orderplane.gateway.http.routes import Route, Routes

Bound = Callable[[Call], Awaitable[Any]]

_UNKNOWN = (
    "cookie_params", "body_params", "websocket_param_name", "response_param_name",
    "background_tasks_param_name", "security_scopes_param_name", "concurrency",
)  # fmt: skip


class CannotBeServedError(TypeError):
    """A route declares what `bind` does not know, and FastAPI would do."""


def routes_of(api: FastAPI) -> Routes:
    """The routes that are declared.

    Raises:
        CannotBeServedError: one of them declares what is not known here.
    """
    return Routes(
        [
            Route(
                context.path or "",
                context.path_regex,
                # HEAD is served where GET is (RFC 9110, 9.3.2).
                frozenset(methods | {"HEAD"} if "GET" in (methods := context.methods or set()) else methods),
                _serve(context.dependant),
            )
            for context in iter_route_contexts(api.router.routes)
        ]
    )


def _serve(declared: Dependant) -> Bound:
    """As `bind`, for a route: its query is looked at first, and what it gives is the answer."""
    function = declared.call
    assert function is not None
    given = get_type_hints(function).get("return")
    if not (isinstance(given, type) and issubclass(given, Response)):
        raise CannotBeServedError(f"{function} does not return a Response")
    called = [part.call for part in _parts(declared)]
    if len(called) > len(set(called)):
        raise CannotBeServedError(f"{function} has a dependency twice, which would be called twice")
    answer = bind(declared)
    known = sorted(field.alias for field in declared.query_params)

    async def checked(call: Call) -> Any:
        if call.scope["query_string"]:
            check_query(call.query_params, known)
        return await answer(call)

    return checked


def _parts(declared: Dependant) -> Iterator[Dependant]:
    """All dependencies, and theirs."""
    for part in declared.dependencies:
        yield part
        yield from _parts(part)


def bind(declared: Dependant) -> Bound:
    """A function that takes a call, finds the parameters that are declared, and awaits the declared function.

    Dependencies come first, in their order, so without a token no value is looked at.

    Raises:
        CannotBeServedError: it has parameters of another kind, or blocks.
    """
    function = declared.call
    assert function is not None
    if not (iscoroutinefunction(function) or iscoroutinefunction(getattr(function, "__call__", None))):  # noqa: B004
        raise CannotBeServedError(f"{function} is not async")
    for kind in _UNKNOWN:
        if getattr(declared, kind):
            raise CannotBeServedError(f"{function} declares {kind}")
    if any(
        part.field_info.annotation is not str or part.field_info.metadata for part in declared.path_params
    ):
        raise CannotBeServedError(f"{function} declares a parameter of its path that is not any str")
    dependencies = [(part.name, bind(part)) for part in declared.dependencies]
    path = [(field.name, field.alias) for field in declared.path_params]
    query, headers = declared.query_params, declared.header_params
    header_names = [field.alias.lower().encode() for field in headers]
    defaults = {field.name: field.get_default() for field in (*query, *headers)}
    if any(field.field_info.is_required() for field in (*query, *headers)):
        raise CannotBeServedError(f"{function} requires a parameter")
    call_names = [name for name in (declared.request_param_name, declared.http_connection_param_name) if name]

    async def bound(call: Call) -> Any:
        values = defaults.copy()
        for name, dependency in dependencies:
            value = await dependency(call)
            if name is not None:
                values[name] = value
        errors: list[Any] = []
        if query and call.scope["query_string"]:
            _read(query, call.query_params, values, errors)
        for header_name in header_names:
            if header_name in call.fields:
                _read(headers, call.headers, values, errors)
                break
        if errors:
            raise RequestValidationError(errors)
        for name, alias in path:
            values[name] = call.scope["path_params"][alias]
        for name in call_names:
            values[name] = call
        return await function(**values)

    return bound


def _read(fields: Sequence[Any], given: Any, values: dict[str, Any], errors: list[Any]) -> None:
    found, wrong = request_params_to_args(fields, given)
    values.update(found)
    errors.extend(wrong)
