"""The two steps by which `compose.yaml` sets itself up, each repeatable.

`credentials` runs before anything else: it draws every secret of this installation, once. `install` runs when
the API server and PostgreSQL answer: roles, policies, schema, products of the demo, and an administrator.

    python -m orderplane.dev.compose.first_run credentials|install FOLDER
"""

import asyncio
import base64
import json
import secrets
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from orderplane.adapters.kubernetes.install import WebhookTarget, install, shipped_manifests
from orderplane.adapters.postgres.migrate import migrate
from orderplane.adapters.postgres.pool import open_pool
from orderplane.adapters.webhook_endpoints.secrets import new_key as new_endpoint_key
from orderplane.dev.demo.accounts import ADMINISTRATOR, add_administrator
from orderplane.dev.demo.products import MERCHANT, seed
from orderplane.dev.localplane.credentials import (
    Authority,
    admission_configuration,
    draw_tokens,
    kubeconfig,
    token_file,
    write_private,
)
from orderplane.gateway.identity.keyring import new_key

WEBHOOK = "https://webhook:9443"
API_SERVER = "https://kubernetes:6443"
ON_THE_HOST = "https://127.0.0.1:16443"
"""Where compose.yaml publishes the API server, for the kubeconfigs of people."""

MERCHANT_ACCESS = Path("/etc/orderplane/merchant-access.yaml")
"""docs/examples/merchant-access.yaml, as compose.yaml mounts it."""

SERVER_KUBECONFIG = Path("server", "kubeconfig.yaml")
"""Where the API server writes its own kubeconfig, in the folder of credentials."""

_DONE = "credentials.json"
_OTHERS_READ = 0o640
"""PostgreSQL runs as another user, in our group."""


def make_credentials(folder: Path) -> bool:
    """Draw every secret of this installation; returns False if that was done before."""
    settings = folder / "settings"
    settings.mkdir(exist_ok=True, mode=0o700, parents=True)
    endpoint_keys = settings / "ORDERPLANE_ENDPOINT_KEYS"
    if not endpoint_keys.exists():  # an installation of an older version lacks it
        write_private(endpoint_keys, new_endpoint_key().encode())
    if (folder / _DONE).exists():
        return False
    authority = Authority(folder / "pki")
    authority.serving("webhook", "webhook")
    admission_configuration(authority, folder, WEBHOOK)
    tokens = draw_tokens()
    write_private(folder / "tokens.csv", token_file(tokens).encode())
    new_key(folder / "signing-keys")
    password = secrets.token_urlsafe(24)
    write_private(folder / "postgres-password", password.encode())
    (folder / "postgres-password").chmod(_OTHERS_READ)
    (folder / SERVER_KUBECONFIG).parent.mkdir(exist_ok=True, mode=0o700)
    write_private(
        settings / "ORDERPLANE_POSTGRES_DSN",
        f"postgresql://postgres:{password}@postgres:5432/postgres".encode(),
    )
    write_private(folder / "admin-password", secrets.token_urlsafe(12).encode())
    # The last one: a run that was interrupted begins again.
    write_private(folder / _DONE, json.dumps(tokens).encode())
    return True


def write_kubeconfigs(folder: Path, of_server: Path, tokens: Mapping[str, str]) -> None:
    """A kubeconfig for each identity.

    Args:
        of_server: The API server's own kubeconfig, which has its authority.
    """
    cluster = yaml.safe_load(of_server.read_text(encoding="utf-8"))["clusters"][0]["cluster"]
    ca = base64.b64decode(cluster["certificate-authority-data"])
    target = folder / "kubeconfigs"
    target.mkdir(exist_ok=True, mode=0o700)
    for identity, token in tokens.items():
        server = ON_THE_HOST if identity == "merchant" else API_SERVER
        write_private(target / f"{identity}.yaml", kubeconfig(server, ca, identity, token))


async def install_all(
    folder: Path, dsn: str, *, admin: Path, merchant_access: Path = MERCHANT_ACCESS
) -> None:
    """Install what the API server and the database need, or bring it up to date.

    Args:
        admin: The kubeconfig to install with.

    Raises:
        kubernetes.client.ApiException, asyncpg.PostgresError: one of them refused something.
    """
    ca = (folder / "pki" / "ca.crt").read_bytes()
    await install(
        [*shipped_manifests(with_policies=True), merchant_access],
        kubeconfig=admin,
        webhook=WebhookTarget(WEBHOOK, base64.b64encode(ca).decode()),
        namespaces=(MERCHANT,),
    )
    await migrate(dsn)
    pool = await open_pool(dsn, size=2)
    try:
        await seed(pool)
        await add_administrator(pool, (folder / "admin-password").read_text())
    finally:
        await pool.close()


def _install(folder: Path) -> None:
    tokens: dict[str, Any] = json.loads((folder / _DONE).read_text())
    write_kubeconfigs(folder, folder / SERVER_KUBECONFIG, tokens)
    dsn = (folder / "settings" / "ORDERPLANE_POSTGRES_DSN").read_text()
    asyncio.run(install_all(folder, dsn, admin=folder / "kubeconfigs" / "admin.yaml"))


def main(words: list[str]) -> int:
    """Run one step; returns the exit code."""
    match words:
        case ["credentials", folder]:
            made = make_credentials(Path(folder))
            _say("Credentials are made." if made else "Credentials were there already.")
        case ["install", folder]:
            _install(Path(folder))
            _say(f"Installed. {ADMINISTRATOR} can log in; the password is in {folder}/admin-password.")
        case _:
            sys.stderr.write("usage: python -m orderplane.dev.compose.first_run credentials|install FOLDER\n")
            return 2
    return 0


def _say(text: str) -> None:
    sys.stdout.write(f"{text}\n")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
