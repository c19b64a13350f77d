"""Passwords as Argon2id hashes (RFC 9106), computed in threads so that the event loop goes on."""

import asyncio
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from typing import Self, TypeVar

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError

from orderplane.gateway.http.problems import unavailable

T = TypeVar("T")

_THREADS = 2
_MAX_PENDING = 16
"""The most computations that run or wait: each takes about 50 ms and 64 MiB."""


class Hashing:
    """Computes hashes in threads."""

    def __init__(self) -> None:
        self._hasher = PasswordHasher()
        self._threads = ThreadPoolExecutor(_THREADS, thread_name_prefix="argon2")
        # Compared for unknown accounts, so that the response time does not tell which accounts exist.
        self._dummy_hash = self._hasher.hash("nobody has this password")

    def close(self) -> None:
        """Stop; what has not begun is not computed any more."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    async def hash(self, password: str) -> str:
        """A hash in PHC format, with its parameters and salt."""
        return await self._run(partial(self._hasher.hash, password))

    async def matches(self, password: str, known: str | None) -> bool:
        """Whether the password belongs to the hash; without a hash, False after the same time."""
        is_match = await self._run(partial(self._verify, password, known or self._dummy_hash))
        return is_match and known is not None

    def is_outdated(self, known: str) -> bool:
        """Whether the hash was made with other parameters than those used now."""
        return self._hasher.check_needs_rehash(known)

    def _verify(self, password: str, known: str) -> bool:
        try:
            return self._hasher.verify(known, password)
        except (VerificationError, InvalidHashError):
            return False

    async def _run(self, work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._threads, work)


class Passwords:
    """Computes a few hashes at a time, and refuses more when too many are waiting.

    Every method raises a `Problem`, `overloaded`, for that.
    """

    def __init__(self) -> None:
        self._hashing = Hashing()
        self._pending = 0

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        self._hashing.close()

    @contextmanager
    def place(self) -> Iterator[Hashing]:
        """Have a place for one computation, before something is done that a refusal would not take back."""
        if self._pending >= _MAX_PENDING:
            raise unavailable("Too many logins at this moment. Repeat the request.", code="overloaded")
        self._pending += 1
        try:
            yield self._hashing
        finally:
            self._pending -= 1

    async def hash(self, password: str) -> str:
        """As `Hashing.hash`."""
        with self.place() as place:
            return await place.hash(password)

    async def matches(self, password: str, known: str | None) -> bool:
        """As `Hashing.matches`."""
        with self.place() as place:
            return await place.matches(password, known)

    def is_outdated(self, known: str) -> bool:
        """As `Hashing.is_outdated`."""
        return self._hashing.is_outdated(known)
