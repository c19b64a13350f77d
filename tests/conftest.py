"""The local planes of the integration tests, started once a session.

Imports are inside the fixtures: a unit test loads this file too, and must not pay for a plane's modules.
"""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from orderplane.dev.localplane.plane import Plane

    from .support.plane import Merchant

SLOWEST_FILES = (
    "simulation/test_simulation",
    "simulation/test_time",
    "http/test_slow_parsers",
    "adapters/test_provider_faults",
    "carriers/test_easypost_on_sandbox",
    "chaos/test_crash_safety",
    "notifier/test_outages",
    "identity/test_accounts_on_server",
    "contracts/test_documented_answers",
    "contracts/test_authorization",
    "cli/test_orders_on_plane",
    "chaos/test_two_operators",
    "traffic/test_traffic_on_server",
    "products/test_products_on_server",
    "notifier/test_giving_up",
    "audit/test_audit_command",
    "relay/test_relay_failures",
    "chaos/test_sleeping_operator",
    "cli/test_dev_lifecycle",
    "orders/test_order_watch_on_server",
    "saga/test_deletions",
    "saga/test_failure_rows",
)
"""Folder and name, the slowest first."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Run the slowest files first, so that no worker of pytest-xdist is left with one at the end."""
    rank = {name: number for number, name in enumerate(SLOWEST_FILES)}
    items.sort(key=lambda item: rank.get(f"{item.path.parent.name}/{item.path.stem}", len(rank)))


def pytest_pycollect_makemodule(module_path: Path) -> None:
    """A busy machine is no reason to fail: no test of Hypothesis is measured by the clock.

    A test takes the profile that is loaded when it is decorated, so this comes before its module is imported.
    """
    if "hypothesis" in module_path.read_text(encoding="utf-8"):
        from hypothesis import HealthCheck, settings

        settings.register_profile("untimed", deadline=None, suppress_health_check=[HealthCheck.too_slow])
        settings.load_profile("untimed")


@pytest.fixture(scope="session")
async def plane(tmp_path_factory: pytest.TempPathFactory) -> "AsyncIterator[Plane]":
    """etcd, kube-apiserver and PostgreSQL with everything installed, and no process of the product."""
    from .support.plane import bare_plane

    async with bare_plane(tmp_path_factory.mktemp("plane")) as started:
        yield started


@pytest.fixture
async def namespace(plane: "Plane") -> str:
    """A namespace of this test's own."""
    from .support.plane import make_namespace

    return await make_namespace(plane)


@pytest.fixture(scope="session")
async def running(tmp_path_factory: pytest.TempPathFactory) -> "AsyncIterator[Plane]":
    """A plane with every process; see `support.plane.whole_plane`."""
    from .support.plane import whole_plane

    async with whole_plane(tmp_path_factory.mktemp("running")) as started:
        yield started


@pytest.fixture
async def merchant(running: "Plane") -> "AsyncIterator[Merchant]":
    """A merchant of this test's own on the running plane."""
    from .support.plane import merchant_on

    async with merchant_on(running) as made:
        yield made
