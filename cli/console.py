"""What all commands share: output, required variables, and error messages."""

import asyncio
import os
import sys
from collections.abc import Coroutine
from importlib.util import find_spec
from typing import Annotated, Any, NoReturn, TypeVar

import structlog
import typer
from rich.console import Console
from rich.text import Text

from orderplane.cli.exit_codes import INTERRUPTED, REFUSED, WRONG_USAGE

T = TypeVar("T")

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]

console = Console(highlight=False)
errors = Console(stderr=True, highlight=False)

_LOCAL_PLANE = ' For the local plane: eval "$(orderplane dev env)"' if find_spec("orderplane.dev") else ""


def need(variable: str) -> str:
    """A required environment variable; without it the command ends with `WRONG_USAGE`."""
    value = os.environ.get(variable)
    if not value:
        fail(f"{variable} is not set.{_LOCAL_PLANE}", code=WRONG_USAGE)
    return value


def fail(message: str, *, code: int = REFUSED) -> NoReturn:
    """Print an error message, and end with an exit code."""
    # As Text: a message of another system may contain brackets, which rich would read as markup.
    errors.print(Text(message, style="red"), soft_wrap=True)
    raise typer.Exit(code)


def run(work: Coroutine[Any, Any, T]) -> T:
    """Run a command; expected errors become one line instead of a traceback."""
    # Log to stderr: stdout is for the result.
    structlog.configure(logger_factory=lambda *_: structlog.PrintLogger(sys.stderr))
    try:
        return asyncio.run(work)
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)
    except Exception as problem:
        # Imported after a failure only: it would double the run time of a command that calls the gateway.
        from orderplane.cli.failures import told  # noqa: PLC0415

        failure = told(problem)
        if failure is None:
            raise
        fail(f"{failure.message}{_LOCAL_PLANE if failure.is_setting else ''}", code=failure.code)
