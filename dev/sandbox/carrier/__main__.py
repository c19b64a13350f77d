"""`python -m orderplane.dev.sandbox.carrier`"""

import sys

from orderplane.dev.sandbox.carrier.app import build
from orderplane.dev.sandbox.carrier.shipments import Timing
from orderplane.dev.sandbox.exchange import Surface
from orderplane.dev.sandbox.process import run, seconds
from orderplane.dev.sandbox.store import Store


def _build(key: str, store: Store) -> Surface:
    return build(
        key,
        store,
        Timing(
            transit=seconds("ORDERPLANE_SANDBOX_TRANSIT_SECONDS", 2.0),
            delivery=seconds("ORDERPLANE_SANDBOX_DELIVERY_SECONDS", 2.0),
            refund=seconds("ORDERPLANE_SANDBOX_REFUND_SECONDS", 2.0),
        ),
    )


sys.exit(run("carrier", "ORDERPLANE_CARRIER_KEY", _build))
