"""`orderplane users`, `clients` and `keys`: accounts of a merchant, and the keys that sign access tokens."""

import os
import sys
from pathlib import Path
from typing import Annotated, Any

import typer
from pydantic import TypeAdapter, ValidationError

from orderplane.adapters.postgres.pool import open_pool
from orderplane.adapters.webhook_endpoints.secrets import new_key as new_endpoint_key
from orderplane.cli.console import AsJson, console, fail, need, run
from orderplane.cli.documents import Client, EndpointKey, Key, User, print_json
from orderplane.cli.exit_codes import WRONG_USAGE
from orderplane.gateway.identity.confirmations import Confirmations
from orderplane.gateway.identity.email_address import needs_smtputf8
from orderplane.gateway.identity.grants import new_secret
from orderplane.gateway.identity.keyring import new_key
from orderplane.gateway.identity.passwords import Passwords
from orderplane.gateway.identity.requests import Email, Merchant, Password
from orderplane.gateway.identity.user_store import EmailTaken, UserStore, new_client_id, new_user_id
from orderplane.gateway.principal import Role

users = typer.Typer(help="Users: customers, staff and administrators of a merchant.", no_args_is_help=True)
clients = typer.Typer(help="Services with credentials of their own.", no_args_is_help=True)

keys = typer.Typer(help="Keys: of access tokens, and of webhook endpoints.", no_args_is_help=True)

MerchantOption = Annotated[str, typer.Option(help="The merchant of the account: a namespace.")]


@users.callback()
def _users() -> None:
    """Users: customers, staff and administrators of a merchant."""


@clients.callback()
def _clients() -> None:
    """Services with credentials of their own."""


@users.command("add")
def add_user(
    email: Annotated[str, typer.Argument(help="The e-mail address of the login.")],
    role: Annotated[Role, typer.Option(help="customer, merchant or admin.")] = Role.MERCHANT,
    merchant: MerchantOption = "demo",
    name: Annotated[str, typer.Option(help="The name of the user.")] = "",
    is_confirmed: Annotated[
        bool,
        typer.Option(
            "--confirmed",
            help="The address is known to be the user's. Otherwise a mail asks them to confirm it.",
        ),
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Create an account. The password is asked for, or read as one line from standard input.

    Examples:

        orderplane users add ada@example.org --role admin --merchant demo

        printf '%s' "$PASSWORD" | orderplane users add ada@example.org --role customer --confirmed
    """
    if role is Role.SERVICE:
        fail("A service is a client: orderplane clients add NAME", code=WRONG_USAGE)
    is_asked = sys.stdin.isatty()
    password = (
        typer.prompt("Password", hide_input=True, confirmation_prompt=True, err=True)
        if is_asked
        else sys.stdin.readline().rstrip("\n")
    )
    email = _check(Email, email, "the address")
    if needs_smtputf8(email) and os.environ.get("ORDERPLANE_MAIL_SMTPUTF8", "").lower() not in ("1", "true"):
        fail(
            "No mail can be sent to letters beyond ASCII before the @. Give another address, or set "
            "ORDERPLANE_MAIL_SMTPUTF8=true if the mail server takes them.",
            code=WRONG_USAGE,
        )
    _check(Password, password, "the password")
    _check(Merchant, merchant, "the merchant")
    user_id = run(_add_user(email, password, role, merchant, name, is_confirmed=is_confirmed))
    if as_json:
        print_json(User(id=user_id, email=email, role=role.value, merchant=merchant, confirmed=is_confirmed))
    else:
        console.print(f"{role.value} {user_id} of {merchant} can log in.")


@clients.command("add")
def add_client(
    name: Annotated[str, typer.Argument(help="The name of the service.")],
    merchant: MerchantOption = "demo",
    as_json: AsJson = False,
) -> None:
    """Create the credentials of a service, and print them. They cannot be shown again.

    Example:

        orderplane clients add warehouse --merchant demo
    """
    _check(Merchant, merchant, "the merchant")
    client_id, secret = run(_add_client(name, merchant))
    if as_json:
        print_json(Client(client_id=client_id, client_secret=secret, name=name, merchant=merchant))
        return
    console.print(f"client_id      {client_id}\nclient_secret  {secret}", soft_wrap=True)


async def _add_user(
    email: str, password: str, role: Role, merchant: str, name: str, *, is_confirmed: bool
) -> str:
    pool = await open_pool(need("ORDERPLANE_POSTGRES_DSN"), size=2)
    try:
        async with Passwords() as passwords:
            password_hash = await passwords.hash(password)
        person = await UserStore(pool).add(
            merchant, new_user_id(), email=email, password_hash=password_hash, role=role.value, name=name,
            is_confirmed=is_confirmed,
        )  # fmt: skip
        if not is_confirmed:
            await Confirmations(pool).propose_email(merchant, person.id, email, checked=password_hash)
    except EmailTaken:
        fail(f"A user of {merchant} has this address already. Nothing was changed.")
    finally:
        await pool.close()
    return person.id


async def _add_client(name: str, merchant: str) -> tuple[str, str]:
    pool = await open_pool(need("ORDERPLANE_POSTGRES_DSN"), size=2)
    client_id, (secret, secret_hash) = new_client_id(), new_secret()
    try:
        await UserStore(pool).add_client(merchant, client_id, name=name, secret_hash=secret_hash)
    finally:
        await pool.close()
    return client_id, secret


def _check(kind: Any, value: str, what: str) -> str:
    """The value in the form that is stored."""
    try:
        checked: str = TypeAdapter(kind).validate_python(value)
    except ValidationError as problem:
        fail(f"Wrong: {what}. {problem.errors()[0]['msg']}.", code=WRONG_USAGE)
    return checked


@keys.callback()
def _keys() -> None:
    """Keys: of access tokens, and of webhook endpoints."""


@keys.command()
def new(
    folder: Annotated[
        Path, typer.Argument(help="The folder of ORDERPLANE_SIGNING_KEYS, or the source of its Secret.")
    ],
    as_json: AsJson = False,
) -> None:
    """Create a P-256 key in a new file, readable by its owner only.

    To rotate: create a key, wait until every gateway has it and 15 minutes more (the lifetime of a token),
    then remove the old file.

    Example:

        orderplane keys new ./signing-keys
    """
    try:
        made = new_key(folder)
    except OSError as problem:
        fail(f"No key was made: {problem}")
    if as_json:
        print_json(Key(file=str(made)))
        return
    console.print(f"{made} signs in a minute, wherever it is mounted.", soft_wrap=True)


@keys.command()
def endpoint(as_json: AsJson = False) -> None:
    """Print a new key for ORDERPLANE_ENDPOINT_KEYS, by which secrets of webhook endpoints are encrypted.

    To rotate: put it before the old one, with a comma between, for the gateway and the deliverer. The
    deliverer encrypts every secret anew; when it has logged that, take the old key out.

    Example:

        orderplane keys endpoint
    """
    made = new_endpoint_key()
    if as_json:
        print_json(EndpointKey(key=made))
    else:
        typer.echo(made)
