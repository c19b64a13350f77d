"""What tests on a local plane share: its settings, a merchant of their own, users with tokens.

Everything heavy is imported here and not in `tests/conftest.py`, which every test loads.
"""

import json
import secrets
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

from argon2 import PasswordHasher

from orderplane.adapters.kubernetes.client import ApiClient
from orderplane.adapters.kubernetes.install import install
from orderplane.cli.backends import Backends, open_backends
from orderplane.dev.demo import command as demo
from orderplane.dev.demo.products import seed
from orderplane.dev.localplane.components import UNLIMITED
from orderplane.dev.localplane.plane import Plane, PlaneSpec, remove
from orderplane.dev.localplane.progress import ConsoleProgress
from orderplane.gateway.identity.keyring import KeyRing
from orderplane.gateway.identity.login_store import LoginStore
from orderplane.gateway.identity.tokens import TokenRules, issue
from orderplane.gateway.identity.user_store import UserStore, new_client_id, new_user_id
from orderplane.gateway.principal import SCOPES_OF, Principal, Role
from orderplane.ledgers.postgres.session import Pool

PASSWORD = "correct horse battery"

TEMPO = {
    # The demo's settings, with shorter timeouts and faster polling. The time between label and first scan
    # stays the same: tests cancel orders in it.
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
    (Path(__file__).parents[2] / "docs" / "examples" / "order.json").read_text(encoding="utf-8")
)
"""What the README has placed: 16.42 EUR."""


@dataclass(frozen=True, slots=True)
class Caller:
    """Somebody who is logged in at the gateway."""

    id: str
    token: str

    @property
    def headers(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.token}"}


@dataclass(frozen=True, slots=True)
class Merchant:
    """A namespace of its own on the running plane, with products and stock."""

    name: str
    plane: Plane
    backends: Backends

    @property
    def from_own_address(self) -> dict[str, str]:
        """Headers with an IP address of this merchant: failed logins are counted by address."""
        number = self.name.removeprefix("ns-")
        return {"X-Forwarded-For": f"fd00:{number[:4]}:{number[4:]}::1"}

    @property
    def api(self) -> ApiClient:
        """As the administrator."""
        return self.backends.api

    @property
    def pool(self) -> Pool:
        """The ledgers."""
        return self.backends.pool

    async def caller(self, role: Role, *, of: str | None = None) -> Caller:
        """Somebody new, of this merchant or another, whose password is `PASSWORD`."""
        merchant, people = of or self.name, UserStore(self.pool)
        name = new_client_id() if role is Role.SERVICE else new_user_id()
        if role is Role.SERVICE:
            await people.add_client(merchant, name, name="tests", secret_hash=b"")
        else:
            await people.add(
                merchant, name, email=f"{name}@example.test", password_hash=_password_hash(),
                role=role.value, is_confirmed=True,
            )  # fmt: skip
        ring, rules = KeyRing(self.plane.signing_keys), TokenRules(self.plane.url("gateway"), "orderplane")
        caller = Principal(merchant, name, role, SCOPES_OF[role])
        if role is not Role.SERVICE:
            login = await LoginStore(self.pool).create(
                merchant, name, (), secrets.token_bytes(32), checked=_password_hash()
            )
            assert login is not None
            caller = replace(caller, login=str(login.id), logged_in_at=time.time())
        return Caller(name, issue(ring, rules, caller, client_id="tests", now=int(time.time())).token)


@asynccontextmanager
async def merchant_on(plane: Plane) -> AsyncIterator[Merchant]:
    """A new merchant with products and stock."""
    name = await make_namespace(plane)
    async with open_backends(plane.env("admin")) as backends:
        await seed(backends.pool, name)
        yield Merchant(name, plane, backends)


@asynccontextmanager
async def bare_plane(state: Path) -> AsyncIterator[Plane]:
    """etcd, kube-apiserver and PostgreSQL with everything installed, and no process of the product."""
    async with _started(state, PlaneSpec(processes=(), kafka=False)) as plane:
        yield plane


@asynccontextmanager
async def whole_plane(state: Path) -> AsyncIterator[Plane]:
    """Every process, Kafka and garbage collection, with the settings of `TEMPO`."""
    gateway = {**UNLIMITED, "ORDERPLANE_TRUSTED_PROXIES": "127.0.0.0/8"}
    env: Mapping[str, Mapping[str, str]] = {**TEMPO, "gateway": gateway}
    async with _started(state, PlaneSpec(env=env, with_garbage_collection=True)) as plane:
        yield plane


@asynccontextmanager
async def _started(state: Path, spec: PlaneSpec) -> AsyncIterator[Plane]:
    try:
        async with Plane.start(state, spec, ConsoleProgress()) as plane:
            yield plane
    finally:
        remove(state)


@cache
def _password_hash() -> str:
    return PasswordHasher().hash(PASSWORD)


async def make_namespace(plane: Plane) -> str:
    """A new namespace: a merchant without products."""
    name = f"ns-{secrets.token_hex(4)}"
    await install([plane.merchant_access(name)], kubeconfig=plane.kubeconfig("admin"), namespaces=[name])
    return name
