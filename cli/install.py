"""`orderplane crds`, `migrate`, `renew-certificate`: what a cluster and a database need first."""

import os
from datetime import UTC, datetime
from typing import Annotated

import typer

from orderplane.adapters.kubernetes.client import ApiClient
from orderplane.adapters.kubernetes.install import install, shipped_manifests
from orderplane.adapters.kubernetes.webhook_certificate import renew
from orderplane.adapters.postgres.migrate import migrate as migrate_database
from orderplane.cli.console import AsJson, console, need, run
from orderplane.cli.documents import CertificateRenewal, Installed, Migrated, print_json

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
    as_json: AsJson = False,
) -> None:
    """Install or update the CRDs in the cluster of `KUBECONFIG`.

    Example:

        orderplane crds install --context kind-orderplane
    """
    files = shipped_manifests(with_policies=with_policies)
    names = run(install(files, kubeconfig=None, context=context))
    if as_json:
        print_json(Installed(installed=tuple(names)))
        return
    for name in names:
        console.print(name, markup=False, soft_wrap=True)


def renew_certificate(
    at_once: Annotated[bool, typer.Option("--now", help="Renew it even if it is not due.")] = False,
    as_json: AsJson = False,
) -> None:
    """Renew the webhook's certificate if two thirds of its life are over.

    For clusters without cert-manager. Writes the caBundle of the webhook configuration, and the Secret that
    has the name of its Service and -tls. Both have to exist. A CronJob runs it hourly.

    Example:

        orderplane renew-certificate
    """

    async def renew_now() -> str:
        async with await ApiClient.connect(
            user_agent="orderplane-cli", timeout_seconds=30, kubeconfig=os.environ.get("KUBECONFIG")
        ) as api:
            return await renew(api, datetime.now(UTC), even_if_not_due=at_once)

    done = run(renew_now())
    if as_json:
        print_json(CertificateRenewal(done=done))
    else:
        console.print(done)


def migrate(as_json: AsJson = False) -> None:
    """Migrate the database of `ORDERPLANE_POSTGRES_DSN` to the newest schema.

    Example:

        eval "$(orderplane dev env)" && orderplane migrate
    """
    applied = run(migrate_database(need("ORDERPLANE_POSTGRES_DSN")))
    if as_json:
        print_json(Migrated(applied=applied))
        return
    console.print(f"{applied} migrations applied." if applied else "Up to date.")
