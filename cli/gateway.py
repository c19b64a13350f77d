"""What the commands that call the gateway share: its URL, the login, what is typed, exit codes."""

import json
import os
from collections.abc import Coroutine, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any, NoReturn, TypeVar

import typer

from orderplane.cli.console import fail, run
from orderplane.cli.exit_codes import LOG_IN_FIRST, NOT_FOUND, REFUSED, TRY_LATER, WRONG_USAGE
from orderplane.cli.token_file import TokenFile, url_in
from orderplane.client.accounts import ClientSecret, MemoryTokenStore, TokenStore
from orderplane.client.client import Client, open_client
from orderplane.client.responses import Item
from orderplane.client.transport import ApiProblem

T = TypeVar("T")

_LOGIN_CODES = frozenset({"unauthenticated", "invalid_token", "invalid_grant", "invalid_client"})


def token_path() -> Path:
    """The token file, in the user's configuration folder."""
    return Path(typer.get_app_dir("orderplane")) / "login.json"


def gateway_url() -> str:
    """The URL of the gateway: `ORDERPLANE_GATEWAY`, else that of the last login."""
    url = os.environ.get("ORDERPLANE_GATEWAY") or url_in(token_path())
    if not url:
        fail("No gateway is known. Log in first: orderplane login --url URL", code=LOG_IN_FIRST)
    return url


def client_credentials() -> ClientSecret | None:
    """The client credentials in the environment. They need no login, and take precedence over one."""
    client_id = os.environ.get("ORDERPLANE_CLIENT_ID")
    secret = os.environ.get("ORDERPLANE_CLIENT_SECRET")
    return ClientSecret(client_id, secret, merchant()) if client_id and secret else None


def merchant() -> str | None:
    """The merchant, if it is not the gateway's default."""
    return os.environ.get("ORDERPLANE_MERCHANT") or None


def token_store(url: str) -> TokenStore:
    """Where tokens are stored. Those of a service are valid for 15 minutes and stay in memory."""
    return MemoryTokenStore() if client_credentials() else TokenFile(token_path(), url)


def read_object(file: typer.FileText, what: str) -> Mapping[str, Any]:
    """The JSON object in a file.

    Args:
        what: For the error message: an order, a price rule.
    """
    try:
        # Editors of Windows begin a file with a byte order mark.
        document = json.loads(file.read().removeprefix("\ufeff"))
    except ValueError:
        document = None
    if not isinstance(document, dict):
        fail(f"{file.name} is no {what}: it has to be a JSON object.", code=WRONG_USAGE)
    return document


def read_items(texts: Sequence[str]) -> list[Item]:
    """Products and quantities that were typed as SKU=QUANTITY."""
    items: list[Item] = []
    for text in texts:
        sku, _, quantity = text.rpartition("=")
        if not sku or not quantity.isdecimal():
            fail(f"{text} is no line; write it as TEA-EARL-GREY-100=2.", code=WRONG_USAGE)
        items.append({"sku": sku, "quantity": int(quantity)})
    return items


def call(work: Coroutine[Any, Any, T]) -> T:
    """Run a command; a problem of the gateway is printed and sets the exit code."""

    async def with_problems() -> T:
        try:
            return await work
        except ApiProblem as problem:
            refuse(problem)

    return run(with_problems())


def refuse(problem: ApiProblem) -> NoReturn:
    """Print a problem, and end with its exit code."""
    places = (f"  {e.get('pointer') or e.get('parameter')}: {e['detail']}" for e in problem.errors)
    hint = "\nLog in: orderplane login" if exit_code_of(problem) == LOG_IN_FIRST else ""
    fail("\n".join([str(problem), *places]) + hint, code=exit_code_of(problem))


def exit_code_of(problem: ApiProblem) -> int:
    """The exit code of a problem."""
    if problem.code in _LOGIN_CODES:
        return LOG_IN_FIRST
    if problem.status == 404:
        return NOT_FOUND
    if problem.status in (0, 429, 502, 503, 504) or problem.retry_after is not None:
        return TRY_LATER
    return REFUSED


def client() -> AbstractAsyncContextManager[Client]:
    """A client of the gateway, logged in as the environment or the file of tokens says."""
    url = gateway_url()
    return open_client(url, client_credentials(), token_store=token_store(url))
