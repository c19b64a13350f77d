"""How every external provider is called: HTTP session, circuit breaker, retries of reads, metrics, a span."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

import aiohttp
import stamina
import structlog
from opentelemetry import trace
from opentelemetry.trace import Span, SpanKind, Status, StatusCode
from prometheus_client import Counter, Gauge, Histogram
from purgatory import AsyncCircuitBreakerFactory
from purgatory.domain.model import CLOSED, HALF_OPENED, OPENED, Context, OpenedState

from orderplane.crds.reasons import Reason
from orderplane.ledgers.awaiting import awaiting
from orderplane.ledgers.errors import Refused, Transient, Unclear

T = TypeVar("T")

log = structlog.get_logger(__name__)
tracer = trace.get_tracer(__name__)

REQUESTS = Counter(
    "orderplane_provider_requests_total",
    "Calls to a provider by their result.",
    ["provider", "operation", "result"],
)
SECONDS = Histogram(
    "orderplane_provider_request_duration_seconds",
    "Duration of calls to a provider.",
    ["provider", "operation"],
    buckets=(0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 15),
)
BREAKER = Gauge("orderplane_breaker_state", "Circuit breaker: 0 closed, 1 half-open, 2 open.", ["provider"])
_STATES = {CLOSED: 0, HALF_OPENED: 1, OPENED: 2}

MAX_CONNECTIONS = 32
"""Per provider; more than there are workers that call it, so no call waits for a connection."""

CONNECT_TIMEOUT_SECONDS = 3.0

RECOVERY_SECONDS = 2.0
"""A breaker that is open lets one call through so often, to see whether the provider is back."""

READ_ATTEMPTS = 3
READ_RETRY_SECONDS = 5.0
"""No retry begins later than this after the first attempt, so a provider that hangs is asked once."""

NEVER_SENT = (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError)
"""Errors of aiohttp that prove that the request was not sent; after all others its effect is unknown."""


def open_session(timeout_seconds: float) -> aiohttp.ClientSession:
    """Open a session whose requests take at most `timeout_seconds`, connecting included."""
    return aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=MAX_CONNECTIONS, keepalive_timeout=30),
        timeout=aiohttp.ClientTimeout(
            total=timeout_seconds, connect=min(timeout_seconds, CONNECT_TIMEOUT_SECONDS)
        ),
    )


class BreakerOpen(Transient):
    """The circuit breaker is open: the request was not sent."""


class ProviderCalls:
    """Calls one provider through its circuit breaker.

    Args:
        provider: The metrics' label; `Reason` has a member `<PROVIDER>_UNAVAILABLE`.
        classify: Maps the provider's exceptions to the types of `ledgers.errors`; None for other exceptions.
        failure_threshold: So many failures in a row open the breaker. `Refused` is an answer, not a failure.
        recovery_seconds: The breaker stays open for so long; then one call probes the provider.
    """

    def __init__(
        self,
        provider: str,
        classify: Callable[[Exception], Transient | Refused | None],
        *,
        failure_threshold: int = 8,
        recovery_seconds: float = RECOVERY_SECONDS,
    ) -> None:
        self._provider = provider
        self._classify = classify
        self._recovery_seconds = recovery_seconds
        self._breakers = AsyncCircuitBreakerFactory(
            default_threshold=failure_threshold, default_ttl=recovery_seconds, exclude=[Refused]
        )
        self._context: Context | None = None
        self._is_probing = False
        self._is_known_open = False
        # Read at scrape time: purgatory emits its half-open event only after the probing call.
        BREAKER.labels(provider).set_function(lambda: _STATES[self._context.state] if self._context else 0)

    async def once(self, operation: str, work: Callable[[], Awaitable[T]], **ids: str) -> T:
        """Make exactly one attempt.

        Args:
            ids: Attributes of the span: ids of the order or object, never personal data.

        Raises:
            Transient, Unclear, Refused: as the ports define them.
        """
        started = time.monotonic()
        result = "failed"
        with tracer.start_as_current_span(
            f"{self._provider} {operation}",
            kind=SpanKind.CLIENT,
            attributes=ids,
            # A provider's error text may repeat an address, so the span carries only the reason.
            record_exception=False,
            set_status_on_exception=False,
        ) as span:
            try:
                with awaiting(self._provider, operation):
                    answer = await self._through_breaker(work)
                result = "ok"
                return answer
            except (Transient, Refused) as problem:
                result = _result(problem)
                _set_outcome(span, problem)
                raise
            except asyncio.CancelledError:
                result = "cancelled"
                raise
            finally:
                REQUESTS.labels(self._provider, operation, result).inc()
                SECONDS.labels(self._provider, operation).observe(time.monotonic() - started)

    async def with_retries(self, operation: str, work: Callable[[], Awaitable[T]], **ids: str) -> T:
        """Make a call that has no side effect, with retries. Arguments and exceptions as `once`."""
        async for attempt in stamina.retry_context(
            on=_is_retryable,
            attempts=READ_ATTEMPTS,
            timeout=READ_RETRY_SECONDS,
            wait_initial=0.1,
            wait_max=1.0,
            wait_jitter=0.2,
        ):
            with attempt:
                return await self.once(operation, work, **ids)
        raise AssertionError("stamina returns or raises")

    async def _through_breaker(self, work: Callable[[], Awaitable[T]]) -> T:
        breaker = await self._breakers.get_breaker(self._provider)
        self._context = breaker.context
        # purgatory lets every call through while it is half-open; only one may probe the provider.
        if self._is_probing:
            raise self._breaker_open()
        try:
            async with breaker:
                if breaker.context.state != HALF_OPENED:
                    return await self._classified(work)
                self._is_probing = True
                try:
                    return await self._classified(work)
                finally:
                    self._is_probing = False
        except OpenedState as problem:
            # purgatory raises the same instance again and again; its traceback would grow without end.
            problem.__traceback__ = None
            raise self._breaker_open() from None
        finally:
            self._report(breaker.context.state)

    def _report(self, state: str) -> None:
        """Log that the breaker has opened or closed; between two probes nothing is new."""
        if state == OPENED and not self._is_known_open:
            self._is_known_open = True
            log.warning("circuit breaker opened; nothing is sent but probes", provider=self._provider)
        elif state == CLOSED and self._is_known_open:
            self._is_known_open = False
            log.info("circuit breaker closed", provider=self._provider)

    async def _classified(self, work: Callable[[], Awaitable[T]]) -> T:
        try:
            return await work()
        except Exception as problem:
            classified = self._classify(problem)
            if classified is None:
                raise
            raise classified from problem

    def _breaker_open(self) -> BreakerOpen:
        return BreakerOpen(
            Reason[f"{self._provider.upper()}_UNAVAILABLE"],
            f"the {self._provider} provider failed too often, so nothing was sent; it is tried again "
            f"within {self._recovery_seconds:g} s",
        )


def _result(problem: Transient | Refused) -> str:
    match problem:
        case BreakerOpen():
            return "breaker_open"
        case Unclear():
            return "unclear"
        case Transient():
            return "transient"
        case _:
            return "refused"


def _set_outcome(span: Span, problem: Transient | Refused) -> None:
    if isinstance(problem, Refused):
        span.set_attribute("orderplane.refused", problem.reason)
    else:
        span.set_status(Status(StatusCode.ERROR, problem.reason))


def _is_retryable(problem: Exception) -> bool:
    """A failure that another attempt within seconds may not meet: not an open breaker, not a 429."""
    return (
        isinstance(problem, Transient)
        and not isinstance(problem, BreakerOpen)
        and problem.retry_after is None
        and not problem.is_final
    )
