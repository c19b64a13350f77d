"""`orderplane keys`: the keys that sign access tokens."""

from pathlib import Path
from typing import Annotated

import typer

from orderplane.cli.console import console, fail
from orderplane.gateway.identity.keyring import new_key

app = typer.Typer(help="The keys that sign access tokens.", no_args_is_help=True)


@app.callback()
def _group() -> None:
    """The keys that sign access tokens."""


@app.command()
def new(
    folder: Annotated[
        Path, typer.Argument(help="ORDERPLANE_SIGNING_KEYS, or where its Secret is made from.")
    ],
) -> None:
    """Make a P-256 key in a file of its own, readable by its owner alone.

    To rotate: make one, wait until every gateway has it and a quarter of an hour more, then remove the
    old file.

    Example:

        orderplane keys new ./signing-keys
    """
    try:
        made = new_key(folder)
    except OSError as problem:
        fail(f"No key was made: {problem}")
    console.print(f"{made} signs in a minute, wherever it is mounted.", soft_wrap=True)
