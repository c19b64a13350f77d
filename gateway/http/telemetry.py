"""One span and three metrics per request, and the handler of last resort for exceptions."""

import time

import structlog
from opentelemetry import trace
from prometheus_client import Counter, Gauge, Histogram
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from orderplane.adapters.telemetry.traces import context_from
from orderplane.gateway.http.problems import Problem, problem_response
from orderplane.gateway.http.served_route import served_route

REQUESTS = Counter(
    "orderplane_http_requests_total",
    "Requests by method, route template and status code.",
    ["method", "route", "code"],
)
DURATION = Histogram(
    "orderplane_http_request_duration_seconds",
    "From the parsed request header to the end of the response.",
    ["method", "route"],
    buckets=(0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.2, 0.3, 0.5, 1.0, 2.5, 5.0, 10.0),
)
IN_FLIGHT = Gauge("orderplane_http_requests_in_flight", "Requests in progress.")

_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
_CLIENT_CLOSED_REQUEST = 499
_RESPONSE_HEADERS = [(b"x-content-type-options", b"nosniff")]

log = structlog.get_logger(__name__)
_tracer = trace.get_tracer("orderplane.gateway")


class TelemetryMiddleware:
    """The outermost middleware; plain ASGI, because it runs for every request."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        method = scope["method"] if scope["method"] in _METHODS else "OTHER"
        parent = next(
            (value.decode("latin-1") for name, value in scope["headers"] if name == b"traceparent"), None
        )
        code = _CLIENT_CLOSED_REQUEST

        async def send_observed(message: Message) -> None:
            nonlocal code
            if message["type"] == "http.response.start":
                code = message["status"]
                message["headers"] = [*message.get("headers", ()), *_RESPONSE_HEADERS]
            await send(message)

        started_at = time.perf_counter()
        IN_FLIGHT.inc()
        span = _tracer.start_span(method, context=context_from(parent), kind=trace.SpanKind.SERVER)
        try:
            with trace.use_span(span, record_exception=False):
                try:
                    await self._app(scope, receive, send_observed)
                except Exception:
                    log.exception("request failed", method=method, route=_route(scope))
                    if code != _CLIENT_CLOSED_REQUEST:
                        raise  # the response has begun: only closing the connection tells the client
                    problem = Problem(
                        "internal_error", "It was logged. Quote `traceId` when you ask about it."
                    )
                    await problem_response(problem)(scope, receive, send_observed)
        finally:
            route = _route(scope)
            IN_FLIGHT.dec()
            REQUESTS.labels(method, route, str(code)).inc()
            DURATION.labels(method, route).observe(time.perf_counter() - started_at)
            if span.is_recording():
                span.update_name(f"{method} {route}")
                span.set_attributes(
                    {"http.request.method": method, "http.route": route, "http.response.status_code": code}
                )
                if code >= 500:
                    span.set_status(trace.StatusCode.ERROR)
            span.end()


def _route(scope: Scope) -> str:
    """The route template; the path itself would give the metrics an unbounded number of label values."""
    return served_route(scope) or "none"
