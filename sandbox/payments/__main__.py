"""`python -m orderplane.sandbox.payments`"""

import sys

from orderplane.sandbox.exchange import Surface
from orderplane.sandbox.payments.app import build
from orderplane.sandbox.process import run, seconds
from orderplane.sandbox.store import Store


def _build(key: str, store: Store) -> Surface:
    return build(
        key,
        store,
        slow_seconds=seconds("ORDERPLANE_SANDBOX_SLOW_SECONDS", 2.0),
        keep=seconds("ORDERPLANE_SANDBOX_KEY_TTL_SECONDS", 86_400.0),
    )


sys.exit(run("payments", "ORDERPLANE_PAYMENTS_KEY", _build))
