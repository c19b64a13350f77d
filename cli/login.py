"""`orderplane login` and `orderplane logout`."""

import os
import sys
from typing import Annotated

import typer

from orderplane.cli import gateway
from orderplane.cli.console import console, fail
from orderplane.cli.token_file import TokenFile
from orderplane.client.accounts import ClientSecret, Password, get_profile
from orderplane.client.client import open_client

_SECRET = "ORDERPLANE_CLIENT_SECRET"  # noqa: S105 - the name of a variable


def login(
    email: Annotated[str | None, typer.Argument(help="Your address; asked for without it.")] = None,
    url: Annotated[str | None, typer.Option(envvar="ORDERPLANE_GATEWAY", help="The gateway.")] = None,
    merchant: Annotated[
        str | None,
        typer.Option(envvar="ORDERPLANE_MERCHANT", help="Whose account; the gateway's own without it."),
    ] = None,
    client_id: Annotated[
        str | None,
        typer.Option(envvar="ORDERPLANE_CLIENT_ID", help="Log a service in; its secret is asked for too."),
    ] = None,
) -> None:
    """Log in, and stay it until `orderplane logout`.

    The password or secret is asked for, or read as one line from standard input; never is it an argument.
    A service's secret may be in ORDERPLANE_CLIENT_SECRET. Where it and ORDERPLANE_CLIENT_ID are set, no
    login is needed.

    Examples:

        orderplane login ada@example.org --url https://orders.example

        printf '%s' "$PASSWORD" | orderplane login ada@example.org

        orderplane login --client-id c-3k9x2m7qpl5v8r4t
    """
    if not url:
        fail("Which gateway? Give --url, or set ORDERPLANE_GATEWAY.", code=gateway.WRONG_USAGE)
    credentials: Password | ClientSecret
    if client_id:
        if email:
            fail("Either a person or a service: leave out one of them.", code=gateway.WRONG_USAGE)
        secret = os.environ.get(_SECRET) or _secret("Secret")
        credentials = ClientSecret(client_id, secret, merchant)
    else:
        address = email or typer.prompt("E-mail", err=True)
        credentials = Password(address, _secret("Password"), merchant)
    who = gateway.ask(_login(url, credentials))
    console.print(f"Logged in at {url} as {who}.", markup=False, soft_wrap=True)


def logout() -> None:
    """Log out, and have the login forgotten by the gateway too.

    Example:

        orderplane logout
    """
    gateway.ask(_logout(gateway.address()))
    console.print("Logged out.")


async def _login(url: str, credentials: Password | ClientSecret) -> str:
    keep = TokenFile(gateway.token_path(), url)
    async with open_client(url, credentials, token_store=keep) as client:
        await client.login.log_in()
        if isinstance(credentials, ClientSecret):
            return credentials.client_id
        profile = await get_profile(client.caller)
        return f"{profile['role']} {profile['id']} of {profile['merchant']}"


async def _logout(url: str) -> None:
    async with open_client(url, token_store=TokenFile(gateway.token_path(), url)) as client:
        await client.login.log_out()


def _secret(what: str) -> str:
    if sys.stdin.isatty():
        return str(typer.prompt(what, hide_input=True, err=True))
    return sys.stdin.readline().rstrip("\n")
