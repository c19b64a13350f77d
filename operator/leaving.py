"""Have orders leave the API server behind all other work, make room there, keep the archive up to date."""

import asyncio
from collections.abc import Callable
from datetime import datetime

import structlog
from prometheus_client import Gauge

from orderplane.adapters.halves import Beat
from orderplane.controllers.engine.cluster import Cluster
from orderplane.controllers.engine.controller import QUEUE_DEPTH
from orderplane.controllers.engine.queue import Key, KeyedQueue
from orderplane.controllers.order.leaving import Leaving
from orderplane.controllers.order.rest import make_room
from orderplane.crds.api_errors import ApiError
from orderplane.crds.meta import Kind
from orderplane.ledgers.archive import OrderArchive
from orderplane.ledgers.errors import GateClosed, Transient

log = structlog.get_logger(__name__)

EXCESS = Gauge(
    "orderplane_orders_beyond_limit",
    "Orders in the API server beyond ORDERPLANE_LIVE_ORDERS: more are under way than may stay.",
)

WORKERS = 4
PATIENCE_SECONDS = 1.0
"""An order that leaves waits so long for a moment without other work, and leaves then all the same."""
CROWDED_SECONDS = 0.1
"""The same while there are more orders than may stay."""
_LOOK_SECONDS = 0.02
_RETRY_SECONDS = 1.0

ROUND_SECONDS = 1.0
"""Between two looks at the number of orders, and at what the archive has to be told."""
MOST_CROWDED = 200
"""Orders that are chosen in one round: more than one second of work."""
_MOST_OUTDATED = 100


class LeavingQueue:
    """Orders that are to leave, each once.

    Args:
        most: How many orders may stay in the API server.
        is_busy: Whether other work waits.
        look_again: Has an order reconciled, behind all others: it decides anew.
    """

    def __init__(
        self,
        leaving: Leaving,
        cluster: Cluster,
        archive: OrderArchive,
        *,
        most: int,
        is_busy: Callable[[], bool],
        look_again: Callable[[Key], None],
        now: Callable[[], datetime],
    ) -> None:
        self._leaving = leaving
        self._cluster = cluster
        self._archive = archive
        self._most = most
        self._is_busy = is_busy
        self._look_again = look_again
        self._now = now
        self._queue: KeyedQueue[bool] = KeyedQueue()
        self._crowded: set[Key] = set()

    def add(self, key: Key) -> None:
        """Have an order leave that is at rest for long enough."""
        self._queue.add(key)

    async def run(self, beat: Beat) -> None:
        """Take orders out until cancelled; one that is in hand can be left at any line."""
        QUEUE_DEPTH.labels(Kind.ORDER.value, "leaving").set_function(lambda: len(self._queue))
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._rounds(beat))
            for _ in range(WORKERS):
                tasks.create_task(self._work())

    async def _rounds(self, beat: Beat) -> None:
        while True:
            beat()
            self.make_room()
            try:
                for key in await self._archive.outdated_keys(_MOST_OUTDATED):
                    beat()
                    await self._update(key)
            except Transient as problem:
                log.warning("the archive is not brought up to date; it is tried again", why=problem.message)
            await asyncio.sleep(ROUND_SECONDS)

    async def _update(self, key: Key) -> None:
        """Write what the archive has of one name; what cannot be written keeps no other from it."""
        try:
            await self._leaving.update(key)
        except GateClosed:
            log.debug("an archived order moved while it was read", key="/".join(key))
        except Transient:
            raise
        except Exception:
            log.exception("an archived order is not brought up to date", key="/".join(key))

    def make_room(self) -> None:
        """Have those that are at rest longest leave while there are more orders than may stay."""
        excess = len(self._cluster.orders) - self._most
        EXCESS.set(max(0, excess))
        if excess <= 0:
            self._crowded.clear()
            return
        chosen = make_room(self._cluster.orders, self._most, self._now(), MOST_CROWDED)
        self._crowded = set(chosen)
        for key in chosen:
            self._queue.add(key)

    async def _work(self) -> None:
        while (key := await self._queue.take()) is not None:
            try:
                await self._wait_for_quiet()
                await self._leaving.leave(key, is_crowded=key in self._crowded)
            except (ApiError, GateClosed, Transient) as problem:
                log.debug("an order did not leave yet", key="/".join(key), why=str(problem))
                await self._try_again(key)
            except Exception:
                log.exception("an order did not leave yet", key="/".join(key))
                await self._try_again(key)
            finally:
                self._queue.done(key)

    async def _try_again(self, key: Key) -> None:
        await asyncio.sleep(_RETRY_SECONDS)
        self._look_again(key)

    async def _wait_for_quiet(self) -> None:
        patience = CROWDED_SECONDS if self._crowded else PATIENCE_SECONDS
        for _ in range(round(patience / _LOOK_SECONDS)):
            if not self._is_busy():
                return
            await asyncio.sleep(_LOOK_SECONDS)
