"""The product's own processes as components, configured by environment alone."""

import sys
from collections.abc import Mapping
from pathlib import Path

from orderplane.dev.localplane.infrastructure import answers
from orderplane.dev.localplane.supervisor import Component

MODULES = {
    "payments": "orderplane.dev.sandbox.payments",
    "carrier": "orderplane.dev.sandbox.carrier",
    "mail": "orderplane.dev.sandbox.mail",
    "sms": "orderplane.dev.sandbox.sms",
    "webhook": "orderplane.webhook.main",
    "operator": "orderplane.operator.main",
    "relay": "orderplane.workers.relay.main",
    "notifier": "orderplane.workers.notifier.main",
    "gateway": "orderplane.gateway.main",
}
"""In the order in which they are started."""

UNLIMITED = {"ORDERPLANE_RATE_LIMITS": "off", "ORDERPLANE_SHED_AFTER_SECONDS": "off"}
"""For a gateway where not the gateway is what is measured or tested."""

SANDBOXES = frozenset({"payments", "carrier", "mail", "sms"})


def process(
    name: str, env: Mapping[str, str], *, http_port: int, metrics_port: int, state: Path
) -> Component:
    """One process with its ports; a sandbox also gets a folder of its own."""
    own = {
        "ORDERPLANE_HTTP_PORT": str(http_port),
        "ORDERPLANE_METRICS_PORT": str(metrics_port),
        "ORDERPLANE_LOG_FORMAT": "json",
        "PYTHONUNBUFFERED": "1",
        # Each process is one thread of Python; BLAS and the like need not start more.
        "OMP_NUM_THREADS": "1",
    }
    if name in SANDBOXES:
        folder = state / name
        folder.mkdir(parents=True, exist_ok=True)
        own["ORDERPLANE_STATE_DIR"] = str(folder)
        url = f"http://127.0.0.1:{http_port}/_sandbox/health"
    else:
        url = f"http://127.0.0.1:{metrics_port}/readyz"
    return Component(name, (sys.executable, "-m", MODULES[name]), answers(url), env={**env, **own}, grace=15)
