"""Every problem that this API answers with, as `application/problem+json` (RFC 9457)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, NotRequired, Required

import orjson
from opentelemetry import trace
from pydantic import Field
from starlette.responses import Response
from typing_extensions import TypedDict

BASE = "https://orderplane.dev/problems/"
MEDIA_TYPE = "application/problem+json"


@dataclass(frozen=True, slots=True)
class ProblemType:
    """One type of problem: its stable code, HTTP status and constant title."""

    code: str
    status: int
    title: str

    @property
    def uri(self) -> str:
        """The `type` member."""
        return BASE + self.code


_TYPES = (
    ProblemType("invalid_json", 400, "The body is not valid JSON"),
    ProblemType("idempotency_key_missing", 400, "The Idempotency-Key header is missing"),
    ProblemType("idempotency_key_invalid", 400, "The Idempotency-Key header is malformed"),
    ProblemType("invalid_cursor", 400, "The cursor is not valid for this list"),
    ProblemType("invalid_request", 400, "The form lacks a field or is malformed"),
    ProblemType("invalid_grant", 400, "The credentials or the refresh token are not valid"),
    ProblemType("unsupported_grant_type", 400, "The grant type is not supported"),
    ProblemType("invalid_confirmation", 400, "The link or code is not valid"),
    ProblemType("invalid_client", 401, "The client is unknown or its secret is wrong"),
    ProblemType("unauthenticated", 401, "An access token is required"),
    ProblemType("invalid_token", 401, "The access token is not valid"),
    ProblemType("login_too_old", 401, "The login is too old for this"),
    ProblemType("wrong_password", 403, "The current password is wrong"),
    ProblemType("insufficient_scope", 403, "The access token lacks a scope"),
    ProblemType("order_not_found", 404, "The order does not exist"),
    ProblemType("user_not_found", 404, "The user does not exist"),
    ProblemType("product_not_found", 404, "The product does not exist"),
    ProblemType("client_not_found", 404, "The service does not exist"),
    ProblemType("message_not_found", 404, "The message does not exist"),
    ProblemType("price_rule_not_found", 404, "The currency has no price rule"),
    ProblemType("stock_not_found", 404, "The product has no stock record"),
    ProblemType("reservation_not_found", 404, "The reservation does not exist"),
    ProblemType("endpoint_not_found", 404, "The webhook endpoint does not exist"),
    ProblemType("delivery_not_found", 404, "The endpoint has no such delivery"),
    ProblemType("route_not_found", 404, "The address does not exist"),
    ProblemType("method_not_allowed", 405, "The address does not support the method"),
    ProblemType("request_timeout", 408, "The request did not arrive in time"),
    ProblemType("price_changed", 409, "The total differs from the expected one"),
    ProblemType("request_in_progress", 409, "The first request with this key is still running"),
    ProblemType("request_expired", 409, "The first request with this key was never answered"),
    ProblemType("too_late_to_cancel", 409, "The carrier has the parcel"),
    ProblemType("already_finished", 409, "The order is finished"),
    ProblemType("nothing_to_settle", 409, "Nothing of the order can be settled by hand"),
    ProblemType("not_shipped", 409, "The carrier does not have the order"),
    ProblemType("refund_refused", 409, "The refund cannot be made"),
    ProblemType("order_name_taken", 409, "Another order has the name of this key"),
    ProblemType("no_namespace", 409, "The merchant has no namespace"),
    ProblemType("email_taken", 409, "Another user has this e-mail address"),
    ProblemType("write_conflict", 409, "It was changed at the same time"),
    ProblemType("sku_taken", 409, "A product with this SKU exists"),
    ProblemType("stock_reserved", 409, "The stock is reserved"),
    ProblemType("stock_raced", 409, "Orders changed the stock during the recount"),
    ProblemType("out_of_stock", 409, "There is not enough stock"),
    ProblemType("reservation_name_taken", 409, "Another reservation has the name of this key"),
    ProblemType("reservation_not_held", 409, "The reservation does not hold what is ordered"),
    ProblemType("reservation_differs", 409, "The reservation holds other items"),
    ProblemType("reservation_of_order", 409, "The reservation belongs to an order"),
    ProblemType("too_many_endpoints", 409, "The merchant has as many webhook endpoints as there may be"),
    ProblemType("endpoint_disabled", 409, "The webhook endpoint is disabled"),
    ProblemType("cursor_expired", 410, "The cursor has expired"),
    ProblemType("precondition_failed", 412, "The version is not the expected one"),
    ProblemType("body_too_large", 413, "The body is too large"),
    ProblemType("target_too_long", 414, "The address is too long"),
    ProblemType("unsupported_media_type", 415, "The media type is not supported"),
    ProblemType("validation_failed", 422, "Some fields are not valid"),
    ProblemType("idempotency_key_reused", 422, "The Idempotency-Key belongs to another request"),
    ProblemType("order_refused", 422, "The order violates a rule of the cluster"),
    ProblemType("reservation_refused", 422, "The reservation violates a rule of the cluster"),
    ProblemType("unknown_sku", 422, "The product does not exist"),
    ProblemType("inactive_sku", 422, "The product is not for sale"),
    ProblemType("duplicate_sku", 422, "A product is listed twice"),
    ProblemType("mixed_currency", 422, "The products are priced in different currencies"),
    ProblemType("no_price_in_currency", 422, "A product has no price in the currency"),
    ProblemType("unsupported_currency", 422, "The currency is not supported"),
    ProblemType("no_price_rule", 422, "The shop takes no orders in the currency"),
    ProblemType("unserved_country", 422, "The shop sends nothing to the country in this currency"),
    ProblemType("too_many_items", 422, "The order has too many items"),
    ProblemType("too_heavy", 422, "The order is too heavy to ship"),
    ProblemType("amount_too_large", 422, "The total exceeds the limit"),
    ProblemType("amount_too_small", 422, "The total is less than can be charged"),
    ProblemType("amount_not_chargeable", 422, "The total is no amount that can be charged"),
    ProblemType("rate_limited", 429, "Too many requests"),
    ProblemType("too_many_logins", 429, "Too many failed logins"),
    ProblemType("too_many_streams", 429, "Too many streams"),
    ProblemType("header_too_large", 431, "The header of the request is too large"),
    ProblemType("bad_request", 400, "The request is malformed"),
    ProblemType("internal_error", 500, "Internal error"),
    ProblemType("overloaded", 503, "The service is overloaded"),
    ProblemType("unavailable", 503, "A dependency is not available"),
)

PROBLEM_TYPES: Mapping[str, ProblemType] = {kind.code: kind for kind in _TYPES}


class PlaceView(TypedDict, total=False):
    """One wrong place: a `pointer` into the body (RFC 6901, as a URI fragment), or a `parameter`."""

    pointer: Annotated[str, Field(examples=["#/items/0/quantity"])]
    parameter: str
    detail: Required[Annotated[str, Field(examples=["Input should be greater than or equal to 1"])]]


class ProblemView(TypedDict):
    """A problem document (RFC 9457). Some types have further members, as `price_changed` has `total`."""

    type: Annotated[str, Field(examples=["https://orderplane.dev/problems/validation_failed"])]
    title: Annotated[str, Field(description="The same for every problem of this type.")]
    status: Annotated[int, Field(description="The HTTP status.", examples=[422])]
    detail: Annotated[str, Field(description="What happened, to what, and what to do; text for display.")]
    code: Annotated[
        str,
        Field(
            description="The last part of `type`; it never changes. New codes may be added: decide by "
            "`status` if the code is unknown."
        ),
    ]
    errors: NotRequired[Annotated[list[PlaceView], Field(description="Wrong places, without values.")]]
    traceId: NotRequired[Annotated[str, Field(description="Quote it when you report the failure.")]]
    error: NotRequired[Annotated[str, Field(description="Of the token endpoint (RFC 6749, 5.2).")]]
    error_description: NotRequired[Annotated[str, Field(description="The same as `detail`, beside `error`.")]]


class Problem(Exception):  # noqa: N818 - a response, and not always a fault of ours
    """Ends a request with a problem document.

    Args:
        code: A key of `PROBLEM_TYPES`.
        detail: What happened, to what, and what to do; never a value that the client sent, which may be
            personal or secret.
        errors: `{pointer, detail}` for a place in the body, `{parameter, detail}` for one in the query.
        extra: Further members of the document.
        headers: Further headers of the response.
    """

    def __init__(
        self,
        code: str,
        detail: str,
        *,
        errors: Sequence[Mapping[str, str]] = (),
        extra: Mapping[str, Any] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(f"{code}: {detail}")
        self.type = PROBLEM_TYPES[code]
        self.detail = detail
        self.errors = errors
        self.extra = extra or {}
        self.headers = headers or {}


def unavailable(detail: str, retry_after: float | None = None, *, code: str = "unavailable") -> Problem:
    """A 503 with Retry-After; one second if the time is not known."""
    return Problem(code, detail, headers={"Retry-After": str(max(1, round(retry_after or 1)))})


def render(problem: Problem) -> tuple[bytes, dict[str, str]]:
    """The document and the headers of the response. A 5xx carries the trace id, for questions to support."""
    document: dict[str, Any] = {
        "type": problem.type.uri,
        "title": problem.type.title,
        "status": problem.type.status,
        "detail": problem.detail,
        "code": problem.type.code,
        **problem.extra,
    }
    if problem.errors:
        document["errors"] = list(problem.errors)
    context = trace.get_current_span().get_span_context()
    if problem.type.status >= 500 and context.is_valid:
        document["traceId"] = format(context.trace_id, "032x")
    return orjson.dumps(document), {"Content-Type": MEDIA_TYPE, **problem.headers}


def problem_response(problem: Problem) -> Response:
    """The problem as a Starlette response."""
    body, headers = render(problem)
    return Response(body, status_code=problem.type.status, headers=headers)
