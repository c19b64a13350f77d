"""Programs that look at manifests."""

from pathlib import Path

import pytest

from orderplane.dev.localplane.controlplane import control_plane_binaries
from orderplane.dev.localplane.progress import ConsoleProgress
from orderplane.dev.localplane.tools import find_chart_tool

from .helm import Helm


@pytest.fixture(scope="session")
async def helm(tmp_path_factory: pytest.TempPathFactory) -> Helm:
    """Helm without a cluster."""
    return Helm(await find_chart_tool("helm", ConsoleProgress()), tmp_path_factory.mktemp("helm"))


@pytest.fixture(scope="session")
async def kubectl() -> Path:
    """kubectl without a cluster."""
    return (await control_plane_binaries(ConsoleProgress(), ("kubectl",)))["kubectl"]
