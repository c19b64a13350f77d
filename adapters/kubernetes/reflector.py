"""Keep a copy of all objects of one kind, by one list and one watch after the other.

A watch lasts some seconds only, and the next one goes on from the last version. So a connection that died
without a word is noticed by the end that did not come: bookmarks alone come once a minute.
"""

import random
import re
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from functools import partial
from typing import Any, Never, Protocol

import structlog
from prometheus_client import Counter, Gauge

from orderplane.adapters.halves import Beat
from orderplane.adapters.kubernetes.client import Page
from orderplane.adapters.retry import retry
from orderplane.crds.api_errors import ApiError, EtcdRestored, Gone, Unavailable
from orderplane.crds.meta import Kind

log = structlog.get_logger(__name__)

Json = dict[str, Any]

WATCH_SECONDS = (8, 12)
"""How long one watch lasts, drawn anew each time, so that replicas do not come together."""

STALE_SECONDS = 20.0
"""A copy is not used when nothing has shown for so long that it is up to date. Longer than a watch, its
`WATCH_GRACE_SECONDS` and a slow start of the next one together."""

_PAGE = 200
"""Objects of one page of the list: reading them keeps the event loop for a few milliseconds."""

LISTS = Counter(
    "orderplane_watch_lists_total",
    "Lists of all objects, with which a watch begins: at the start, after a break, when the server does not "
    "have the events any more (expired), when etcd was restored.",
    ["kind", "reason"],
)
AGE = Gauge(
    "orderplane_watch_age_seconds",
    "Time since the copy of these objects was last known to be up to date; infinite where there is none.",
    ["kind"],
)


FARTHEST = 1 << 17
"""Versions, of all kinds together, that a recorder is told of from before a list."""
_MAX_TRIES = 20


def later_start(since: int, seen: int, refusal: str) -> int:
    """Where a watch may be possible, if it is not from the version `since`; at most from `seen`.

    The server has the events of a kind of the last 75 seconds, or the last hundred, or more. Its refusal says
    from where on: `too old resource version: 812 (4711)` (k8s.io/apiserver, watch_cache.go). Where it does
    not, half of the way is left out.
    """
    told = re.search(r"\((\d+)\)$", refusal)
    after = int(told[1]) if told is not None else 0
    return min(seen, after if after > since else (since + seen + 1) // 2)


class Source(Protocol):
    """What is needed of `ApiClient`."""

    async def list_page(self, kind: Kind, *, limit: int, continue_token: str | None = None) -> Page: ...
    def watch(
        self, kind: Kind, *, since: int, seconds: int
    ) -> AbstractAsyncContextManager[AsyncIterator[Json]]: ...


class Copy(Protocol):
    """What holds the objects. The newest version of each has to win."""

    @property
    def newest(self) -> int:
        """The newest version that was seen, in answers to writes as well."""
        ...

    def clear(self) -> None: ...
    def store(self, document: Json) -> object: ...
    def record_deletion(self, document: Json) -> object: ...
    def sweep(self) -> None: ...


class Recorder(Protocol):
    """Who wants every change, in order, and not only what there is now."""

    def begin(self, since: int) -> None:
        """All changes after this version follow. Some may have been told before."""
        ...

    def record(self, type_: str, document: Json) -> None:
        """An object was ADDED, MODIFIED or DELETED. It is told before the copy has it."""
        ...

    def caught_up(self) -> None:
        """Every change that the server has was told."""
        ...


class Reflector:
    """Lists and watches all objects of a kind, in all namespaces.

    Args:
        copy: Is filled; it is cleared before each list.
        monotonic: Seconds.
        recorder: Is told of all changes, also of those before the list that the server still has.
    """

    def __init__(
        self,
        source: Source,
        kind: Kind,
        copy: Copy,
        monotonic: Callable[[], float] = time.monotonic,
        recorder: Recorder | None = None,
    ) -> None:
        self._source = source
        self._kind = kind
        self._copy = copy
        self._recorder = recorder
        self._monotonic = monotonic
        self._current_at = float("-inf")
        self._reason = "start"
        self._last_problem = ""
        self.seen = 0
        """All events up to this version are in the copy; 0 before the list is complete."""
        self._watched = 0
        """All events up to this version were shown by a watch. It may be less than `seen` after a list."""
        AGE.labels(kind.value).set_function(self._age)

    @property
    def is_current(self) -> bool:
        """Whether the copy is complete, and was up to date at most `STALE_SECONDS` ago."""
        return self.seen > 0 and self._age() <= STALE_SECONDS

    async def run(self, beat: Beat) -> None:
        """Keep the copy up to date, until cancelled. Whatever fails is tried again."""
        await retry(partial(self._follow, beat), on=(ApiError, EtcdRestored), on_failure=self.note_failure)

    async def follow_once(self, beat: Beat = lambda: None) -> None:
        """List where that is due, then watch until the server ends the stream.

        Raises:
            ApiError: a request failed.
            EtcdRestored: the server went back in time.
        """
        if self.seen and not self.is_current:
            # It is not seen when a new watch has caught up with what happened meanwhile.
            self._forget("break")
        if self.seen:
            await self._check_history()
            since = self._watched
        else:
            await self._list(beat)
            since = self.seen if self._recorder is None else max(1, self.seen - FARTHEST)
        self._copy.sweep()
        await self._watch_from_earliest(since, beat)
        self._current_at = self._monotonic()
        self._last_problem = ""
        beat()

    def note_failure(self, problem: Exception) -> None:
        """Forget the copy where the failure says that it cannot be brought up to date."""
        if isinstance(problem, EtcdRestored):
            self._forget("restored")
        elif isinstance(problem, Gone) and self.seen:
            self._forget("expired")
        elif isinstance(problem, Unavailable) and self.seen:
            # Etcd may have been restored meanwhile, and its versions have passed those that were seen.
            self._forget("break")
        if str(problem) != self._last_problem:
            self._last_problem = str(problem)
            log.warning("a watch failed; it is tried again", kind=self._kind.value, why=str(problem))

    async def _follow(self, beat: Beat) -> Never:
        beat()
        while True:
            await self.follow_once(beat)

    async def _watch_from_earliest(self, since: int, beat: Beat) -> None:
        """Watch from `since`, or from as soon after it as the server still has the events."""
        for _ in range(_MAX_TRIES):
            try:
                await self._watch(since, beat)
            except Gone as refusal:
                if since >= self.seen:
                    raise
                since = later_start(since, self.seen, refusal.message)
            else:
                return
        await self._watch(self.seen, beat)

    async def _watch(self, since: int, beat: Beat) -> None:
        if self._recorder is not None and since != self._watched:
            self._recorder.begin(since)
        self._watched = since
        seconds = random.randint(*WATCH_SECONDS)
        async with self._source.watch(self._kind, since=since, seconds=seconds) as events:
            self._current_at = self._monotonic()
            async for event in events:
                self._take(event["type"], event["object"])
                self._current_at = self._monotonic()
                beat()
        if self._recorder is not None and self._watched in (since, self.seen):
            self._recorder.caught_up()

    async def _list(self, beat: Beat) -> None:
        LISTS.labels(self._kind.value, self._reason).inc()
        self._copy.clear()
        started_at = self._monotonic()
        token: str | None = None
        version = 0
        while True:
            page = await self._source.list_page(self._kind, limit=_PAGE, continue_token=token)
            version = version or page.resource_version
            for document in page.items:
                self._copy.store(document)
            beat()
            token = page.continue_token
            if token is None:
                break
        # All pages are of one moment, that of the first.
        self._current_at = started_at
        self.seen = version
        log.info("listed", kind=self._kind.value, version=version, why=self._reason)

    async def _check_history(self) -> None:
        """A watch from a version that a restored etcd does not have yet shows nothing, without a word.

        Usually the connection broke then. This is for where something between us and the server hides it.
        """
        page = await self._source.list_page(self._kind, limit=1)
        if page.resource_version < max(self.seen, self._copy.newest):
            raise EtcdRestored(
                f"{self._kind.plural} are at version {page.resource_version}, and a newer one was seen before"
            )

    def _take(self, type_: str, document: Json) -> None:
        self._watched = int(document["metadata"]["resourceVersion"])
        is_change = type_ in ("ADDED", "MODIFIED", "DELETED")
        if is_change and self._recorder is not None:
            self._recorder.record(type_, document)
        if self._watched <= self.seen:
            return  # the list has it
        if type_ == "DELETED":
            self._copy.record_deletion(document)
        elif is_change:
            self._copy.store(document)
        self.seen = self._watched

    def _forget(self, reason: str) -> None:
        self._reason = reason
        self.seen = self._watched = 0
        self._copy.clear()

    def _age(self) -> float:
        return self._monotonic() - self._current_at
