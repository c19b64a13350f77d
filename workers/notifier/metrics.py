"""What the notifier counts."""

from prometheus_client import Counter, Gauge

NOTIFICATIONS = Counter(
    "orderplane_notifications_total",
    "Messages by how they ended: sent, superseded, skipped or dead.",
    ["channel", "type", "result"],
)
ATTEMPTS_FAILED = Counter(
    "orderplane_notifier_attempts_failed_total",
    "Attempts that did not end a message, by why: it waits, or is looked into.",
    ["channel", "reason"],
)
WAITING = Gauge("orderplane_notifications_waiting", "Messages that were not sent yet.", ["channel"])
OLDEST = Gauge(
    "orderplane_notifications_oldest_age_seconds", "How long the oldest of them waits.", ["channel"]
)
DEAD_LETTERS = Counter("orderplane_dead_letters_total", "Records put into the dead-letter topic.", ["reason"])
LAG = Gauge("orderplane_notifier_lag_records", "Records that were not read yet.", ["topic"])
FAILURES = Counter("orderplane_notifier_failures_total", "What was lost and waited for.", ["reason"])
