"""What may be tried again, in every process: exceptions on one side, processes on the other."""

import asyncio
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from types import SimpleNamespace
from typing import Any

import asyncpg
import pytest
from aiokafka.errors import (
    GroupCoordinatorNotAvailableError,
    IllegalStateError,
    KafkaConnectionError,
    KafkaTimeoutError,
    NodeNotReadyError,
)
from pydantic import SecretStr

from orderplane.adapters import retryable
from orderplane.adapters.postgres import listen as listening
from orderplane.adapters.process import Process
from orderplane.adapters.settings import LedgerSettings
from orderplane.crds.api_errors import ApiError, error_from
from orderplane.crds.reasons import Reason
from orderplane.ledgers.errors import Transient
from orderplane.ledgers.postgres.session import session
from orderplane.workers.notifier import listener as notifier_listener
from orderplane.workers.notifier.listener import Listener
from orderplane.workers.relay import relay as relay_module
from orderplane.workers.relay.relay import Relay

POSTGRES_AWAY: tuple[Exception, ...] = (
    ConnectionRefusedError(111, "refused"),
    ConnectionResetError(104, "reset"),
    TimeoutError(),
    socket.gaierror(-2, "no such name"),
    asyncpg.ConnectionDoesNotExistError("closed in the middle"),
    asyncpg.CannotConnectNowError("the database system is starting up"),
    asyncpg.AdminShutdownError("terminating connection"),
    asyncpg.CrashShutdownError("terminating connection"),
    asyncpg.QueryCanceledError("canceling statement"),
    asyncpg.TooManyConnectionsError("sorry, too many clients already"),
    asyncpg.DiskFullError("no space left"),
    asyncpg.PostgresIOError("could not read a block"),
    asyncpg.DeadlockDetectedError("deadlock detected"),
    asyncpg.SerializationError("could not serialize access"),
    asyncpg.IdleInTransactionSessionTimeoutError("it slept in a transaction"),
    asyncpg.ReadOnlySQLTransactionError("a standby"),
    asyncpg.InvalidCatalogNameError("database does not exist"),
    asyncpg.InvalidPasswordError("password authentication failed"),
    asyncpg.UndefinedTableError("relation does not exist"),
    asyncpg.InterfaceError("connection is closed"),
    asyncpg.InternalClientError("got result for unknown protocol state 3"),
    asyncpg.ProtocolError("unexpected message"),
)
MISTAKES: tuple[Exception, ...] = (
    asyncpg.UniqueViolationError("duplicate key"),
    asyncpg.CheckViolationError("a transition that is not allowed"),
    asyncpg.PostgresSyntaxError("syntax error"),
    asyncpg.DataError("invalid input for query argument"),
    ValueError("a bug"),
)
KAFKA_AWAY: tuple[BaseException, ...] = (
    KafkaConnectionError("no broker"),
    KafkaTimeoutError("no answer"),
    NodeNotReadyError("not ready"),
    GroupCoordinatorNotAvailableError("no coordinator"),
    IllegalStateError("the partition is not assigned any more"),
    ConnectionResetError(104, "reset"),
    socket.gaierror(-2, "no such name"),
    asyncio.CancelledError(),
)

Failing = Callable[[BaseException, pytest.MonkeyPatch], Awaitable[None]]


def name_of(value: object) -> str:
    return type(value).__name__ if isinstance(value, BaseException) else getattr(value, "__name__", "")


def failing_once(problem: BaseException, then: Callable[[], None]) -> Callable[..., Any]:
    """Raises it once; the second call ends the test's wait."""
    calls: list[int] = []

    @asynccontextmanager
    async def opened(*_: Any, **__: Any) -> AsyncIterator[Any]:
        calls.append(1)
        if len(calls) == 1:
            raise problem
        then()
        await asyncio.Event().wait()
        yield

    return opened


async def wait_until(event: asyncio.Event, work: Awaitable[Any]) -> None:
    """Let work run until the event is set; its failure is raised."""
    running = asyncio.ensure_future(work)
    waiting = asyncio.create_task(event.wait())
    async with asyncio.timeout(10):
        await asyncio.wait({running, waiting}, return_when=asyncio.FIRST_COMPLETED)
    for task in (running, waiting):
        task.cancel()
    done, _ = await asyncio.gather(running, waiting, return_exceptions=True)
    if isinstance(done, Exception):
        raise done
    assert event.is_set(), f"it ended: {done!r}"


SETTINGS = LedgerSettings(postgres_dsn=SecretStr("postgresql://nowhere"))


async def at_the_start_of_any_process(problem: BaseException, _: pytest.MonkeyPatch) -> None:
    attempts: list[int] = []

    async def attempt() -> str:
        attempts.append(1)
        if len(attempts) == 1:
            raise problem
        return "there"

    assert await Process("any", SETTINGS).wait_for("PostgreSQL", attempt, retryable.POSTGRES) == "there"


async def the_relay_that_publishes(problem: BaseException, monkeypatch: pytest.MonkeyPatch) -> None:
    again = asyncio.Event()
    monkeypatch.setattr(relay_module, "ensure_topics", nothing)
    monkeypatch.setattr(relay_module, "open_outbox", failing_once(problem, again.set))
    relay = Relay(lambda: "postgresql://nowhere", "nowhere:1", 1, asyncio.Event())
    await wait_until(again, relay._publish_until_stopped("nowhere:1", beat))


async def the_relay_that_counts(problem: BaseException, monkeypatch: pytest.MonkeyPatch) -> None:
    again = asyncio.Event()
    monkeypatch.setattr(relay_module, "open_backlog", failing_once(problem, again.set))
    monkeypatch.setattr(relay_module, "COUNT_SECONDS", 0.01)
    await wait_until(again, Relay(lambda: "postgresql://nowhere", None, 1, asyncio.Event())._count(beat))


async def who_listens(problem: BaseException, monkeypatch: pytest.MonkeyPatch) -> None:
    """The operator for ledgers, and the gateway for accounts."""
    again, calls = asyncio.Event(), []

    async def connect(*_: Any, **__: Any) -> Any:
        calls.append(1)
        if len(calls) == 1:
            raise problem
        again.set()
        await asyncio.Event().wait()

    monkeypatch.setattr(listening.asyncpg, "connect", connect)
    await wait_until(again, listening.listen(lambda: "postgresql://nowhere", "ledger", print, beat))


async def who_borrows_a_connection(problem: BaseException, _: pytest.MonkeyPatch) -> None:
    """Gateway, webhook, operator and notifier: they get `Transient`, and know what to do."""

    @asynccontextmanager
    async def acquire(**_: float) -> AsyncIterator[None]:
        yield

    with pytest.raises(Transient) as transient:
        async with session(SimpleNamespace(acquire=acquire)):  # type: ignore[arg-type]
            raise problem
    assert transient.value.reason is Reason.LEDGER_UNAVAILABLE
    assert type(problem).__name__ in transient.value.message


WITH_POSTGRES: tuple[Failing, ...] = (
    at_the_start_of_any_process,
    the_relay_that_publishes,
    the_relay_that_counts,
    who_listens,
    who_borrows_a_connection,
)


@pytest.mark.parametrize("process", WITH_POSTGRES, ids=name_of)
@pytest.mark.parametrize("problem", POSTGRES_AWAY, ids=name_of)
async def test_a_postgresql_that_is_away_is_waited_for(
    process: Failing, problem: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    await process(problem, monkeypatch)


@pytest.mark.parametrize("process", WITH_POSTGRES, ids=name_of)
@pytest.mark.parametrize("problem", MISTAKES, ids=name_of)
async def test_a_mistake_is_not_hidden_by_trying_again(
    process: Failing, problem: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(type(problem)):
        await process(problem, monkeypatch)


@pytest.mark.parametrize("problem", KAFKA_AWAY, ids=name_of)
async def test_a_relay_waits_for_kafka(problem: BaseException, monkeypatch: pytest.MonkeyPatch) -> None:
    again = asyncio.Event()
    monkeypatch.setattr(relay_module, "ensure_topics", nothing)
    monkeypatch.setattr(relay_module, "open_outbox", lambda _: here())
    monkeypatch.setattr(relay_module, "open_producer", failing_once(problem, again.set))
    relay = Relay(lambda: "postgresql://nowhere", "nowhere:1", 1, asyncio.Event())
    await wait_until(again, relay._publish_until_stopped("nowhere:1", beat))


@pytest.mark.parametrize("problem", [*KAFKA_AWAY, Transient(Reason.LEDGER_UNAVAILABLE, "away")], ids=name_of)
async def test_a_notifier_waits_for_kafka(problem: BaseException, monkeypatch: pytest.MonkeyPatch) -> None:
    again = asyncio.Event()
    monkeypatch.setattr(notifier_listener, "ensure_topics", nothing)
    monkeypatch.setattr(notifier_listener, "open_producer", lambda _: here())
    monkeypatch.setattr(notifier_listener, "open_consumer", failing_once(problem, again.set))
    listener = Listener("nowhere:1", 1, None, lambda: None)  # type: ignore[arg-type]
    await wait_until(again, listener.run(asyncio.Event(), beat))


@pytest.mark.parametrize("method", ["rebalance", "unpublished", "close"])
async def test_a_client_that_breaks_at_any_moment_does_not_end_the_relay(
    method: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A planted InternalClientError: asyncpg's own state is broken, and another session is begun."""
    again, sessions = asyncio.Event(), []

    class Connection:
        async def execute(self, *_: Any) -> str:
            return ""

        async def fetch(self, statement: str, *_: Any) -> list[Any]:
            step = "unpublished" if "history" in statement else "rebalance"
            if step == method and len(sessions) == 1:
                raise asyncpg.InternalClientError("got result for unknown protocol state 3")
            if method == "close" and len(sessions) == 1:
                raise ConnectionResetError
            if step == "unpublished":
                again.set()
            return []

        async def close(self, **_: Any) -> None:
            if method == "close":
                raise asyncpg.InternalClientError("closed twice")

        def is_closed(self) -> bool:
            return False

    async def connect(*_: Any, **__: Any) -> Connection:
        sessions.append(1)
        return Connection()

    monkeypatch.setattr(relay_module, "ensure_topics", nothing)
    monkeypatch.setattr(relay_module, "open_producer", lambda _: here())
    monkeypatch.setattr("orderplane.workers.relay.outbox.asyncpg.connect", connect)
    relay = Relay(lambda: "postgresql://nowhere", "nowhere:1", 1, asyncio.Event())
    await wait_until(again, relay._publish_until_stopped("nowhere:1", beat))
    assert len(sessions) == 2


RBAC = 'orders.orderplane.dev is forbidden: User "orderplane:gateway" cannot create resource "orders"'


@pytest.mark.parametrize(
    ("status", "reason", "message", "may_repeat"),
    [
        (0, "NoAnswer", "no connection", True),
        (500, "InternalError", "failed calling webhook", True),
        (503, "ServiceUnavailable", "not ready", True),
        (504, "Timeout", "timed out", True),
        (429, "TooManyRequests", "later", True),
        (401, "Unauthorized", "the token has expired", True),
        (403, "Forbidden", RBAC, True),
        (403, "Forbidden", "denied request: only the operator may do that", False),
        (404, "NotFound", "not found", False),
        (409, "Conflict", "newer", False),
        (410, "Expired", "too old", False),
        (422, "Invalid", "wrong", False),
    ],
)
def test_of_the_api_server(status: int, reason: str, message: str, may_repeat: bool) -> None:
    error: ApiError = error_from(status or 503, {"reason": reason, "message": message})
    assert isinstance(error, retryable.KUBERNETES) == may_repeat


def beat() -> None:
    """Nobody listens."""


async def nothing(*_: Any, **__: Any) -> None:
    """There is nothing to do."""


@asynccontextmanager
async def here() -> AsyncIterator[Any]:
    yield SimpleNamespace(rebalance=nothing)
