"""How every provider is called: a circuit breaker, retries of what is safe, metrics, a span."""

import time
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

import stamina
from opentelemetry import trace
from prometheus_client import Counter, Gauge, Histogram
from purgatory import AsyncCircuitBreakerFactory
from purgatory.domain.model import OpenedState

from orderplane.controllers.errors import Refused, Transient, Unclear

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
_STATES = {"closed": 0, "half-opened": 1, "opened": 2}

SAFE_ATTEMPTS = 3
SAFE_SECONDS = 15.0


class ProviderCalls:
    """Calls one provider.

    Args:
        translate: Tells the provider's exceptions apart; None for one that is not its own.
        threshold: After so many failures in a row the provider is left alone...
        recovery_seconds: ...for so long. Refusals are answers, not failures.
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
        self._breakers = AsyncCircuitBreakerFactory(
            default_threshold=threshold, default_ttl=recovery_seconds, exclude=[Refused]
        )
        self._breakers.add_listener(self._note_state)
        BREAKER.labels(provider).set(0)

    async def once(self, operation: str, work: Callable[[], Awaitable[T]]) -> T:
        """Make one call, and no second one.

        Raises:
            Transient, Unclear, Refused: as the port says.
        """
        started = time.monotonic()
        result = "ok"
        with tracer.start_as_current_span(f"{self._provider} {operation}"):
            try:
                async with await self._breakers.get_breaker(self._provider):
                    return await self._translated(work)
            except OpenedState as problem:
                result = "breaker_open"
                raise Transient(
                    f"{self._provider.capitalize()}Unavailable",
                    f"the {self._provider} provider failed too often; it is left alone for a moment",
                ) from problem
            except (Transient, Refused) as problem:
                result = type(problem).__name__.lower()
                raise
            finally:
                REQUESTS.labels(self._provider, operation, result).inc()
                SECONDS.labels(self._provider, operation).observe(time.monotonic() - started)

    async def safe(self, operation: str, work: Callable[[], Awaitable[T]]) -> T:
        """Make a call that may be repeated: one that only reads; raises as `once`."""
        async for attempt in stamina.retry_context(
            on=Unclear, attempts=SAFE_ATTEMPTS, timeout=SAFE_SECONDS, wait_initial=0.1, wait_max=1.0
        ):
            with attempt:
                return await self.once(operation, work)
        raise AssertionError("stamina ends with an answer or an exception")

    async def _translated(self, work: Callable[[], Awaitable[T]]) -> T:
        try:
            return await work()
        except Exception as problem:
            verdict = self._translate(problem)
            if verdict is None:
                raise
            raise verdict from problem

    def _note_state(self, circuit: str, event: str, payload: Any) -> None:
        if event == "state_changed":
            BREAKER.labels(circuit).set(_STATES.get(payload.state, 0))
