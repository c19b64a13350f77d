"""What all commands share: output, required variables, and error messages."""

import asyncio
import os
import sys
from collections.abc import Coroutine
from importlib.util import find_spec
from typing import Any, NoReturn, TypeVar

import structlog
import typer
from rich.console import Console
from rich.text import Text

T = TypeVar("T")

console = Console(highlight=False)
errors = Console(stderr=True, highlight=False)

_LOCAL_PLANE = ' For the local plane: eval "$(orderplane dev env)"' if find_spec("orderplane.dev") else ""


def need(variable: str) -> str:
    """A required environment variable; without it the command ends with exit code 2."""
    value = os.environ.get(variable)
    if not value:
        fail(f"{variable} is not set.{_LOCAL_PLANE}", code=2)
    return value


def fail(message: str, *, code: int = 1) -> NoReturn:
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
    except _without_cluster() as problem:
        fail(
            f"No cluster to talk to ({problem}); set KUBECONFIG.{_LOCAL_PLANE}",
            code=2,
        )
    except _expected() as problem:
        fail(f"{type(problem).__name__}: {problem}")
    except KeyboardInterrupt:
        sys.exit(130)


# Imported after a failure only: these imports would double the run time of a command that calls the gateway.


def _without_cluster() -> type[Exception]:
    from kubernetes.config import ConfigException  # noqa: PLC0415

    found: type[Exception] = ConfigException
    return found


def _expected() -> tuple[type[Exception], ...]:
    from aiokafka.errors import KafkaError  # noqa: PLC0415
    from asyncpg import PostgresError  # noqa: PLC0415

    from orderplane.crds.api_errors import ApiError  # noqa: PLC0415
    from orderplane.ledgers.errors import (  # noqa: PLC0415
        GateClosed,
        Refused,
        Transient,
    )
    from orderplane.ledgers.postgres.inventory import StockConflict  # noqa: PLC0415

    return (
        ApiError, Transient, Refused, GateClosed, StockConflict, KafkaError,
        OSError, PostgresError, ValueError,
    )  # fmt: skip
