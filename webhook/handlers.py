"""Kopf handlers: an admission request comes in, a patch or a refusal goes out."""

import asyncio
import time
import traceback
from collections.abc import Awaitable, Callable, Mapping
from datetime import UTC, datetime
from typing import Any

import kopf
import structlog
from opentelemetry import trace
from prometheus_client import Counter, Histogram

from orderplane.adapters.telemetry.traces import current_traceparent
from orderplane.crds.defaults import draw_shard
from orderplane.crds.meta import GROUP, VERSION
from orderplane.ledgers.errors import Transient
from orderplane.ledgers.pricing import ChargeLimits, PriceList
from orderplane.webhook.review import (
    Denied,
    MissingDefaults,
    actor_annotations,
    review_order,
    review_reservation,
)

REVIEW_SECONDS = 3.0
"""Timeout of a review. It is shorter than the `timeoutSeconds` of the webhook configuration, so that the user
is told the reason."""

ADMISSIONS = Counter("orderplane_admissions_total", "Admission reviews by result.", ["kind", "result"])
ADMISSION_SECONDS = Histogram(
    "orderplane_admission_duration_seconds",
    "Duration of one review.",
    ["kind"],
    buckets=(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5),
)

log = structlog.get_logger(__name__)
_tracer = trace.get_tracer(__name__)


def build_registry(
    price_list: PriceList,
    charge_limits: Mapping[str, ChargeLimits],
    review_seconds: float = REVIEW_SECONDS,
) -> kopf.OperatorRegistry:
    """The handlers; their ids are the paths in the webhook configuration."""
    registry = kopf.OperatorRegistry()

    @kopf.on.mutate(GROUP, VERSION, "orders", id="orders", operations=["CREATE"], registry=registry)
    async def orders(body: kopf.Body, namespace: str | None, patch: kopf.Patch, **_: Any) -> None:
        assert namespace, "the webhook configuration's scope is Namespaced"

        async def review() -> MissingDefaults:
            traceparent = current_traceparent()
            return await review_order(
                namespace, body, price_list, charge_limits, shard=draw_shard(), traceparent=traceparent
            )

        _apply(await _run_review("Order", namespace, body, review, review_seconds), patch)

    # The policy orderplane-actors refuses any other name, and admits none: this half may be away.
    @kopf.on.mutate(GROUP, VERSION, "orders", id="actors", operations=["UPDATE"], registry=registry)
    async def actors(
        body: kopf.Body, userinfo: kopf.UserInfo, patch: kopf.Patch, old: Any = None, **_: Any
    ) -> None:
        patch.metadata.annotations.update(actor_annotations(old, body, userinfo["username"]))

    @kopf.on.mutate(
        GROUP, VERSION, "reservations", id="reservations", operations=["CREATE"], registry=registry
    )
    async def reservations(body: kopf.Body, namespace: str | None, patch: kopf.Patch, **_: Any) -> None:
        async def review() -> MissingDefaults:
            return review_reservation(
                body, datetime.now(UTC), shard=draw_shard(), traceparent=current_traceparent()
            )

        _apply(await _run_review("Reservation", namespace, body, review, review_seconds), patch)

    return registry


async def _run_review(
    kind: str,
    namespace: str | None,
    body: kopf.Body,
    review: Callable[[], Awaitable[MissingDefaults]],
    review_seconds: float,
) -> MissingDefaults:
    """Run a review with a timeout, metrics and logs; a refusal becomes Kopf's AdmissionError."""
    started = time.perf_counter()
    name = body.metadata.get("name") or body.metadata.get("generateName")
    result = "failed"
    try:
        with _tracer.start_as_current_span(f"admit {kind}"):
            async with asyncio.timeout(review_seconds):
                defaults = await review()
        result = "admitted"
        log.info("admitted", kind=kind, namespace=namespace, name=name)
        return defaults
    except Denied as denied:
        result = denied.reason
        log.info("refused", kind=kind, namespace=namespace, name=name, reason=denied.reason)
        raise kopf.AdmissionError(denied.message, code=denied.code) from denied
    except (Transient, TimeoutError) as problem:
        result = "unavailable"
        log.warning(
            "price list unavailable", kind=kind, namespace=namespace, name=name, problem=repr(problem)
        )
        raise kopf.AdmissionError(
            "the catalogue cannot be read at present, so the order cannot be priced; nothing was created, "
            "try again in a moment",
            code=503,
        ) from problem
    except Exception as problem:
        # Kopf would answer with the exception's text, which may repeat values of the object.
        where = "".join(traceback.format_tb(problem.__traceback__))
        log.error("review failed", kind=kind, name=name, problem=type(problem).__name__, where=where)
        raise kopf.AdmissionError(
            "the review failed by a fault of the webhook; nothing was created, see its log", code=500
        ) from None
    finally:
        ADMISSIONS.labels(kind, result).inc()
        ADMISSION_SECONDS.labels(kind).observe(time.perf_counter() - started)


def _apply(defaults: MissingDefaults, patch: kopf.Patch) -> None:
    patch.metadata["finalizers"] = defaults.finalizers
    patch.metadata.labels.update(defaults.labels)
    patch.metadata.annotations.update(defaults.annotations)
    if defaults.quote is not None:
        patch.spec["quote"] = defaults.quote
