"""`python -m orderplane.dev.bench.front_door`: the CPU time that the gateway needs for a read from memory.

The real server and application run in a process of their own, over fakes that answer at once; clients ask
over the loopback. So the figure is what the door itself costs: sockets, HTTP, limits, tokens, routing,
JSON. It is CPU time of the process as the kernel counts it. Other processes are not in it, but the cold
caches that they leave are: compare two versions in turns, and only in the same minute.
"""

import asyncio
import gc
import selectors
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import uvicorn
import uvloop

from orderplane.adapters.limits.memory import MemoryCounters
from orderplane.adapters.telemetry.traces import set_up_traces
from orderplane.gateway.app import create_app, declared_api
from orderplane.gateway.http.client_address import networks
from orderplane.gateway.http.connections import protocol_for
from orderplane.gateway.identity.authentication import AccountCache, OwnTokens
from orderplane.gateway.identity.keyring import KeyRing, new_key
from orderplane.gateway.identity.tokens import TokenRules, issue
from orderplane.gateway.principal import SCOPES_OF, Principal, Role
from orderplane.gateway.products.availability import Availability
from orderplane.gateway.products.catalogue import Catalogue
from orderplane.gateway.products.reads import ProductReads
from orderplane.gateway.traffic.load_shedding import LoadShedding
from orderplane.gateway.traffic.rate_limits import Quota, RouteClass
from orderplane.ledgers.postgres.products import (
    CatalogueChanges,
    CatalogueRead,
    CatalogueVersion,
    ProductDetails,
    StoredProduct,
)

ROUNDS, REQUESTS, CONNECTIONS, USERS = 5, 3_000, 16, 100
PATH = "/api/products/TEA-EARL-GREY-100"

_PROXIES = networks("127.0.0.0/8")
_PRODUCT = StoredProduct(
    "TEA-EARL-GREY-100",
    ProductDetails("Earl Grey, 100 g", "Black tea with bergamot.", "EUR", 890, {"USD": 990}, 120),
    version=3,
    available=37,
)
_VERSION = CatalogueVersion(datetime(2026, 1, 1, tzinfo=UTC), 1)


class _FromMemory:
    """Accounts and products that are known already."""

    async def role_of(self, *_: Any) -> str:
        return Role.CUSTOMER.value

    async def recently_changed(self) -> Sequence[tuple[str, str]]:
        return ()

    async def find(self, *_: Any) -> CatalogueRead:
        return CatalogueRead(_VERSION, [_PRODUCT])

    async def changes(self, *_: Any, **__: Any) -> CatalogueChanges:
        return CatalogueChanges(_VERSION.server, {}, {})

    async def available(self, _: str, skus: Sequence[str]) -> dict[str, int]:
        return dict.fromkeys(skus, _PRODUCT.available)


async def _serve() -> None:
    """Print a port and tokens, and serve until the process is terminated."""
    folder, memory, now = Path(tempfile.mkdtemp()), _FromMemory(), int(time.time())
    new_key(folder)
    ring, rules, accounts = KeyRing(folder), TokenRules("orderplane", "orderplane"), AccountCache(memory)
    store: Any = memory
    catalogue, availability = Catalogue(store, max_bytes=10**6), Availability(store)
    services: Any = SimpleNamespace(
        product_reads=ProductReads(store, catalogue, availability),
        counters=MemoryCounters(),
        authentication=OwnTokens(ring, rules, accounts),
        load_shedding=LoadShedding(None, lambda: 0.0, shed_after=60.0),  # type: ignore[arg-type]
        identity=None,
    )
    unlimited = dict.fromkeys(RouteClass, Quota(10**8, 10**8))
    app = create_app(declared_api(services), rate_limits=unlimited, trusted_proxies=_PROXIES)
    listening = socket.create_server(("127.0.0.1", 0))
    users = (
        Principal("demo", f"u-{n}", scopes=SCOPES_OF[Role.CUSTOMER], login=f"l-{n}") for n in range(USERS)
    )
    tokens = [issue(ring, rules, user, client_id="bench", now=now).token for user in users]
    print(listening.getsockname()[1], *tokens, flush=True)  # noqa: T201 - read by `main`
    watching = [asyncio.create_task(it.watch(lambda: None)) for it in (accounts, catalogue)]
    gc.freeze()
    config = uvicorn.Config(
        app, http=protocol_for(_PROXIES), ws="none", lifespan="off", access_log=False, log_config=None,
        server_header=False, proxy_headers=False,
    )  # fmt: skip
    await uvicorn.Server(config).serve([listening])
    for task in watching:
        task.cancel()


def _drive(port: int, tokens: Sequence[str], count: int) -> None:
    """Keep one request under way on each connection until `count` are answered."""
    selector, left = selectors.DefaultSelector(), count
    requests = [
        f"GET {PATH} HTTP/1.1\r\nHost: shop.example\r\nUser-Agent: bench\r\nAccept: */*\r\n"
        f"X-Forwarded-For: 203.0.113.{number}\r\nAuthorization: Bearer {token}\r\n\r\n".encode()
        for number, token in enumerate(tokens)
    ]
    connections = [socket.create_connection(("127.0.0.1", port)) for _ in range(CONNECTIONS)]
    for connection in connections:
        connection.sendall(requests[left % len(requests)])
        selector.register(connection, selectors.EVENT_READ, connection)
    while left > 0:
        for key, _ in selector.select():
            connection = key.data
            answer = connection.recv(65_536)
            assert answer.startswith(b"HTTP/1.1 200 "), answer
            assert answer.endswith(b"}"), "an answer comes in one piece"
            left -= 1
            connection.sendall(requests[left % len(requests)])
    for connection in connections:
        connection.close()


def _cpu_seconds(pid: int) -> float:
    tasks = Path(f"/proc/{pid}/task").iterdir()
    return sum(int((task / "schedstat").read_text().split()[0]) for task in tasks) / 1e9


def main() -> None:
    """Serve in another process, ask, and print microseconds of CPU for each request."""
    command = [sys.executable, "-m", "orderplane.dev.bench.front_door", "serve"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        try:
            assert server.stdout is not None
            port, *tokens = server.stdout.readline().split()
            _drive(int(port), tokens, REQUESTS)
            for _ in range(ROUNDS):
                before = _cpu_seconds(server.pid)
                _drive(int(port), tokens, REQUESTS)
                cost = (_cpu_seconds(server.pid) - before) / REQUESTS
                print(f"{cost * 1e6:.0f} microseconds of CPU for a request")  # noqa: T201
        finally:
            server.terminate()


if __name__ == "__main__":
    if sys.argv[1:] == ["serve"]:
        set_up_traces("gateway", None, 0.0)
        gc.set_threshold(10_000, 20, 20)
        uvloop.run(_serve())
    else:
        main()
