"""Keys that wait, handed out so that no namespace waits for another one's.

A namespace is a merchant. A thousand of its objects that fail for ever, or fail slowly, must not delay the
one order of its neighbour. So the next key is of the namespace with the fewest keys in hand; of several, of
the one that waits longest. This is max-min fairness: who wants less than an equal share gets all of it.

Source: https://en.wikipedia.org/wiki/Max-min_fairness; the API server does the same with requests:
https://kubernetes.io/docs/concepts/cluster-administration/flow-control/
"""

import heapq
import itertools

Key = tuple[str, str]
"""Namespace and name."""

LOW_PRIORITY = 1_000
"""From here on a key waits behind every other key of every namespace."""

_URGENT, _LATER = 0, 1
_SLACK = 64


class FairQueue:
    """Keys with priorities; each step costs the same with one namespace and with a thousand."""

    def __init__(self) -> None:
        self._priority: dict[Key, int] = {}
        self._waiting: tuple[dict[str, list[tuple[int, int, Key]]], ...] = ({}, {})
        self._lines: tuple[dict[int, dict[str, None]], ...] = ({}, {})
        self._in_hand: dict[str, int] = {}
        self._count = itertools.count()

    def __len__(self) -> int:
        return len(self._priority)

    def __contains__(self, key: Key) -> bool:
        return key in self._priority

    def add(self, key: Key, priority: int) -> None:
        """Have a key wait; if it waits already, the lower priority counts."""
        known = self._priority.get(key)
        if known is not None and known <= priority:
            return
        self._priority[key] = priority
        rank, namespace = _LATER if priority >= LOW_PRIORITY else _URGENT, key[0]
        waiting = self._waiting[rank]
        if namespace not in waiting:
            waiting[namespace] = []
            self._line_up(rank, namespace)
        heapq.heappush(waiting[namespace], (priority, next(self._count), key))
        if len(waiting[namespace]) > 2 * len(self._priority) + _SLACK:
            self._drop_old(waiting[namespace])

    def take(self) -> Key | None:
        """Take the next key in hand; None where nothing waits."""
        for rank in (_URGENT, _LATER):
            while lines := self._lines[rank]:
                namespace = next(iter(lines[min(lines)]))
                key = self._first_of(rank, namespace)
                if key is not None:
                    self._count_in_hand(namespace, 1)
                    return key
        return None

    def done(self, key: Key) -> None:
        """The key is out of hand."""
        self._count_in_hand(key[0], -1)

    def _first_of(self, rank: int, namespace: str) -> Key | None:
        """Take the first key of a namespace out; the namespace leaves the line when it has no more."""
        waiting = self._waiting[rank][namespace]
        found = None
        while waiting and (found is None or self._is_old(waiting[0])):
            priority, _, key = heapq.heappop(waiting)
            if self._priority.get(key) == priority:
                del self._priority[key]
                found = key
        if not waiting:
            del self._waiting[rank][namespace]
            self._leave(rank, namespace)
        return found

    def _drop_old(self, waiting: list[tuple[int, int, Key]]) -> None:
        """Drop what a lower priority has replaced; it would stay while there are always keys before it."""
        waiting[:] = {entry[2]: entry for entry in waiting if not self._is_old(entry)}.values()
        heapq.heapify(waiting)

    def _is_old(self, entry: tuple[int, int, Key]) -> bool:
        """The key has got a lower priority since, or was taken."""
        return self._priority.get(entry[2]) != entry[0]

    def _count_in_hand(self, namespace: str, change: int) -> None:
        ranks = [rank for rank in (_URGENT, _LATER) if namespace in self._waiting[rank]]
        for rank in ranks:
            self._leave(rank, namespace)
        self._in_hand[namespace] = self._in_hand.get(namespace, 0) + change
        for rank in ranks:
            self._line_up(rank, namespace)
        if not self._in_hand[namespace]:
            del self._in_hand[namespace]

    def _line_up(self, rank: int, namespace: str) -> None:
        """To the end of the line of those with as many keys in hand."""
        self._lines[rank].setdefault(self._in_hand.get(namespace, 0), {})[namespace] = None

    def _leave(self, rank: int, namespace: str) -> None:
        lines, in_hand = self._lines[rank], self._in_hand.get(namespace, 0)
        del lines[in_hand][namespace]
        if not lines[in_hand]:
            del lines[in_hand]
