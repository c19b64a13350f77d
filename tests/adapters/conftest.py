"""Sandboxes for the adapters' tests."""

from ..sandboxes import (  # noqa: F401
    calm,
    carrier,
    carrier_sandbox,
    eventually_fixture,
    hasty_carrier,
    hasty_provider,
    key,
    payments,
    provider,
    start_sandbox,
)
