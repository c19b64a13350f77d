"""What all commands share: the console, the environment, and how failures are said."""

import asyncio
import os
import sys
from collections.abc import Coroutine
from typing import Any, NoReturn, TypeVar

import structlog
import typer
from rich.console import Console
from rich.text import Text

T = TypeVar("T")

console = Console(highlight=False)
errors = Console(stderr=True, highlight=False)


def need(variable: str) -> str:
    """A variable of the environment; without it the command ends with 2 and says what to do."""
    value = os.environ.get(variable)
    if not value:
        fail(f'{variable} is not set. For the local plane: eval "$(orderplane dev env)"', code=2)
    return value


def fail(message: str, *, code: int = 1) -> NoReturn:
    """Say what is wrong, and end."""
    # Not markup: what others say may have brackets in it.
    errors.print(Text(message, style="red"), soft_wrap=True)
    raise typer.Exit(code)


def run(work: Coroutine[Any, Any, T]) -> T:
    """Run a command's work; what can be expected to fail is said in one line, without a traceback."""
    # Standard output is for what was asked for.
    structlog.configure(logger_factory=lambda *_: structlog.PrintLogger(sys.stderr))
    try:
        return asyncio.run(work)
    except _without_cluster() as problem:
        fail(
            f"No cluster to talk to ({problem}); set KUBECONFIG. "
            'For the local plane: eval "$(orderplane dev env)"',
            code=2,
        )
    except _expected() as problem:
        fail(f"{type(problem).__name__}: {problem}")
    except KeyboardInterrupt:
        sys.exit(130)


# Imported when something has failed: half of the time of a command that speaks to the gateway alone.


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
