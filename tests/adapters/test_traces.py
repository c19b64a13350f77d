"""Without a collector spans are ids: they are made and propagated, and cost next to nothing."""

from opentelemetry import trace

from orderplane.adapters.telemetry.traces import IdsOnly, context_from, current_traceparent

PARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


def test_a_span_belongs_to_the_trace_of_its_parent() -> None:
    tracer = IdsOnly().get_tracer("test")
    with tracer.start_as_current_span("outer", context=context_from(PARENT), kind=trace.SpanKind.SERVER):
        outer = current_traceparent()
        with tracer.start_as_current_span("inner"):
            inner = current_traceparent()
    assert current_traceparent() is None
    assert outer is not None
    assert inner is not None
    assert len({PARENT, outer, inner}) == 3
    for traceparent in (outer, inner):
        assert traceparent.startswith(PARENT[:36]), "the same trace"
        assert traceparent.endswith("-01"), "who records the parent records the child"


def test_without_a_parent_a_trace_begins_that_nobody_records() -> None:
    tracer = IdsOnly().get_tracer("test")
    spans = [tracer.start_span("alone") for _ in range(2)]
    contexts = [span.get_span_context() for span in spans]
    assert all(context.is_valid and not context.trace_flags.sampled for context in contexts)
    assert contexts[0].trace_id != contexts[1].trace_id
    assert not any(span.is_recording() for span in spans)
