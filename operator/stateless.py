"""Storages that store nothing: Kopf keeps neither a diff base nor progress on our objects.

Both exist for handlers that we do not have; without them an event costs a fraction of the CPU, and no
hidden PATCH is ever made.
"""

from typing import Any

import kopf


class NoDiffBase(kopf.DiffBaseStorage):
    """Remembers nothing of what an object was."""

    def build(self, *, body: Any, extra_fields: Any = None) -> Any:
        """An object has no essence."""
        return {}

    def fetch(self, *, body: Any) -> None:
        """There was never anything stored."""

    def store(self, *, body: Any, patch: Any, essence: Any) -> None:
        """Nothing is stored."""


class NoProgress(kopf.ProgressStorage):
    """Remembers nothing of how far a handler came."""

    def fetch(self, *, key: Any, body: Any) -> None:
        """There was never anything stored."""

    def store(self, *, key: Any, record: Any, body: Any, patch: Any) -> None:
        """Nothing is stored."""

    def purge(self, *, key: Any, body: Any, patch: Any) -> None:
        """There is nothing to purge."""

    def touch(self, *, body: Any, patch: Any, value: Any) -> None:
        """Nothing is touched."""

    def clear(self, *, essence: Any) -> Any:
        """There is nothing to clear."""
        return essence
