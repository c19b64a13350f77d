"""Look at everything again, now and then: Kopf does not, and does not tell of what vanished unseen."""

import asyncio
import random
from collections import deque

import structlog

from orderplane.adapters.kubernetes.client import ApiClient
from orderplane.controllers.engine.queue import Key
from orderplane.crds.api_errors import ApiError, Gone
from orderplane.crds.meta import Kind
from orderplane.ledgers.errors import Transient
from orderplane.operator.wiring import Operator

log = structlog.get_logger(__name__)

SECONDS = 60.0
"""Between two lists."""

LOOKS_PER_SECOND = 10
"""How fast what did not change is looked at again: 1,000 in 100 s. Faster would cost what orders need."""

_TICK_SECONDS = 0.25

_FIRST_PAGE = 500
_PAGE = 100
_PAGE_PAUSE = 0.06
"""Between two pages of a later list: everybody else's requests go in between."""
_MOST_OVERDUE = 500


class EtcdRestored(Exception):  # noqa: N818
    """The server's newest version is older than what was seen: start afresh with empty caches."""


class Resync:
    """Lists every kind, and wakes whoever has to look.

    What the list has changed is looked at at once; so is everything at the first list. The rest, where only
    a ledger's news or a timer can have been lost, is looked at bit by bit and behind all other work: a
    minute's worth of it at a time would make every order late that comes in that moment.
    """

    def __init__(self, operator: Operator, api: ApiClient) -> None:
        self._operator = operator
        self._api = api
        self._is_synced = False
        self._wanted = asyncio.Event()
        self._unhurried: deque[tuple[Kind, Key]] = deque()

    @property
    def is_synced(self) -> bool:
        """Every kind was listed once."""
        return self._is_synced

    def want(self) -> None:
        """Have the next list soon."""
        self._wanted.set()

    async def run(self) -> None:
        """List every minute, and soon after it is wanted, until cancelled."""
        loop = asyncio.get_running_loop()
        while True:
            due = loop.time() + SECONDS * random.uniform(0.8, 1.2)
            while not self._wanted.is_set() and loop.time() < due:
                self.look_again(round(LOOKS_PER_SECOND * _TICK_SECONDS))
                await self._pause(_TICK_SECONDS if self._unhurried else due - loop.time())
            if self._wanted.is_set():
                await asyncio.sleep(1)
            self._wanted.clear()
            try:
                await self.resync()
            except (ApiError, Transient) as problem:
                log.warning("resync failed; it is tried again", why=str(problem))
                await asyncio.sleep(random.uniform(1, 3))
                self._wanted.set()

    async def resync(self) -> None:
        """List every kind.

        Raises:
            ApiError: a list failed.
            Transient: the ledgers did not answer.
            EtcdRestored: the cluster went back in time.
        """
        for kind in Kind:
            await self._list(kind)
        is_round_over = not self._unhurried
        for kind in Kind:
            cache = self._operator.cluster.cache(kind)
            cache.sweep()
            for resource in cache:
                if not self._is_synced:
                    self._operator.announce(kind, resource)
                elif is_round_over:
                    self._unhurried.append((kind, resource.key))
        self._is_synced = True
        await self._wake_orphans()

    def look_again(self, most: int) -> None:
        """Have a few more of those that wait for it looked at."""
        for _ in range(min(most, len(self._unhurried))):
            self._operator.wake(*self._unhurried.popleft(), is_urgent=False)

    async def _pause(self, seconds: float) -> None:
        try:
            async with asyncio.timeout(seconds):
                await self._wanted.wait()
        except TimeoutError:
            pass

    async def _list(self, kind: Kind) -> None:
        cache = self._operator.cluster.cache(kind)
        before = cache.newest
        listed: set[str] = set()
        token: str | None = None
        version = 0
        while True:
            try:
                page = await self._api.list_page(
                    kind, continue_token=token, limit=_PAGE if self._is_synced else _FIRST_PAGE
                )
            except Gone:
                return await self._list(kind)
            version = version or page.resource_version
            for document in page.items:
                listed.add(document["metadata"]["uid"])
                news = cache.store(document)
                if news is not None and self._is_synced:
                    self._operator.announce(kind, news)
            token = page.continue_token
            if token is None:
                break
            if self._is_synced:
                await asyncio.sleep(_PAGE_PAUSE)
        if version < before:
            raise EtcdRestored(f"{kind.plural} are at version {version}, {before} was seen before")
        for resource in cache.missing_from(listed, version):
            self._operator.announce(kind, resource)
        return None

    async def _wake_orphans(self) -> None:
        """Rows of orders that are not over, whose resource nobody knows any more; and holds of nobody's."""
        for key in await self._operator.stock.overdue(_MOST_OVERDUE):
            self._operator.wake(Kind.RESERVATION, key)
        after: tuple[str, str] | None = None
        while True:
            gates = await self._operator.gates.unsealed_page(after, 500)
            for gate in gates:
                order = self._operator.cluster.orders.get((gate.merchant, gate.name))
                if order is None or order.metadata.uid != gate.uid:
                    self._operator.wake(Kind.ORDER, (gate.merchant, gate.name))
            if len(gates) < 500:
                return
            after = (gates[-1].merchant, gates[-1].uid)
