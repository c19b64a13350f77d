"""How every provider is called: a circuit breaker, retries of what is safe, metrics, a span."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

import stamina
from opentelemetry import trace
from opentelemetry.trace import Span, SpanKind, Status, StatusCode
from prometheus_client import Counter, Gauge, Histogram
from purgatory import AsyncCircuitBreakerFactory
from purgatory.domain.model import CLOSED, HALF_OPENED, OPENED, Context, OpenedState

from orderplane.crds.reasons import Reason
from orderplane.ledgers.errors import Refused, Transient, Unclear

T = TypeVar("T")

tracer = trace.get_tracer(__name__)

REQUESTS = Counter(
    "orderplane_provider_requests_total",
    "Calls to a provider by how they ended.",
    ["provider", "operation", "result"],
)
SECONDS = Histogram(
    "orderplane_provider_request_duration_seconds",
    "How long a provider took.",
    ["provider", "operation"],
    buckets=(0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 15),
)
BREAKER = Gauge("orderplane_breaker_state", "0 closed, 1 half-open, 2 open.", ["provider"])
_STATES = {CLOSED: 0, HALF_OPENED: 1, OPENED: 2}

SAFE_ATTEMPTS = 3
SAFE_SECONDS = 5.0
"""No attempt begins later than this after the first; so a provider that hangs is asked once."""


class BreakerOpen(Transient):
    """Nothing was sent, because the provider failed too often just now."""


class ProviderCalls:
    """Calls one provider.

    Args:
        provider: The metrics' label; its `<PROVIDER>_UNAVAILABLE` is a `Reason`.
        translate: Tells the provider's exceptions apart; None for one that is not its own.
        threshold: After so many failures in a row the provider is left alone...
        recovery_seconds: ...for so long; then one call tries it. Refusals are answers, not failures.
    """

    def __init__(
        self,
        provider: str,
        translate: Callable[[Exception], Transient | Refused | None],
        *,
        threshold: int = 8,
        recovery_seconds: float = 5.0,
    ) -> None:
        self._provider = provider
        self._translate = translate
        self._recovery_seconds = recovery_seconds
        self._breakers = AsyncCircuitBreakerFactory(
            default_threshold=threshold, default_ttl=recovery_seconds, exclude=[Refused]
        )
        self._state: Context | None = None
        self._is_trying = False
        # Read when asked for: purgatory tells of a half-open breaker only after the call that tries it.
        BREAKER.labels(provider).set_function(lambda: _STATES[self._state.state] if self._state else 0)

    async def once(self, operation: str, work: Callable[[], Awaitable[T]], **ids: str) -> T:
        """Make one call, and no second one.

        Args:
            ids: The span's attributes: what the call is about, never personal data.

        Raises:
            Transient, Unclear, Refused: as the port says.
        """
        started = time.monotonic()
        result = "failed"
        with tracer.start_as_current_span(
            f"{self._provider} {operation}",
            kind=SpanKind.CLIENT,
            attributes=ids,
            # What a provider answers may repeat an address; a span carries the verdict alone.
            record_exception=False,
            set_status_on_exception=False,
        ) as span:
            try:
                answer = await self._through_breaker(work)
                result = "ok"
                return answer
            except (Transient, Refused) as problem:
                result = _result(problem)
                _mark(span, problem)
                raise
            except asyncio.CancelledError:
                result = "cancelled"
                raise
            finally:
                REQUESTS.labels(self._provider, operation, result).inc()
                SECONDS.labels(self._provider, operation).observe(time.monotonic() - started)

    async def safe(self, operation: str, work: Callable[[], Awaitable[T]], **ids: str) -> T:
        """Make a call that may be repeated: one that only reads; raises as `once`."""
        async for attempt in stamina.retry_context(
            on=_is_worth_repeating,
            attempts=SAFE_ATTEMPTS,
            timeout=SAFE_SECONDS,
            wait_initial=0.1,
            wait_max=1.0,
            wait_jitter=0.2,
        ):
            with attempt:
                return await self.once(operation, work, **ids)
        raise AssertionError("stamina ends with an answer or an exception")

    async def _through_breaker(self, work: Callable[[], Awaitable[T]]) -> T:
        breaker = await self._breakers.get_breaker(self._provider)
        self._state = breaker.context
        if self._is_trying:
            raise self._left_alone()
        try:
            async with breaker:
                if breaker.context.state != HALF_OPENED:
                    return await self._translated(work)
                self._is_trying = True
                try:
                    return await self._translated(work)
                finally:
                    self._is_trying = False
        except OpenedState as problem:
            # One instance is raised again and again; its traceback would only grow.
            problem.__traceback__ = None
            raise self._left_alone() from None

    async def _translated(self, work: Callable[[], Awaitable[T]]) -> T:
        try:
            return await work()
        except Exception as problem:
            verdict = self._translate(problem)
            if verdict is None:
                raise
            raise verdict from problem

    def _left_alone(self) -> BreakerOpen:
        return BreakerOpen(
            Reason[f"{self._provider.upper()}_UNAVAILABLE"],
            f"the {self._provider} provider failed too often, so nothing was sent; it is tried again "
            f"within {self._recovery_seconds:g} s",
        )


def _result(problem: Transient | Refused) -> str:
    if isinstance(problem, BreakerOpen):
        return "breaker_open"
    if isinstance(problem, Unclear):
        return "unclear"
    return "transient" if isinstance(problem, Transient) else "refused"


def _mark(span: Span, problem: Transient | Refused) -> None:
    if isinstance(problem, Refused):
        span.set_attribute("orderplane.refused", problem.reason)
    else:
        span.set_status(Status(StatusCode.ERROR, problem.reason))


def _is_worth_repeating(problem: Exception) -> bool:
    is_failure = isinstance(problem, Transient) and not isinstance(problem, BreakerOpen)
    return is_failure and problem.retry_after is None and not problem.is_final  # type: ignore[attr-defined]
