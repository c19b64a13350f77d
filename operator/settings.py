"""What the operator is told by its environment."""

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta

from orderplane.crds.meta import Kind


@dataclass(frozen=True, slots=True)
class Settings:
    """See `from_env` for the variables."""

    postgres_dsn: str
    payments_url: str
    payments_key: str
    carrier_url: str
    carrier_key: str
    payments_seconds: float
    carrier_seconds: float
    sender: Mapping[str, str]
    metrics_port: int
    kinds: frozenset[Kind]
    settle: timedelta
    first_poll: timedelta
    longest_poll: timedelta

    @classmethod
    def from_env(cls, env: Mapping[str, str] = os.environ) -> "Settings":
        """Read `ORDERPLANE_*`.

        `ORDERPLANE_CONTROLLERS` is a list such as `order,payment`; without it all run.
        `ORDERPLANE_PAYMENTS_SECONDS` and `ORDERPLANE_CARRIER_SECONDS` (10) bound one call to a provider.
        `ORDERPLANE_CARRIER_SENDER` is where parcels come from, a JSON object of EasyPost's address fields.
        `ORDERPLANE_CARRIER_SETTLE_SECONDS` (30), `ORDERPLANE_TRACKING_FIRST_SECONDS` (60) and
        `ORDERPLANE_TRACKING_LONGEST_SECONDS` (3600) are the shipment controller's times.

        Raises:
            KeyError: a variable without a default is missing.
            ValueError: a number, an address or a controller's name is wrong.
        """
        names = [name.strip() for name in env.get("ORDERPLANE_CONTROLLERS", "").split(",") if name.strip()]

        def seconds(name: str, default: float) -> timedelta:
            return timedelta(seconds=float(env.get(name, default)))

        return cls(
            postgres_dsn=env["ORDERPLANE_POSTGRES_DSN"],
            payments_url=env["ORDERPLANE_PAYMENTS_URL"],
            payments_key=env["ORDERPLANE_PAYMENTS_KEY"],
            carrier_url=env["ORDERPLANE_CARRIER_URL"],
            carrier_key=env["ORDERPLANE_CARRIER_KEY"],
            payments_seconds=float(env.get("ORDERPLANE_PAYMENTS_SECONDS", "10")),
            carrier_seconds=float(env.get("ORDERPLANE_CARRIER_SECONDS", "10")),
            sender=_address(env["ORDERPLANE_CARRIER_SENDER"]),
            metrics_port=int(env.get("ORDERPLANE_METRICS_PORT", "9090")),
            kinds=frozenset(Kind(name.capitalize()) for name in names) or frozenset(Kind),
            settle=seconds("ORDERPLANE_CARRIER_SETTLE_SECONDS", 30),
            first_poll=seconds("ORDERPLANE_TRACKING_FIRST_SECONDS", 60),
            longest_poll=seconds("ORDERPLANE_TRACKING_LONGEST_SECONDS", 3600),
        )


def _address(text: str) -> Mapping[str, str]:
    address = json.loads(text)
    if not isinstance(address, dict) or not {"street1", "city", "zip", "country"} <= set(address):
        raise ValueError(
            "ORDERPLANE_CARRIER_SENDER must be a JSON object with street1, city, zip and country"
        )
    return address
