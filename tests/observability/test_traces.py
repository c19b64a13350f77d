"""What the drill of traces finds in an answer of Jaeger."""

from orderplane.dev.monitoring.traces import WANTED, missing_of, orphans_of, spans_of, tree_of


def span(name: str, number: int, parent: int | None = None, process: str = "p1") -> dict[str, object]:
    references = [] if parent is None else [{"refType": "CHILD_OF", "spanID": f"{parent:016x}"}]
    return {
        "spanID": f"{number:016x}", "operationName": name, "references": references, "processID": process,
        "startTime": number * 1000, "duration": 5000,
    }  # fmt: skip


TRACE = {
    "processes": {"p1": {"serviceName": "orderplane-gateway"}, "p2": {"serviceName": "orderplane-relay"}},
    "spans": [span("publish order.created", 3, 2, "p2"), span("POST /api/orders", 1)],
}


def test_spans_are_in_the_order_of_time_with_their_process() -> None:
    assert spans_of(TRACE) == [("gateway", "POST /api/orders"), ("relay", "publish order.created")]


def test_the_tree_has_each_span_below_its_parent() -> None:
    whole = {**TRACE, "spans": [*TRACE["spans"], span("reconcile order", 2, 1)]}
    assert tree_of(whole) == [
        "       0      5  gateway   POST /api/orders",
        "       1      5  gateway     reconcile order",
        "       2      5  relay         publish order.created",
    ]
    assert [line.split()[-1] for line in tree_of(TRACE)] == ["/api/orders", "order.created"]


def test_a_span_whose_parent_is_elsewhere_is_an_orphan() -> None:
    assert orphans_of(TRACE) == ["publish order.created"]
    assert orphans_of({**TRACE, "spans": [*TRACE["spans"], span("reconcile", 2, 1)]}) == []


def test_what_is_missing_is_named() -> None:
    assert missing_of(WANTED) == []
    assert missing_of(WANTED[1:]) == ["gateway: POST /api/orders"]
