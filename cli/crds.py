"""`orderplane crds`: the resource definitions and policies of a cluster."""

from typing import Annotated

import typer

from orderplane.adapters.kubernetes.install import install
from orderplane.cli.console import console, run
from orderplane.localplane.places import project_root

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
    root = project_root()
    files = sorted((root / "crds").glob("*.yaml"))
    if with_policies:
        files += sorted((root / "manifests").glob("*.yaml"))
    for name in run(install(files, kubeconfig=None, context=context)):
        console.print(name, markup=False, soft_wrap=True)
