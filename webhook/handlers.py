"""Kopf's side of it: an admission request in, a patch or a refusal out."""

import asyncio
import time
import traceback
from collections.abc import Awaitable, Callable
from typing import Any

import kopf
import structlog
from opentelemetry import trace
from prometheus_client import Counter, Histogram

from orderplane.adapters.telemetry.traces import current_traceparent
from orderplane.crds.defaults import draw_shard
from orderplane.crds.meta import GROUP, VERSION
from orderplane.ledgers.errors import Transient
from orderplane.ledgers.pricing import PriceList
from orderplane.webhook.review import Additions, Denied, review_order, review_reservation

PATIENCE = 3.0
"""Seconds that the catalogue may take; less than the API server waits for us, so that it hears why."""

ADMISSIONS = Counter(
    "orderplane_admissions_total", "Admission reviews by how they ended.", ["kind", "result"]
)
ADMISSION_SECONDS = Histogram(
    "orderplane_admission_duration_seconds",
    "How long one review takes.",
    ["kind"],
    buckets=(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5),
)

log = structlog.get_logger(__name__)
_tracer = trace.get_tracer(__name__)


def registry_of(catalogue: PriceList, patience: float = PATIENCE) -> kopf.OperatorRegistry:
    """The handlers; their ids are the paths of the webhook configuration."""
    registry = kopf.OperatorRegistry()

    @kopf.on.mutate(GROUP, VERSION, "orders", id="orders", operations=["CREATE"], registry=registry)
    async def orders(body: kopf.Body, namespace: str | None, patch: kopf.Patch, **_: Any) -> None:
        assert namespace, "the webhook configuration's scope is Namespaced"

        async def review() -> Additions:
            traceparent = current_traceparent()
            return await review_order(namespace, body, catalogue, shard=draw_shard(), traceparent=traceparent)

        _apply(await _answer("Order", namespace, body, review, patience), patch)

    @kopf.on.mutate(
        GROUP, VERSION, "reservations", id="reservations", operations=["CREATE"], registry=registry
    )
    async def reservations(body: kopf.Body, namespace: str | None, patch: kopf.Patch, **_: Any) -> None:
        async def review() -> Additions:
            return review_reservation(body, shard=draw_shard(), traceparent=current_traceparent())

        _apply(await _answer("Reservation", namespace, body, review, patience), patch)

    return registry


async def _answer(
    kind: str,
    namespace: str | None,
    body: kopf.Body,
    review: Callable[[], Awaitable[Additions]],
    patience: float,
) -> Additions:
    """Run a review in time, measured and logged; a refusal becomes Kopf's."""
    started = time.perf_counter()
    name = body.metadata.get("name") or body.metadata.get("generateName")
    result = "failed"
    try:
        with _tracer.start_as_current_span(f"admit {kind}"):
            async with asyncio.timeout(patience):
                additions = await review()
        result = "admitted"
        log.info("admitted", kind=kind, namespace=namespace, name=name)
        return additions
    except Denied as denied:
        result = denied.reason
        log.info("refused", kind=kind, namespace=namespace, name=name, reason=denied.reason)
        raise kopf.AdmissionError(denied.message, code=denied.code) from denied
    except (Transient, TimeoutError) as problem:
        result = "unavailable"
        log.warning("catalogue unavailable", kind=kind, namespace=namespace, name=name, problem=repr(problem))
        raise kopf.AdmissionError(
            "the catalogue cannot be read at present, so the order cannot be priced; nothing was created, "
            "try again in a moment",
            code=503,
        ) from problem
    except Exception as problem:
        # Kopf would answer with the exception's text, which may repeat what somebody typed.
        where = "".join(traceback.format_tb(problem.__traceback__))
        log.error("failed", kind=kind, name=name, problem=type(problem).__name__, where=where)
        raise kopf.AdmissionError(
            "the review failed by a fault of the webhook; nothing was created, see its log", code=500
        ) from None
    finally:
        ADMISSIONS.labels(kind, result).inc()
        ADMISSION_SECONDS.labels(kind).observe(time.perf_counter() - started)


def _apply(additions: Additions, patch: kopf.Patch) -> None:
    patch.metadata["finalizers"] = additions.finalizers
    patch.metadata.labels.update(additions.labels)
    patch.metadata.annotations.update(additions.annotations)
    if additions.quote is not None:
        patch.spec["quote"] = additions.quote
