"""`orderplane crds` and `orderplane migrate`: what a cluster and a database need before a process starts."""

from typing import Annotated

import typer

from orderplane.adapters.kubernetes.install import install, shipped_manifests
from orderplane.adapters.postgres.migrate import migrate as migrate_database
from orderplane.cli.console import console, need, run

crds = typer.Typer(help="Custom resource definitions.", no_args_is_help=True)


@crds.callback()
def _group() -> None:
    """Custom resource definitions."""


@crds.command("install")
def install_command(
    context: Annotated[str | None, typer.Option(help="The context in your kubeconfig.")] = None,
    with_policies: Annotated[
        bool,
        typer.Option(help="Also install roles, webhook and admission policies (the webhook has to run)."),
    ] = False,
) -> None:
    """Install or update the CRDs in the cluster of `KUBECONFIG`.

    Example:

        orderplane crds install --context kind-orderplane
    """
    files = shipped_manifests(with_policies=with_policies)
    for name in run(install(files, kubeconfig=None, context=context)):
        console.print(name, markup=False, soft_wrap=True)


def migrate() -> None:
    """Migrate the database of `ORDERPLANE_POSTGRES_DSN` to the newest schema.

    Example:

        eval "$(orderplane dev env)" && orderplane migrate
    """
    applied = run(migrate_database(need("ORDERPLANE_POSTGRES_DSN")))
    console.print(f"{applied} migrations applied." if applied else "Up to date.")
