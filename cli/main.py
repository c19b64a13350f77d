"""The `orderplane` command."""

import os
from functools import cache
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import typer
from typer.core import TyperCommand, TyperGroup
from typer.main import get_command

from orderplane import __version__


class Command(NamedTuple):
    """Where a command is, as `module:attribute`, and its line in the list of commands."""

    place: str
    help: str


_DEVELOPER_COMMANDS = {
    "dev": Command("orderplane.dev.command:app", "A complete Orderplane on this machine, without Docker."),
    "bench": Command("orderplane.dev.bench.command:app", "Benchmarks."),
    "demo": Command(
        "orderplane.dev.demo.command:demo",
        "Start everything, place orders of every kind, follow them to their end, and audit the result.",
    ),
}
"""Commands of a checkout. `orderplane.dev` is in no wheel."""

_COMMANDS = {
    "orders": Command("orderplane.cli.orders:app", "Orders."),
    "prices": Command(
        "orderplane.cli.prices:app", "Price rules: shipping and tax of orders, for each currency."
    ),
    "webhooks": Command(
        "orderplane.cli.webhooks:app", "Webhook endpoints: where a shop's systems are told of events."
    ),
    "stock": Command("orderplane.cli.stock:app", "Stock counts."),
    "dlq": Command("orderplane.cli.dlq:app", "Dead letters: messages that could not be processed or sent."),
    "crds": Command("orderplane.cli.install:crds", "Custom resource definitions."),
    "keys": Command("orderplane.cli.identity:keys", "Keys: of access tokens, and of webhook endpoints."),
    "users": Command(
        "orderplane.cli.identity:users", "Users: customers, staff and administrators of a merchant."
    ),
    "clients": Command("orderplane.cli.identity:clients", "Services with credentials of their own."),
    "audit": Command(
        "orderplane.cli.audit:audit_command",
        "Compare orders, stock, payments, labels, events and messages; exit code 1 on a violation.",
    ),
    "notifications": Command(
        "orderplane.cli.notifications:notifications",
        "Count messages by channel and state, with the age of the oldest waiting one.",
    ),
    "retry": Command("orderplane.cli.repair:retry", "Retry a stalled order now."),
    "resolve": Command(
        "orderplane.cli.repair:resolve",
        "Record that a person settled what a provider refused, so that compensation continues.",
    ),
    "erase": Command("orderplane.cli.erasure:erase", "Erase the personal data of a customer."),
    "login": Command("orderplane.cli.login:login", "Log in, until `orderplane logout`."),
    "logout": Command("orderplane.cli.login:logout", "Log out, and revoke the login at the gateway."),
    "drain": Command("orderplane.cli.drain:drain", "Stop new orders, and wait until every order is sealed."),
    "renew-certificate": Command(
        "orderplane.cli.install:renew_certificate",
        "Renew the webhook's certificate if two thirds of its life are over.",
    ),
    "migrate": Command(
        "orderplane.cli.install:migrate",
        "Migrate the database of `ORDERPLANE_POSTGRES_DSN` to the newest schema.",
    ),
    "version": Command("orderplane.cli.version:version", "Print the version."),
}
AVAILABLE = {**(_DEVELOPER_COMMANDS if find_spec("orderplane.dev") else {}), **_COMMANDS}


class LazyGroup(TyperGroup):
    """Imports the module of a command when it is called. A list of commands imports none of them: together
    they take more than a second."""

    def list_commands(self, ctx: Any) -> list[str]:
        return [*AVAILABLE, *super().list_commands(ctx)]

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        if cmd_name in AVAILABLE:
            return _load(cmd_name).get_command(ctx, cmd_name)
        return super().get_command(ctx, cmd_name)

    def format_help(self, ctx: Any, formatter: Any) -> None:
        self._listed().format_help(ctx, formatter)

    def shell_complete(self, ctx: Any, incomplete: str) -> Any:
        return self._listed().shell_complete(ctx, incomplete)

    def _listed(self) -> TyperGroup:
        """This group with commands that can only be listed."""
        return TyperGroup(
            name=self.name,
            commands={name: TyperCommand(name, help=command.help) for name, command in AVAILABLE.items()},
            params=self.params,
            help=self.help,
            rich_markup_mode=self.rich_markup_mode,
        )


app = typer.Typer(
    name="orderplane",
    cls=LazyGroup,
    no_args_is_help=True,
    rich_markup_mode="rich",
    pretty_exceptions_show_locals=False,
)


def _print_version(is_asked: bool) -> None:
    if is_asked:
        typer.echo(__version__)
        raise typer.Exit


@app.callback()
def _group(
    is_version_asked: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Order processing as Kubernetes custom resources."""
    _read_mounted_secrets()


def _read_mounted_secrets() -> None:
    if folder := os.environ.get("ORDERPLANE_SECRETS_DIR"):
        _read_secrets(Path(folder))


def _read_secrets(folder: Path) -> None:
    """Take what the environment does not set from the files of a mounted Secret, as every process does."""
    for file in folder.glob("ORDERPLANE_*"):
        os.environ.setdefault(file.name, file.read_text(encoding="utf-8").strip())


@cache
def _load(name: str) -> Any:
    """A group with only this command, or group of commands."""
    module, _, attribute = AVAILABLE[name].place.partition(":")
    found = getattr(import_module(module), attribute)
    holder = typer.Typer(rich_markup_mode="rich", pretty_exceptions_show_locals=False, add_completion=False)
    holder.callback()(_read_mounted_secrets)
    if isinstance(found, typer.Typer):
        holder.add_typer(found, name=name)
    else:
        holder.command(name)(found)
    return get_command(holder)


if __name__ == "__main__":
    app()
