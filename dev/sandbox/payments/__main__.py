"""`python -m orderplane.dev.sandbox.payments`"""

import sys

from orderplane.dev.sandbox.exchange import Surface
from orderplane.dev.sandbox.payments.app import build
from orderplane.dev.sandbox.process import run, seconds
from orderplane.dev.sandbox.store import Store


def _build(key: str, store: Store) -> Surface:
    return build(
        key,
        store,
        slow_seconds=seconds("ORDERPLANE_SANDBOX_SLOW_SECONDS", 2.0),
        key_ttl_seconds=seconds("ORDERPLANE_SANDBOX_KEY_TTL_SECONDS", 86_400.0),
    )


sys.exit(run("payments", "ORDERPLANE_PAYMENTS_KEY", _build))
