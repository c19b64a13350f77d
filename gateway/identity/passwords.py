"""Passwords as Argon2id hashes (RFC 9106), made and checked off the event loop."""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Self, TypeVar

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError

from orderplane.gateway.http.problems import unavailable

T = TypeVar("T")

_THREADS = 2
_LINE = 16
"""How many may wait for a thread: each takes some 50 ms and 64 MiB."""


class Passwords:
    """Hashes a few at a time; who comes when the line is full is asked to come back."""

    def __init__(self) -> None:
        self._hasher = PasswordHasher()
        self._threads = ThreadPoolExecutor(_THREADS, thread_name_prefix="argon2")
        self._in_line = 0
        # What an unknown account is checked against, so that it takes as long as a known one.
        self._nobody = self._hasher.hash("nobody has this password")

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        self._threads.shutdown(wait=False, cancel_futures=True)

    async def hash(self, password: str) -> str:
        """A hash with its parameters and salt, as one text.

        Raises:
            Problem: `overloaded`.
        """
        return await self._run(partial(self._hasher.hash, password))

    async def is_right(self, password: str, known: str | None) -> bool:
        """Whether the password is the one of the hash; without a hash it is not, in the same time.

        Raises:
            Problem: `overloaded`.
        """
        is_it = await self._run(partial(self._verify, password, known or self._nobody))
        return is_it and known is not None

    def is_outdated(self, known: str) -> bool:
        """Whether the hash was made with weaker parameters than are used now."""
        return self._hasher.check_needs_rehash(known)

    def _verify(self, password: str, known: str) -> bool:
        try:
            return self._hasher.verify(known, password)
        except (VerificationError, InvalidHashError):
            return False

    async def _run(self, work: Callable[[], T]) -> T:
        if self._in_line >= _LINE:
            raise unavailable("Too many people log in at this moment. Repeat the request.", code="overloaded")
        self._in_line += 1
        try:
            return await asyncio.get_running_loop().run_in_executor(self._threads, work)
        finally:
            self._in_line -= 1
