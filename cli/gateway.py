"""What the commands for people share: the gateway, who is logged in there, and what an exit code means.

0 done, 1 refused, 2 wrong usage, 3 log in first, 4 not found, 5 try again later.
"""

import os
from collections.abc import Coroutine
from pathlib import Path
from typing import Any, NoReturn, TypeVar

import typer

from orderplane.cli.console import fail, run
from orderplane.cli.token_file import TokenFile, url_in
from orderplane.client.accounts import ClientSecret, MemoryTokenStore, TokenStore
from orderplane.client.transport import ApiProblem

T = TypeVar("T")

REFUSED, WRONG_USAGE, LOG_IN_FIRST, NOT_FOUND, TRY_LATER = 1, 2, 3, 4, 5

EXIT_CODES = "Ends with 0 done, 1 refused, 2 wrong usage, 3 log in first, 4 not found, 5 try again later."

_LOGIN_CODES = frozenset({"unauthenticated", "invalid_token", "invalid_grant", "invalid_client"})


def token_path() -> Path:
    """The file of the tokens, in the user's configuration folder."""
    return Path(typer.get_app_dir("orderplane")) / "login.json"


def address() -> str:
    """The gateway to talk to: `ORDERPLANE_GATEWAY`, else where somebody is logged in."""
    url = os.environ.get("ORDERPLANE_GATEWAY") or url_in(token_path())
    if not url:
        fail("No gateway to talk to. Log in first: orderplane login --url URL", code=LOG_IN_FIRST)
    return url


def service() -> ClientSecret | None:
    """The service that the environment names; it needs no login, and comes before who is logged in."""
    client_id = os.environ.get("ORDERPLANE_CLIENT_ID")
    secret = os.environ.get("ORDERPLANE_CLIENT_SECRET")
    return ClientSecret(client_id, secret, merchant()) if client_id and secret else None


def merchant() -> str | None:
    """Whose shop it is, where it is not the gateway's own."""
    return os.environ.get("ORDERPLANE_MERCHANT") or None


def keep(url: str) -> TokenStore:
    """Where tokens are kept: a service's are good for a quarter of an hour, and not worth a file."""
    return MemoryTokenStore() if service() else TokenFile(token_path(), url)


def ask(work: Coroutine[Any, Any, T]) -> T:
    """Run a command's work; a problem is said in a line or a few, and ends it with its code."""

    async def asked() -> T:
        try:
            return await work
        except ApiProblem as problem:
            refuse(problem)

    return run(asked())


def refuse(problem: ApiProblem) -> NoReturn:
    """Say what the gateway said, and end."""
    places = (f"  {e.get('pointer') or e.get('parameter')}: {e['detail']}" for e in problem.errors)
    hint = "\nLog in: orderplane login" if exit_code_of(problem) == LOG_IN_FIRST else ""
    fail("\n".join([str(problem), *places]) + hint, code=exit_code_of(problem))


def exit_code_of(problem: ApiProblem) -> int:
    """See the module."""
    if problem.code in _LOGIN_CODES:
        return LOG_IN_FIRST
    if problem.status == 404:
        return NOT_FOUND
    if problem.status in (0, 429, 502, 503, 504) or problem.retry_after is not None:
        return TRY_LATER
    return REFUSED
