"""OpenTelemetry: set-up, and the W3C traceparent that resources, rows and messages carry."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.sdk.trace.id_generator import RandomIdGenerator
from opentelemetry.sdk.trace.sampling import ParentBased, TraceIdRatioBased
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

_PROPAGATOR = TraceContextTextMapPropagator()
_IDS = RandomIdGenerator()


def set_up_traces(service: str, endpoint: str | None, ratio: float) -> None:
    """Make spans, and export them to a collector.

    Args:
        endpoint: Of the collector, OTLP over HTTP. Without it ids are still made and propagated, but no span
            is recorded. The exporter reads the same variable, `OTEL_EXPORTER_OTLP_ENDPOINT`, and the others
            of OpenTelemetry, by itself.
        ratio: The share of new traces that is recorded; a parent's decision always holds.
    """
    if endpoint is None:
        trace.set_tracer_provider(IdsOnly())
        return
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter  # noqa: PLC0415

    provider = TracerProvider(
        resource=Resource.create({"service.name": f"orderplane-{service}"}),
        sampler=ParentBased(TraceIdRatioBased(ratio)),
    )
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(timeout=5), max_queue_size=4096))
    trace.set_tracer_provider(provider)


class IdsOnly(trace.TracerProvider, trace.Tracer):
    """Makes spans that are ids and nothing else; the SDK's spans that are not recorded cost a multiple."""

    def get_tracer(self, *_: Any, **__: Any) -> trace.Tracer:
        return self

    def start_span(self, name: str, context: Context | None = None, *_: Any, **__: Any) -> trace.Span:
        parent = trace.get_current_span(context).get_span_context()
        return trace.NonRecordingSpan(
            trace.SpanContext(
                parent.trace_id if parent.is_valid else _IDS.generate_trace_id(),
                _IDS.generate_span_id(),
                is_remote=False,
                trace_flags=parent.trace_flags,
                trace_state=parent.trace_state,
            )
        )

    @contextmanager
    def start_as_current_span(  # type: ignore[override]  # theirs is also a decorator
        self, name: str, context: Context | None = None, *_: Any, **__: Any
    ) -> Iterator[trace.Span]:
        with trace.use_span(self.start_span(name, context), record_exception=False) as span:
            yield span


def context_from(traceparent: str | None) -> Context | None:
    """The context that a stored traceparent stands for; None where there is none."""
    return _PROPAGATOR.extract({"traceparent": traceparent}) if traceparent else None


def is_recorded(traceparent: str | None) -> bool:
    """Whether spans of this trace are recorded, by the last bit of the text: cheaper than `context_from`."""
    return traceparent is not None and traceparent[-1] in "13579bdf"


def current_traceparent() -> str | None:
    """The traceparent of the span that is running now (https://www.w3.org/TR/trace-context/)."""
    carrier: dict[str, str] = {}
    _PROPAGATOR.inject(carrier)
    return carrier.get("traceparent")
