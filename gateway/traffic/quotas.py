"""How much one user and one address may ask for. Pure."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

WINDOW_SECONDS = 60


class RouteClass(StrEnum):
    """What kind of request it is; each has quotas of its own."""

    AUTH = "auth"
    ORDERS = "orders"
    READS = "reads"
    WRITES = "writes"


@dataclass(frozen=True, slots=True)
class Quota:
    """Requests a minute.

    Args:
        user: Of one customer. Who acts for a whole shop (roles merchant, admin and service) is allowed as
            much as an address is.
        address: From one address, whoever is there: a household, an office, a shop's servers.
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

_RULES = (
    ("POST", re.compile(r"/api/auth/.*"), RouteClass.AUTH),
    ("PUT", re.compile(r"/api/users/me/password"), RouteClass.AUTH),
    ("POST", re.compile(r"/api/orders"), RouteClass.ORDERS),
    ("GET|HEAD|OPTIONS", re.compile(r".*", re.DOTALL), RouteClass.READS),
)
"""Methods, path and class; the first that fits. What none fits is a write."""

_OVERRIDE = re.compile(r"(?P<name>[a-z]+)=(?P<user>[1-9][0-9]{0,8})/(?P<address>[1-9][0-9]{0,8})")


def class_of(method: str, path: str) -> RouteClass:
    """The class of a request."""
    for methods, pattern, route_class in _RULES:
        if method in methods.split("|") and pattern.fullmatch(path):
            return route_class
    return RouteClass.WRITES


def quotas_from(text: str) -> Quotas | None:
    """Read `reads=600/6000, orders=60/600`, requests a minute of a user and an address; `off` is None.

    What is left out keeps its default.

    Raises:
        ValueError: a part cannot be read.
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
