"""`scripts/local-secrets`: draw what kustomize/overlays/local wants in its folder `secrets`."""

import secrets
import shutil
from pathlib import Path

import typer

from orderplane.adapters.webhook_endpoints.secrets import new_key as new_endpoint_key
from orderplane.cli.console import console
from orderplane.dev.localplane.credentials import Authority, write_private
from orderplane.dev.localplane.paths import project_root
from orderplane.gateway.identity.keyring import new_key

WEBHOOK = "orderplane-webhook.orderplane-system.svc"
_POSTGRES = "orderplane-postgres.orderplane-system.svc"
_SMTP = "smtp://orderplane-sandbox.orderplane-system.svc:4025"

Settings = dict[str, str]


def secrets_folder() -> Path:
    """Where the overlay reads them."""
    return project_root() / "kustomize" / "overlays" / "local" / "secrets"


def settings(password: str) -> dict[str, Settings]:
    """The secret settings of each component, with random keys.

    Args:
        password: Of the database.
    """
    database = {"ORDERPLANE_POSTGRES_DSN": f"postgresql://postgres:{password}@{_POSTGRES}:5432/postgres"}
    providers = {
        "ORDERPLANE_PAYMENTS_KEY": f"sk_test_{secrets.token_hex(16)}",
        "ORDERPLANE_CARRIER_KEY": f"EZTK{secrets.token_hex(16)}",
    }
    sms = {"ORDERPLANE_SMS_KEY": f"AC{secrets.token_hex(16)}:{secrets.token_hex(16)}"}
    endpoints = {"ORDERPLANE_ENDPOINT_KEYS": new_endpoint_key()}
    mailbox = {"ORDERPLANE_MAILBOX_KEY": f"reader:{secrets.token_hex(16)}"}
    return {
        "migrate": database,
        "gateway": database | endpoints,
        "operator": database | providers,
        "webhook": database,
        "relay": database,
        "notifier": database | sms | {"ORDERPLANE_SMTP_URL": _SMTP},
        "deliverer": database | endpoints,
        "audit": database | providers | sms | mailbox,
        "sandbox": providers | sms | mailbox,
    }


def write(target: Path) -> None:
    """Write every file of the overlay's Secrets, readable by their owner only."""
    target.mkdir(mode=0o700)
    password = secrets.token_urlsafe(24)
    (target / "postgres").mkdir()
    write_private(target / "postgres" / "password", password.encode())
    for component, values in settings(password).items():
        lines = [f"{name}={value}\n" for name, value in values.items()]
        write_private(target / f"{component}.env", "".join(lines).encode())
    key = new_key(target / "signing-keys")
    key.rename(key.with_name("demo.pem"))
    certificate, private = Authority(target / "webhook").serving("tls", WEBHOOK, f"{WEBHOOK}.cluster.local")
    assert (certificate.name, private.name) == ("tls.crt", "tls.key")


def main(again: bool = typer.Option(False, help="Draw new ones; apply them, and restart every pod.")) -> None:
    """Draw the passwords, keys and certificates of kustomize/overlays/local, once.

    The certificate is valid for a year.

    Example:

        scripts/local-secrets && kubectl apply --server-side -k kustomize/overlays/local
    """
    target = secrets_folder()
    if again:
        shutil.rmtree(target, ignore_errors=True)
    if target.exists():
        console.print(f"{target} is there already.", soft_wrap=True)
        return
    write(target)
    console.print(f"Wrote {target}, which git ignores.", soft_wrap=True)


if __name__ == "__main__":
    typer.run(main)
