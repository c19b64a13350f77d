"""Real parts for the tests that want them: started once, stopped at the end, nothing left behind."""

import json
import secrets
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from argon2 import PasswordHasher

from orderplane.adapters.kubernetes.client import ApiClient
from orderplane.adapters.kubernetes.install import install
from orderplane.cli.world import World, open_world
from orderplane.dev.demo import command as demo
from orderplane.dev.demo.catalogue import seed
from orderplane.dev.localplane.plane import Plane, Wish, remove
from orderplane.dev.localplane.processes import UNLIMITED
from orderplane.dev.localplane.progress import ConsoleProgress
from orderplane.gateway.identity.keyring import KeyRing
from orderplane.gateway.identity.tokens import TokenRules, issue
from orderplane.gateway.identity.user_store import UserStore, new_client_id, new_user_id
from orderplane.gateway.principal import SCOPES_OF, Principal, Role
from orderplane.ledgers.postgres.session import Pool

PASSWORD = "correct horse battery"

TEMPO = {
    # As in the demo, for who does not want to see it: a call that hangs is given up sooner, and what the
    # carrier does is seen at once. Between the label and the first scan there is as much time as there.
    "operator": {
        **demo.TEMPO["operator"],
        "ORDERPLANE_PAYMENTS_SECONDS": "3",
        "ORDERPLANE_CARRIER_SECONDS": "3",
        "ORDERPLANE_CARRIER_SETTLE_SECONDS": "4",
        "ORDERPLANE_TRACKING_LONGEST_SECONDS": "0.5",
    },
    "carrier": {**demo.TEMPO["carrier"], "ORDERPLANE_SANDBOX_DELIVERY_SECONDS": "1"},
}

ORDER: dict[str, Any] = json.loads(
    (Path(__file__).parents[1] / "docs" / "examples" / "order.json").read_text(encoding="utf-8")
)
"""What the README has placed: 16.42 EUR."""


BEGUN_FIRST = (
    "simulation/test_simulation",
    "adapters/test_provider_faults",
    "carriers/test_easypost_on_sandbox",
    "chaos/test_crash_safety",
    "contracts/test_documented_answers",
    "notifier/test_trouble",
    "notifier/test_giving_up",
    "chaos/test_two_operators",
    "cli/test_orders_on_plane",
    "saga/test_failure_rows",
    "saga/test_deletions",
    "cli/test_dev_lifecycle",
    "audit/test_audit_command",
    "relay/test_relay_failures",
)
"""The files that take longest."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin what takes long first, so that at the end of a run no worker waits for another's."""
    rank = {name: number for number, name in enumerate(BEGUN_FIRST)}
    items.sort(key=lambda item: rank.get(f"{item.path.parent.name}/{item.path.stem}", len(rank)))


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
    """The whole thing, Kafka, garbage collection and every process included, at `TEMPO`."""
    state = tmp_path_factory.mktemp("running")
    try:
        gateway = {**UNLIMITED, "ORDERPLANE_TRUSTED_PROXIES": "127.0.0.0/8"}
        wish = Wish(env={**TEMPO, "gateway": gateway}, with_garbage_collection=True)
        async with Plane.start(state, wish, ConsoleProgress()) as started:
            yield started
    finally:
        remove(state)


@dataclass(frozen=True, slots=True)
class Caller:
    """Somebody who is logged in at the front door."""

    id: str
    token: str

    @property
    def headers(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.token}"}


@dataclass(frozen=True, slots=True)
class Merchant:
    """A namespace of its own on the running plane, with a stocked catalogue."""

    name: str
    plane: Plane
    world: World

    @property
    def from_own_address(self) -> dict[str, str]:
        """For who fails to log in again and again: that is counted by address, and is nobody else's fault."""
        number = self.name.removeprefix("ns-")
        return {"X-Forwarded-For": f"fd00:{number[:4]}:{number[4:]}::1"}

    @property
    def api(self) -> ApiClient:
        """As the administrator."""
        return self.world.api

    @property
    def pool(self) -> Pool:
        """The ledgers."""
        return self.world.pool

    async def caller(self, role: Role, *, of: str | None = None) -> Caller:
        """Somebody new, of this merchant or another, whose password is `PASSWORD`."""
        merchant, people = of or self.name, UserStore(self.pool)
        name = new_client_id() if role is Role.SERVICE else new_user_id()
        if role is Role.SERVICE:
            await people.add_client(merchant, name, name="tests", secret_hash=b"")
        else:
            await people.add(
                merchant, name, email=f"{name}@example.test", password_hash=_password_hash(), role=role.value
            )
        ring, rules = KeyRing(self.plane.signing_keys), TokenRules(self.plane.url("gateway"), "orderplane")
        caller = Principal(merchant, name, role, SCOPES_OF[role])
        return Caller(name, issue(ring, rules, caller, client_id="tests", now=int(time.time())).token)


@pytest.fixture
async def merchant(running: Plane) -> AsyncIterator[Merchant]:
    """A merchant nobody else sells for."""
    name = await make_namespace(running)
    async with open_world(running.env("admin")) as world:
        await seed(world.pool, name)
        yield Merchant(name, running, world)


@cache
def _password_hash() -> str:
    return PasswordHasher().hash(PASSWORD)


async def make_namespace(plane: Plane) -> str:
    name = f"ns-{secrets.token_hex(4)}"
    await install([], kubeconfig=plane.kubeconfig("admin"), namespaces=[name])
    return name
