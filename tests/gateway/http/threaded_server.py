"""The gateway's own server and protocol, with nothing behind it, on a thread whose CPU time can be read."""

import asyncio
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import uvicorn
import uvloop

from orderplane.adapters.http_server import Server
from orderplane.adapters.kubernetes.reflector import Reflector
from orderplane.adapters.limits.memory import MemoryCounters
from orderplane.adapters.webhook_endpoints.addresses import parse_networks
from orderplane.adapters.webhook_endpoints.secrets import EndpointSecrets, new_key
from orderplane.crds.meta import Kind
from orderplane.gateway.app import create_app, declared_api
from orderplane.gateway.http.client_address import Networks, networks
from orderplane.gateway.http.connections import BoundedProtocol, protocol_for
from orderplane.gateway.identity.grants import Grants
from orderplane.gateway.identity.login_throttle import LoginThrottle
from orderplane.gateway.identity.tokens import TokenRules
from orderplane.gateway.orders.held_orders import HeldOrders
from orderplane.gateway.orders.order_feed import OrderFeed
from orderplane.gateway.orders.order_reader import OrderReader
from orderplane.gateway.orders.order_streams import OrderStreams
from orderplane.gateway.principal import SCOPES_OF, Principal, Role
from orderplane.gateway.products.availability import Availability
from orderplane.gateway.products.catalogue import Catalogue
from orderplane.gateway.products.reads import ProductReads
from orderplane.gateway.traffic.load_shedding import LoadShedding
from orderplane.gateway.traffic.rate_limits import Quota, RouteClass
from orderplane.gateway.traffic.stream_places import StreamPlaces
from orderplane.ledgers.errors import Transient

from ...support.archive import EmptyArchive

PROXIES = networks("10.0.0.0/8")
UNLIMITED = dict.fromkeys(RouteClass, Quota(10**8, 10**8))


class Absent:
    """A dependency that does not answer, whatever it is asked."""

    def __getattr__(self, _: str) -> Any:
        return self

    def __call__(self, *_: Any, **__: Any) -> Any:
        return self

    def __await__(self) -> Any:
        raise Transient("LedgerUnavailable", "absent")
        yield


class AbsentAccounts(Absent):
    """Accounts whose store does not answer. What is asked of it is made of what somebody has sent."""

    merchant = "demo"
    ring = SimpleNamespace(public=lambda: {"keys": []})

    def __init__(self, trusted: Networks) -> None:
        absent: Any = Absent()
        self.trusted_proxies = trusted
        throttle = LoginThrottle(MemoryCounters(), absent)
        self.grants = Grants(absent, absent, absent, throttle, absent, TokenRules("issuer", "audience"))


class Anybody:
    """Takes every token for an admin's."""

    async def caller(self, _: str) -> Principal:
        return Principal("demo", "u-1", Role.ADMIN, SCOPES_OF[Role.ADMIN])


def app_without_dependencies(authentication: Any = None, trusted: Networks = PROXIES) -> Any:
    """The whole application; what it would ask others fails at once."""
    absent: Any = Absent()
    catalogue = Catalogue(absent, max_bytes=0)
    held = HeldOrders(10, time.monotonic)
    orders = OrderReader(absent, held, Reflector(absent, Kind.ORDER, held), EmptyArchive())
    services: Any = SimpleNamespace(
        api=absent, orders=orders, stored_prices=absent, gates=absent, idempotency=absent, products=absent,
        price_rules=absent,
        catalogue=catalogue, availability=Availability(absent),
        product_reads=ProductReads(absent, catalogue, Availability(absent)), inventory=absent,
        webhook_endpoints=absent, endpoint_networks=parse_networks("public"),
        endpoint_secrets=EndpointSecrets(new_key()),
        timelines=absent, idempotent_create=absent, counters=MemoryCounters(),
        load_shedding=LoadShedding(absent, lambda: 0.0, shed_after=60.0),
        authentication=authentication or Anybody(), identity=AbsentAccounts(trusted),
        # Streams do not end: they are refused when their request has been read.
        order_streams=OrderStreams(OrderFeed(held), StreamPlaces(0)),
        overview=absent, messages=absent, actions=absent, settle_by_hand=absent,
    )  # fmt: skip
    return create_app(declared_api(services), rate_limits=UNLIMITED, trusted_proxies=trusted)


@dataclass
class ThreadedServer:
    """A server in a thread of its own."""

    address: tuple[str, int]
    server: Server
    loop: asyncio.AbstractEventLoop
    thread: threading.Thread

    def cpu_seconds(self) -> float:
        """What the loop has used, once it has nothing left to do now."""
        asyncio.run_coroutine_threadsafe(asyncio.sleep(0), self.loop).result(10)
        assert self.thread.ident is not None
        return time.clock_gettime(time.pthread_getcpuclockid(self.thread.ident))

    def connect(self) -> socket.socket:
        return socket.create_connection(self.address, timeout=10)

    def ask(self, *pieces: bytes) -> bytes:
        """Send a request, and give all that is answered until the server hangs up."""
        with self.connect() as connection:
            try:
                for piece in pieces:
                    connection.sendall(piece)
            except OSError:
                pass  # it hung up while we were still speaking
            return read_all(connection)


def read_all(connection: socket.socket) -> bytes:
    """Everything until the other side ends it."""
    answer = b""
    try:
        while data := connection.recv(65_536):
            answer += data
    except OSError:
        pass  # what it did not read any more came back as a reset
    return answer


@contextmanager
def running(app: Any, protocol: type[BoundedProtocol] | None = None) -> Iterator[ThreadedServer]:
    """Serve until the end of the block."""
    listening = socket.create_server(("127.0.0.1", 0))
    config = uvicorn.Config(
        app, http=protocol or protocol_for(PROXIES), ws="none", lifespan="off", access_log=False,
        log_config=None, server_header=False, proxy_headers=False, timeout_graceful_shutdown=1,
    )  # fmt: skip
    server, loop, started = Server(config), uvloop.new_event_loop(), threading.Event()

    async def serve() -> None:
        serving = asyncio.create_task(server.serve([listening]))
        while not server.started:  # noqa: ASYNC110 - uvicorn tells it in no other way
            await asyncio.sleep(0.01)
        started.set()
        await serving

    thread = threading.Thread(target=loop.run_until_complete, args=[serve()])
    thread.start()
    try:
        assert started.wait(20)
        yield ThreadedServer(listening.getsockname(), server, loop, thread)
    finally:
        server.should_exit = True
        thread.join(20)
        loop.close()
        listening.close()
