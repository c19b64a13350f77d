"""One span and three metrics per request."""

import time
from functools import lru_cache

from opentelemetry import context, trace
from prometheus_client import Counter, Gauge, Histogram

from orderplane.adapters.telemetry.traces import context_from
from orderplane.gateway.http.calls import Call
from orderplane.gateway.http.routes import METHODS

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

_CLIENT_CLOSED_REQUEST = 499

_tracer = trace.get_tracer("orderplane.gateway")


class Observation:
    """A request that is being answered. `code` is that of the answer, once there is one."""

    __slots__ = ("_call", "_context", "_method", "_span", "_started_at", "code")

    def __init__(self, call: Call) -> None:
        self.code = _CLIENT_CLOSED_REQUEST
        self._call = call
        self._method = method if (method := call.scope["method"]) in METHODS else "OTHER"
        self._started_at = time.perf_counter()
        IN_FLIGHT.inc()
        parent = call.fields.get(b"traceparent")
        self._span = _tracer.start_span(
            self._method,
            context=context_from(parent.decode("latin-1")) if parent else None,
            kind=trace.SpanKind.SERVER,
        )
        self._context = context.attach(trace.set_span_in_context(self._span))

    def end(self) -> None:
        """Count it, and end its span."""
        # The template: the path itself would give the metrics an unbounded number of label values.
        route = self._call.template or "none"
        IN_FLIGHT.dec()
        requests, duration = _metrics(self._method, route, self.code)
        requests.inc()
        duration.observe(time.perf_counter() - self._started_at)
        if self._span.is_recording():
            self._span.update_name(f"{self._method} {route}")
            self._span.set_attributes(
                {
                    "http.request.method": self._method,
                    "http.route": route,
                    "http.response.status_code": self.code,
                }
            )
            if self.code >= 500:
                self._span.set_status(trace.StatusCode.ERROR)
        self._span.end()
        context.detach(self._context)


@lru_cache(maxsize=4096)
def _metrics(method: str, route: str, code: int) -> tuple[Counter, Histogram]:
    """To look them up costs as much as to count."""
    return REQUESTS.labels(method, route, str(code)), DURATION.labels(method, route)
