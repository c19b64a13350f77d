"""Rate limits: how many requests one user and one address may send, by class of route."""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from prometheus_client import Counter
from starlette.types import Scope

from orderplane.adapters.limits.counters import Counters, Limit, LimitStatus
from orderplane.gateway.http.calls import Call
from orderplane.gateway.http.problems import Problem

WINDOW_SECONDS = 60

_OVERRIDE = re.compile(r"(?P<name>[a-z]+)=(?P<user>[1-9][0-9]{0,8})/(?P<address>[1-9][0-9]{0,8})")
LIMITED = Counter(
    "orderplane_http_rate_limited_total",
    "Requests that were refused because of a quota.",
    ["route_class", "by"],
)
_SCOPE_KEY = "orderplane.rate_limit"
RawHeaders = list[tuple[bytes, bytes]]


class RouteClass(StrEnum):
    """Classes of requests; each has its own quotas."""

    AUTH = "auth"
    ORDERS = "orders"
    READS = "reads"
    WRITES = "writes"


@dataclass(frozen=True, slots=True)
class Quota:
    """Requests per minute.

    Args:
        user: Of one customer. Callers who act for a whole shop (merchant, admin and service) are allowed as
            much as an address.
        address: From one address, which a household, an office or a shop's servers may share.
    """

    user: int
    address: int


Quotas = Mapping[RouteClass, Quota]

DEFAULTS: Quotas = {
    RouteClass.AUTH: Quota(user=20, address=120),
    RouteClass.ORDERS: Quota(user=60, address=600),
    RouteClass.READS: Quota(user=600, address=6_000),
    RouteClass.WRITES: Quota(user=120, address=1_200),
}

_READING = ("GET", "HEAD", "OPTIONS")
_AUTH_ROUTES = (
    "/api/users/me/password", "/api/users/me/email", "/api/users/me/email/confirm",
    "/api/users/me/phone/confirm",
)  # fmt: skip


def class_of(method: str, route: str | None) -> RouteClass:
    """The class of a request.

    Args:
        route: The template of the route that serves it; None if there is none.
    """
    if method in _READING:
        return RouteClass.READS
    if route is None:
        return RouteClass.WRITES
    if route.startswith("/api/auth/") or route in _AUTH_ROUTES:
        return RouteClass.AUTH
    return RouteClass.ORDERS if (method, route) == ("POST", "/api/orders") else RouteClass.WRITES


def quotas_from(text: str) -> Quotas | None:
    """Parse `reads=600/6000, orders=60/600`: requests per minute of a user and of an address.

    Classes that are left out keep their defaults; `off` gives None.

    Raises:
        ValueError: a part is malformed or names no class.
    """
    if text.strip() == "off":
        return None
    quotas = dict(DEFAULTS)
    for part in (part.strip() for part in text.split(",") if part.strip()):
        override = _OVERRIDE.fullmatch(part)
        if override is None or override["name"] not in quotas:
            raise ValueError(f"{part!r} is no quota")
        quotas[RouteClass(override["name"])] = Quota(int(override["user"]), int(override["address"]))
    return quotas


class RateLimits:
    """Counts every request, and refuses those over quota (429).

    The address is counted first, so that a request over quota costs no parsing, and the user as soon as the
    token was verified (`principal.allowed`).
    """

    def __init__(self, quotas: Quotas, counters: Counters) -> None:
        self._quotas = quotas
        self._counters = counters

    async def count_address(self, call: Call) -> None:
        """Count the request for its address.

        Raises:
            Problem: `rate_limited`.
        """
        route_class = class_of(call.method, call.template)
        rate_limit = RequestRateLimit(self._counters, route_class, self._quotas[route_class])
        call.scope[_SCOPE_KEY] = rate_limit
        await rate_limit.count_address(call.subscriber)


class RequestRateLimit:
    """The rate limits of one request: those of its address and its user."""

    def __init__(self, counters: Counters, route_class: RouteClass, quota: Quota) -> None:
        self._counters = counters
        self._class = route_class
        self._quota = quota
        self._statuses: list[tuple[str, Limit, LimitStatus]] = []

    async def count_address(self, subscriber: str) -> None:
        """Count the request for whom its address stands for.

        Raises:
            Problem: `rate_limited`.
        """
        await self._count("address", self._quota.address, subscriber)

    async def count_user(self, merchant: str, name: str, *, is_shop: bool) -> None:
        """Count the request for its user.

        Raises:
            Problem: `rate_limited`.
        """
        await self._count("user", self._quota.address if is_shop else self._quota.user, merchant, name)

    def headers(self) -> RawHeaders:
        """`RateLimit-Policy` and `RateLimit` for what was counted."""
        return headers_of(self._statuses)

    async def _count(self, by: str, amount: int, *key: str) -> None:
        limit = Limit(amount, WINDOW_SECONDS)
        status = await self._counters.hit(limit, by, self._class.value, *key)
        self._statuses.append((f"{self._class.value}-{by}", limit, status))
        if status.is_within:
            return
        LIMITED.labels(self._class.value, by).inc()
        seconds = max(1, math.ceil(status.reset_seconds))
        raise Problem(
            "rate_limited",
            f"{'This user' if by == 'user' else 'Your address'} may send {amount} requests of this kind in "
            f"{WINDOW_SECONDS} s. Try again in {seconds} s.",
            headers={"Retry-After": str(seconds)},
        )


def rate_limit_of(scope: Scope) -> RequestRateLimit | None:
    """The rate limits of the request; None if limits are off."""
    return scope.get(_SCOPE_KEY)


def headers_of(statuses: list[tuple[str, Limit, LimitStatus]]) -> RawHeaders:
    """The fields of draft-ietf-httpapi-ratelimit-headers: lists of named policies (RFC 9651)."""
    if not statuses:
        return []
    policies = ", ".join(f'"{name}";q={limit.amount};w={limit.seconds}' for name, limit, _ in statuses)
    states = ", ".join(
        f'"{name}";r={status.left};t={math.ceil(status.reset_seconds)}' for name, _, status in statuses
    )
    return [(b"ratelimit-policy", policies.encode()), (b"ratelimit", states.encode())]
