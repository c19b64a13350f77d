"""OpenTelemetry: set-up, and the W3C traceparent that rides on resources, rows and messages."""

import os

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.sdk.trace.sampling import ParentBased, TraceIdRatioBased
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

_PROPAGATOR = TraceContextTextMapPropagator()


def set_up_traces(service: str) -> None:
    """Make spans real, and export them where `OTEL_EXPORTER_OTLP_ENDPOINT` (the standard variable) says.

    Without an endpoint, ids are still made and handed on, but no span is recorded. `ORDERPLANE_TRACE_RATIO`
    (default 1.0) is the share of new traces that is recorded; a parent's decision always holds.
    """
    endpoint = os.environ.get("OTEL_EXPORTER_OTLP_ENDPOINT")
    ratio = float(os.environ.get("ORDERPLANE_TRACE_RATIO", "1.0")) if endpoint else 0.0
    provider = TracerProvider(
        resource=Resource.create({"service.name": f"orderplane-{service}"}),
        sampler=ParentBased(TraceIdRatioBased(ratio)),
    )
    if endpoint:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter  # noqa: PLC0415

        provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(timeout=5), max_queue_size=4096))
    trace.set_tracer_provider(provider)


def context_from(traceparent: str | None) -> Context | None:
    """The context that a stored traceparent stands for; None where there is none."""
    return _PROPAGATOR.extract({"traceparent": traceparent}) if traceparent else None


def current_traceparent() -> str | None:
    """The traceparent of the span that is running now (https://www.w3.org/TR/trace-context/)."""
    carrier: dict[str, str] = {}
    _PROPAGATOR.inject(carrier)
    return carrier.get("traceparent")
