"""The login of the `orderplane` command: one file that only its owner can read."""

import asyncio
import fcntl
import json
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

from orderplane.client.accounts import Tokens

_LONGEST_WAIT = 60.0
"""Seconds to wait for another command that refreshes the tokens."""


class TokenFile:
    """Implements `client.accounts.TokenStore` for commands that run at the same time.

    Args:
        url: The gateway that the tokens are good for; those of another are not given out.
    """

    def __init__(self, path: Path, url: str) -> None:
        self._path = path
        self._url = url

    @asynccontextmanager
    async def locked(self) -> AsyncIterator[None]:
        """Raises TimeoutError if another command keeps the lock."""
        self._path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        with self._path.with_suffix(".lock").open("w") as lock:
            async with asyncio.timeout(_LONGEST_WAIT):
                while not _is_locked(lock.fileno()):  # noqa: ASYNC110 - flock has no other way to wait without blocking
                    await asyncio.sleep(0.05)
            yield

    def read(self) -> Tokens | None:
        kept = _document(self._path)
        return Tokens(**kept["tokens"]) if kept.get("url") == self._url else None

    def write(self, tokens: Tokens | None) -> None:
        if tokens is None:
            if url_in(self._path) == self._url:
                self._path.unlink(missing_ok=True)
            return
        self._path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        unfinished = self._path.with_suffix(f".{os.getpid()}")
        unfinished.touch(mode=0o600)
        unfinished.write_text(json.dumps({"url": self._url, "tokens": asdict(tokens)}))
        unfinished.rename(self._path)


def url_in(path: Path) -> str | None:
    """The gateway that the stored tokens are for."""
    url: str | None = _document(path).get("url")
    return url


def _document(path: Path) -> dict[str, Any]:
    try:
        document = json.loads(path.read_text())
    except (OSError, ValueError):
        return {}
    return document if isinstance(document, dict) else {}


def _is_locked(file: int) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
