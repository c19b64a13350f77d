"""What a command says when it fails."""

import errno

import pytest
from aiokafka.errors import KafkaConnectionError
from asyncpg import UndefinedTableError
from kubernetes.config import ConfigException
from pydantic import TypeAdapter, ValidationError

from orderplane.cli.failures import Failure, told
from orderplane.crds.api_errors import error_from
from orderplane.crds.reasons import Reason
from orderplane.ledgers.errors import Transient
from orderplane.ledgers.postgres.inventory import StockConflict


def wrong_number() -> ValidationError:
    try:
        TypeAdapter(dict[str, int]).validate_python({"offset": None})
    except ValidationError as problem:
        return problem
    raise AssertionError


@pytest.mark.parametrize(
    ("problem", "failure"),
    [
        (ConfigException("no file"), Failure("No cluster to talk to (no file); set KUBECONFIG.", 2, True)),
        (error_from(404, {"message": "o-1 not found", "reason": "NotFound"}), Failure("o-1 not found", 4)),
        (error_from(403, {"message": "o-1 is not yours"}), Failure("o-1 is not yours", 1)),
        (error_from(503, {"message": "starting"}), Failure("starting", 5)),
        (error_from(429, {"message": "too many"}), Failure("too many", 5)),
        (Transient(Reason.UNKNOWN, "it is asked again"), Failure("it is asked again", 5)),
        (KafkaConnectionError("no broker"), Failure("Kafka: no broker", 5)),
        (KafkaConnectionError(), Failure("Kafka: no answer", 5)),
        (UndefinedTableError("no orders"), Failure("The database refused: no orders", 1)),
        (TimeoutError(), Failure("There was no answer in time. Try again.", 5)),
        (
            ConnectionRefusedError(errno.ECONNREFUSED, "Connect call failed"),
            Failure("Nothing answers: Connect call failed.", 5),
        ),
        (FileNotFoundError(errno.ENOENT, "No such file", "keys"), Failure("keys: No such file", 1)),
        (StockConflict("stock of demo/TEA changed"), Failure("stock of demo/TEA changed", 1)),
        (wrong_number(), Failure("Wrong: offset. Input should be a valid integer.", 1)),
    ],
    ids=lambda value: type(value).__name__,
)
def test_a_failure_is_a_sentence_and_an_exit_code(problem: Exception, failure: Failure) -> None:
    assert told(problem) == failure


def test_a_defect_keeps_its_traceback() -> None:
    assert told(AttributeError("none")) is None
