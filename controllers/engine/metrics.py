"""What the engine tells Prometheus."""

from prometheus_client import Counter, Gauge, Histogram

QUEUE_DEPTH = Gauge("orderplane_queue_depth", "Keys that wait.", ["kind", "queue"])
RECONCILES = Counter("orderplane_reconciles_total", "Reconciles by how they ended.", ["kind", "result"])
RECONCILE_SECONDS = Histogram(
    "orderplane_reconcile_duration_seconds",
    "How long one reconcile takes.",
    ["kind"],
    buckets=(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30),
)
REPORTS = Counter("orderplane_reports_total", "Status reports by how they ended.", ["kind", "result"])
STALLED_KEYS = Gauge("orderplane_stalled_keys", "Keys that wait for somebody to look at them.", ["kind"])
CACHED_OBJECTS = Gauge("orderplane_cached_objects", "Objects that this process knows.", ["kind"])
