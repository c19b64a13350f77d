"""The `orderplane` command."""

import typer

from orderplane import __version__
from orderplane.cli import (
    audit,
    bench,
    crds,
    dev,
    dlq,
    keys,
    login,
    notifications,
    orders,
    people,
    rescue,
    stock,
)
from orderplane.cli.console import run

app = typer.Typer(
    name="orderplane",
    help="Order processing as Kubernetes custom resources.",
    no_args_is_help=True,
    rich_markup_mode="rich",
    pretty_exceptions_show_locals=False,
)
app.add_typer(dev.app, name="dev")
app.add_typer(bench.app, name="bench")
app.add_typer(orders.app, name="orders")
app.add_typer(stock.app, name="stock")
app.add_typer(dlq.app, name="dlq")
app.add_typer(crds.app, name="crds")
app.add_typer(keys.app, name="keys")
app.add_typer(people.users, name="users")
app.add_typer(people.clients, name="clients")
app.command("audit")(audit.audit_command)
app.command("notifications")(notifications.notifications)
app.command("retry")(rescue.retry)
app.command("resolve")(rescue.resolve)
app.command("login")(login.login)
app.command("logout")(login.logout)


@app.command()
def migrate() -> None:
    """Bring the database of `ORDERPLANE_POSTGRES_DSN` up to the newest schema.

    Example:

        eval "$(orderplane dev env)" && orderplane migrate
    """
    from orderplane.adapters.postgres.migrate import migrate as migrate_database  # noqa: PLC0415
    from orderplane.cli.console import console, need  # noqa: PLC0415

    applied = run(migrate_database(need("ORDERPLANE_POSTGRES_DSN")))
    console.print(f"{applied} migrations applied." if applied else "Up to date.")


@app.command()
def version() -> None:
    """Print the version.

    Example:

        orderplane version
    """
    typer.echo(__version__)


if __name__ == "__main__":
    app()
