"""What the front door is told by its environment."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self

HOST = "127.0.0.1"
"""Loopback only, and not a setting: nobody is authenticated yet, so nobody else may reach it."""


_MERCHANT = "demo"
_HTTP_PORT = 8080
_METRICS_PORT = 9090


class SettingsError(Exception):
    """A variable is missing or wrong; the message says which, and what it should be."""


@dataclass(frozen=True, slots=True)
class Settings:
    """Read once at start-up.

    Args:
        postgres_dsn: `ORDERPLANE_POSTGRES_DSN`.
        merchant: `ORDERPLANE_MERCHANT`, the namespace whose orders these are; `demo` by default.
        http_port: `ORDERPLANE_HTTP_PORT`, 8080 by default; 0 takes a free one.
        metrics_port: `ORDERPLANE_METRICS_PORT`, 9090 by default; 0 takes a free one.
    """

    postgres_dsn: str
    merchant: str = _MERCHANT
    http_port: int = _HTTP_PORT
    metrics_port: int = _METRICS_PORT

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] = os.environ) -> Self:
        """Read the variables.

        Raises:
            SettingsError: one is missing or wrong.
        """
        dsn = environment.get("ORDERPLANE_POSTGRES_DSN")
        if not dsn:
            raise SettingsError(
                "ORDERPLANE_POSTGRES_DSN is not set. Set it to the database of this plane, "
                "as postgresql://user:password@127.0.0.1:5432/orderplane."
            )
        return cls(
            postgres_dsn=dsn,
            merchant=environment.get("ORDERPLANE_MERCHANT") or _MERCHANT,
            http_port=_port(environment, "ORDERPLANE_HTTP_PORT", _HTTP_PORT),
            metrics_port=_port(environment, "ORDERPLANE_METRICS_PORT", _METRICS_PORT),
        )


def _port(environment: Mapping[str, str], name: str, default: int) -> int:
    text = environment.get(name) or str(default)
    if not (text.isascii() and text.isdigit() and int(text) <= 65_535):
        raise SettingsError(f"{name} is {text!r}. Set it to a port number from 0 (any free one) to 65535.")
    return int(text)
