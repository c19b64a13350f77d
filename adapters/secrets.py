"""The secret settings of a process, as the files of a mounted Secret say now.

Kubernetes replaces the files of a Secret while the process runs (it swaps the link `..data`). Each value is
handed on, live, to those who use it. A value that cannot be used yet is tried again; the last one stays
meanwhile.
"""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import structlog
from pydantic import SecretStr

from orderplane.adapters.halves import Beat
from orderplane.adapters.settings import ProcessSettings, SettingsError, read_settings, variable_of

RELOAD_SECONDS = 10.0

Use = Callable[[str], Coroutine[Any, Any, None]]
"""Changes over to a new value; raises where that is not possible yet."""

log = structlog.get_logger(__name__)


class Secrets:
    """See the module.

    Args:
        settings: As they were read at the start.
    """

    def __init__(self, settings: ProcessSettings) -> None:
        self._settings_class = type(settings)
        self._values = _secrets_of(settings)
        self._users: dict[str, list[Use]] = {}

    def reader(self, name: str) -> Callable[[], str]:
        """For those who read the value of the field `name` whenever they need it."""
        self._users.setdefault(name, [])
        return lambda: self._values[name]

    def on_change(self, name: str, use: Use) -> None:
        """Have `use` called with each new value of the field `name`."""
        self._users.setdefault(name, []).append(use)

    async def follow(self, beat: Beat) -> None:
        """Read the files again and again, until cancelled."""
        while True:
            beat()
            await asyncio.sleep(RELOAD_SECONDS)
            await self.reload()

    async def reload(self) -> None:
        """Read the files once, and hand on what is new."""
        try:
            settings = await asyncio.to_thread(read_settings, self._settings_class)
        except SettingsError as error:
            log.warning("the secrets cannot be read; the last ones are used", why=error.problems)
            return
        for name, value in _secrets_of(settings).items():
            if value != self._values.get(name):
                await self._change(name, value)

    async def _change(self, name: str, value: str) -> None:
        variable = variable_of(self._settings_class, name)
        users = self._users.get(name)
        try:
            for use in users or ():
                await use(value)
        except Exception as problem:
            # Only its type: the message of a library may repeat the value.
            log.warning(
                "a new secret cannot be used yet; the last one is",
                setting=variable,
                why=type(problem).__name__,
            )
        else:
            self._values[name] = value
            when = "now" if users is not None else "after a restart"
            log.info("a secret was replaced", setting=variable, is_used=when)


def _secrets_of(settings: ProcessSettings) -> dict[str, str]:
    fields = {name: getattr(settings, name) for name in type(settings).model_fields}
    return {name: it.get_secret_value() for name, it in fields.items() if isinstance(it, SecretStr)}
