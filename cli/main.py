"""The `orderplane` command."""

import os
from functools import cache
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import typer
from typer.core import TyperGroup
from typer.main import get_command

_DEVELOPER_COMMANDS = {
    "dev": "orderplane.dev.localplane.command:app",
    "bench": "orderplane.dev.bench.command:app",
    "demo": "orderplane.dev.demo.command:demo",
}
"""Commands of a checkout. `orderplane.dev` is in no wheel."""

_COMMANDS = {
    "orders": "orderplane.cli.orders:app",
    "stock": "orderplane.cli.stock:app",
    "dlq": "orderplane.cli.dlq:app",
    "crds": "orderplane.cli.install:crds",
    "keys": "orderplane.cli.identity:keys",
    "users": "orderplane.cli.identity:users",
    "clients": "orderplane.cli.identity:clients",
    "audit": "orderplane.cli.audit:audit_command",
    "notifications": "orderplane.cli.notifications:notifications",
    "retry": "orderplane.cli.repair:retry",
    "resolve": "orderplane.cli.repair:resolve",
    "login": "orderplane.cli.login:login",
    "logout": "orderplane.cli.login:logout",
    "drain": "orderplane.cli.drain:drain",
    "renew-certificate": "orderplane.cli.install:renew_certificate",
    "migrate": "orderplane.cli.install:migrate",
    "version": "orderplane.cli.version:version",
}
"""Module and attribute of each command."""

_AVAILABLE = {**(_DEVELOPER_COMMANDS if find_spec("orderplane.dev") else {}), **_COMMANDS}


class LazyGroup(TyperGroup):
    """Imports the module of a command when it is needed: all of them together take a second."""

    def list_commands(self, ctx: Any) -> list[str]:
        return [*_AVAILABLE, *super().list_commands(ctx)]

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        if cmd_name in _AVAILABLE:
            return _load(cmd_name).get_command(ctx, cmd_name)
        return super().get_command(ctx, cmd_name)


app = typer.Typer(
    name="orderplane",
    cls=LazyGroup,
    no_args_is_help=True,
    rich_markup_mode="rich",
    pretty_exceptions_show_locals=False,
)


@app.callback()
def _group() -> None:
    """Order processing as Kubernetes custom resources."""
    if folder := os.environ.get("ORDERPLANE_SECRETS_DIR"):
        _read_secrets(Path(folder))


def _read_secrets(folder: Path) -> None:
    """Take what the environment does not set from the files of a mounted Secret, as every process does."""
    for file in folder.glob("ORDERPLANE_*"):
        os.environ.setdefault(file.name, file.read_text(encoding="utf-8").strip())


@cache
def _load(name: str) -> Any:
    """A group with only this command, or group of commands."""
    module, _, attribute = _AVAILABLE[name].partition(":")
    found = getattr(import_module(module), attribute)
    holder = typer.Typer(rich_markup_mode="rich", pretty_exceptions_show_locals=False, add_completion=False)
    holder.callback()(_group)
    if isinstance(found, typer.Typer):
        holder.add_typer(found, name=name)
    else:
        holder.command(name)(found)
    return get_command(holder)


if __name__ == "__main__":
    app()
