"""Errors that a command expects, as a sentence and an exit code."""

from typing import NamedTuple

from aiokafka.errors import KafkaError
from asyncpg import InterfaceError, PostgresError
from kubernetes.config import ConfigException
from pydantic import ValidationError

from orderplane.cli.exit_codes import NOT_FOUND, REFUSED, TRY_LATER, WRONG_USAGE
from orderplane.crds.api_errors import ApiError, NotFound, Overloaded, Unavailable
from orderplane.ledgers.errors import GateClosed, Refused, Transient
from orderplane.ledgers.postgres.inventory import StockConflict


class Failure(NamedTuple):
    """What is printed, and the exit code. `is_setting`: the environment does not say where to connect."""

    message: str
    code: int = REFUSED
    is_setting: bool = False


def told(problem: Exception) -> Failure | None:
    """The failure of a command, without names of classes; None for a defect, which keeps its traceback."""
    match problem:
        case ConfigException():
            message = f"No cluster to talk to ({problem}); set KUBECONFIG."
            return Failure(message, WRONG_USAGE, is_setting=True)
        case NotFound():
            return Failure(problem.message, NOT_FOUND)
        case Unavailable() | Overloaded() | Transient():
            return Failure(problem.message, TRY_LATER)
        case ApiError() | Refused():
            return Failure(problem.message)
        case KafkaError():
            # Its own text begins with the name of the class.
            return Failure(f"Kafka: {problem.args[0] if problem.args else 'no answer'}", TRY_LATER)
        case PostgresError() | InterfaceError():
            return Failure(f"The database refused: {problem.args[0]}")
        case TimeoutError():
            return Failure("There was no answer in time. Try again.", TRY_LATER)
        case ConnectionError():
            return Failure(f"Nothing answers: {problem.strerror or problem}.", TRY_LATER)
        case OSError():
            where = f"{problem.filename}: " if problem.filename else ""
            return Failure(f"{where}{problem.strerror or problem}")
        case ValidationError():
            first = problem.errors()[0]
            return Failure(f"Wrong: {'.'.join(map(str, first['loc']))}. {first['msg']}.")
        case GateClosed() | StockConflict() | ValueError():
            return Failure(str(problem))
    return None
