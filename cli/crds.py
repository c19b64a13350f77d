"""`orderplane crds`: the resource definitions and policies of a cluster."""

from typing import Annotated

import typer

from orderplane.adapters.kubernetes.install import install, shipped_manifests
from orderplane.cli.console import console, run

app = typer.Typer(help="Resource definitions.", no_args_is_help=True)


@app.callback()
def _group() -> None:
    """Resource definitions."""


@app.command("install")
def install_command(
    context: Annotated[str | None, typer.Option(help="A context of your kubeconfig.")] = None,
    with_policies: Annotated[
        bool, typer.Option(help="Install roles and admission policies too (they expect the webhook to run).")
    ] = False,
) -> None:
    """Install or update the CRDs in the cluster of `KUBECONFIG`.

    Example:

        orderplane crds install --context kind-orderplane
    """
    files = shipped_manifests(with_policies=with_policies)
    for name in run(install(files, kubeconfig=None, context=context)):
        console.print(name, markup=False, soft_wrap=True)
