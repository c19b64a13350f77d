"""Sandboxes as processes."""

from ...sandboxes import carrier_sandbox, eventually_fixture, key, payments, start_sandbox  # noqa: F401
