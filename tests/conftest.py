"""Real parts for the tests that want them: started once, stopped at the end, nothing left behind."""

import secrets
from collections.abc import AsyncIterator
from dataclasses import dataclass

import pytest

from orderplane.adapters.kubernetes.client import ApiClient
from orderplane.adapters.kubernetes.install import install
from orderplane.adapters.postgres.pool import Pool
from orderplane.cli.demo import TEMPO
from orderplane.cli.world import World, open_world
from orderplane.demo.catalogue import seed
from orderplane.localplane.plane import Plane, Wish, remove
from orderplane.localplane.processes import UNLIMITED
from orderplane.localplane.progress import ConsoleProgress


@pytest.fixture(scope="session")
async def plane(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Plane]:
    """etcd, kube-apiserver and PostgreSQL with everything installed, and no process of the product."""
    state = tmp_path_factory.mktemp("plane")
    try:
        async with Plane.start(state, Wish(processes=(), kafka=False), ConsoleProgress()) as started:
            yield started
    finally:
        remove(state)


@pytest.fixture
async def namespace(plane: Plane) -> str:
    """A namespace of this test's own."""
    return await make_namespace(plane)


@pytest.fixture(scope="session")
async def running(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Plane]:
    """The whole thing, Kafka, garbage collection and every process included, at the demo's tempo."""
    state = tmp_path_factory.mktemp("running")
    try:
        wish = Wish(env={**TEMPO, "gateway": UNLIMITED}, with_garbage_collection=True)
        async with Plane.start(state, wish, ConsoleProgress()) as started:
            yield started
    finally:
        remove(state)


@dataclass(frozen=True, slots=True)
class Merchant:
    """A namespace of its own on the running plane, with a stocked catalogue."""

    name: str
    plane: Plane
    world: World

    @property
    def api(self) -> ApiClient:
        """As the administrator."""
        return self.world.api

    @property
    def pool(self) -> Pool:
        """The ledgers."""
        return self.world.pool


@pytest.fixture
async def merchant(running: Plane) -> AsyncIterator[Merchant]:
    """A merchant nobody else sells for."""
    name = await make_namespace(running)
    async with open_world(running.env("admin")) as world:
        await seed(world.pool, name)
        yield Merchant(name, running, world)


async def make_namespace(plane: Plane) -> str:
    name = f"ns-{secrets.token_hex(4)}"
    await install([], kubeconfig=plane.kubeconfig("admin"), namespaces=[name])
    return name
