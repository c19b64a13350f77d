"""`orderplane login` and `orderplane logout`."""

import os
import sys
from typing import Annotated

import typer

from orderplane.cli import gateway
from orderplane.cli.console import AsJson, console, fail
from orderplane.cli.documents import Login, Logout, print_json
from orderplane.cli.exit_codes import WRONG_USAGE
from orderplane.cli.token_file import TokenFile
from orderplane.client.accounts import ClientSecret, Password, get_profile
from orderplane.client.client import open_client

_SECRET = "ORDERPLANE_CLIENT_SECRET"  # noqa: S105 - the name of a variable


def login(
    email: Annotated[str | None, typer.Argument(help="Your e-mail address; asked for if missing.")] = None,
    url: Annotated[
        str | None, typer.Option(envvar="ORDERPLANE_GATEWAY", help="The URL of the gateway.")
    ] = None,
    merchant: Annotated[
        str | None,
        typer.Option(
            envvar="ORDERPLANE_MERCHANT", help="The merchant of the account; by default that of the gateway."
        ),
    ] = None,
    client_id: Annotated[
        str | None,
        typer.Option(envvar="ORDERPLANE_CLIENT_ID", help="Log in as a service; its secret is asked for."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Log in, until `orderplane logout`.

    The password or secret is asked for, or read as one line from standard input; it is never an argument. The
    secret of a service can be in ORDERPLANE_CLIENT_SECRET. If that and ORDERPLANE_CLIENT_ID are set, no
    login is needed.

    Examples:

        orderplane login ada@example.org --url https://orders.example

        printf '%s' "$PASSWORD" | orderplane login ada@example.org

        orderplane login --client-id c-3k9x2m7qpl5v8r4t
    """
    if not url:
        fail(
            "The URL of the gateway is missing. Give --url, or set ORDERPLANE_GATEWAY.",
            code=WRONG_USAGE,
        )
    credentials: Password | ClientSecret
    if client_id:
        if email:
            fail("Give either an e-mail address or --client-id.", code=WRONG_USAGE)
        secret = os.environ.get(_SECRET) or _secret("Secret")
        credentials = ClientSecret(client_id, secret, merchant)
    else:
        address = email or typer.prompt("E-mail", err=True)
        credentials = Password(address, _secret("Password"), merchant)
    who = gateway.call(_login(url, credentials))
    if as_json:
        print_json(who)
        return
    name = f"{who.role} {who.id} of {who.merchant}" if who.role else who.id
    console.print(f"Logged in at {url} as {name}.", markup=False, soft_wrap=True)


def logout(as_json: AsJson = False) -> None:
    """Log out, and revoke the login at the gateway.

    Example:

        orderplane logout
    """
    url = gateway.gateway_url()
    gateway.call(_logout(url))
    if as_json:
        print_json(Logout(gateway=url))
    else:
        console.print("Logged out.")


async def _login(url: str, credentials: Password | ClientSecret) -> Login:
    token_store = TokenFile(gateway.token_path(), url)
    async with open_client(url, credentials, token_store=token_store) as client:
        await client.login.log_in()
        if isinstance(credentials, ClientSecret):
            return Login(gateway=url, id=credentials.client_id, role=None, merchant=credentials.merchant)
        profile = await get_profile(client.caller)
        return Login(gateway=url, id=profile["id"], role=profile["role"], merchant=profile["merchant"])


async def _logout(url: str) -> None:
    async with open_client(url, token_store=TokenFile(gateway.token_path(), url)) as client:
        await client.login.log_out()


def _secret(what: str) -> str:
    if sys.stdin.isatty():
        return str(typer.prompt(what, hide_input=True, err=True))
    return sys.stdin.readline().rstrip("\n")
