"""Webhook endpoints and the deliveries of events to them, and what a URL of an endpoint may be."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from ipaddress import AddressValueError, IPv4Address, IPv6Address
from typing import Any
from urllib.parse import urlsplit
from uuid import UUID

MOST_ENDPOINTS = 20
"""Of one merchant."""

MAX_URL = 2000

TEST_TYPE = "endpoint.test"
"""The type of the event by which an endpoint is tested. It is in no history and no topic."""


class DeliveryState(StrEnum):
    """State of a delivery. Only a Waiting one is sent."""

    WAITING = "Waiting"
    DELIVERED = "Delivered"  # the endpoint has answered with 2xx
    PARKED = "Parked"  # given up; a person may have it sent again


class DisabledReason(StrEnum):
    """Why an endpoint gets nothing any more."""

    BY_SHOP = "ByShop"
    FAILING = "Failing"  # nothing was taken for days
    GONE = "Gone"  # it answered 410


@dataclass(frozen=True, slots=True)
class WebhookEndpoint:
    """Where a merchant's systems are told of events.

    Args:
        event_types: Those that it gets; empty: all.
        failing_since: Its first failure since its last success.
        previous_secret_until: Until then requests are signed by the secret before, too.
        actor: Who made it, as in `crds.actors`.
    """

    merchant: str
    id: str
    url: str
    description: str
    event_types: tuple[str, ...]
    version: int
    disabled_at: datetime | None
    disabled_reason: DisabledReason | None
    failing_since: datetime | None
    previous_secret_until: datetime | None
    actor: str | None
    created_at: datetime
    updated_at: datetime


@dataclass(frozen=True, slots=True)
class EndpointDetails:
    """What a person sets of an endpoint."""

    url: str
    description: str
    event_types: tuple[str, ...]
    is_enabled: bool


@dataclass(frozen=True, slots=True)
class DeliveryAttempt:
    """One request of a delivery whose end is known.

    Args:
        at: When it began.
        status: Of the answer; None where none came in time.
        reason: Why it failed; None where it did not.
        answer: The first 2 kB.
    """

    attempt: int
    at: datetime
    url: str
    status: int | None
    reason: str | None
    latency_seconds: float
    answer: str


@dataclass(frozen=True, slots=True)
class EventDelivery:
    """One event for one endpoint.

    Args:
        subject, sequence: The order's or the reservation's name, and the event's number; None for a test.
        attempts: How many were begun. log: Those whose end is known, the newest first.
        body: What is sent; only where one delivery is read.
    """

    endpoint: str
    event_id: UUID
    type: str
    subject: str | None
    sequence: int | None
    state: DeliveryState
    reason: str | None
    attempts: int
    created_at: datetime
    due_at: datetime
    ended_at: datetime | None
    body: bytes = b""
    log: tuple[DeliveryAttempt, ...] = field(default=())


def test_document(merchant: str, endpoint: str, event_id: UUID, at: datetime) -> Mapping[str, Any]:
    """The event by which an endpoint is tested, a CloudEvent as the others."""
    return {
        "specversion": "1.0",
        "id": str(event_id),
        "type": TEST_TYPE,
        "source": f"/orderplane/{merchant}",
        "subject": endpoint,
        "time": at.isoformat().replace("+00:00", "Z"),
        "datacontenttype": "application/json",
        "data": {"merchant": merchant, "endpoint": endpoint},
    }


test_document.__test__ = False  # type: ignore[attr-defined]  # pytest takes the name for that of a test


def check_url(url: str, *, is_private_allowed: bool) -> str:
    """The URL, if requests may be sent to it as far as its text tells.

    Which address its host has is decided when a connection is made, on the address that is connected to.

    Args:
        is_private_allowed: Networks beside the public internet are allowed: to them `http` and other ports
            are, too.

    Raises:
        ValueError: it may not; the message says why and does not repeat it.
    """
    if len(url) > MAX_URL or not url.isascii() or not url.isprintable() or " " in url or "\\" in url:
        raise ValueError(f"give a URL of at most {MAX_URL} visible ASCII characters, its host in A-labels")
    try:
        parts = urlsplit(url)
        port, host = parts.port, parts.hostname or ""
    except ValueError:
        raise ValueError("this is no URL") from None
    if parts.scheme not in ("https", "http") or not host:
        raise ValueError("give a URL that begins with https:// and a host")
    if "@" in parts.netloc:
        raise ValueError("a URL of an endpoint has no user and no password: requests are signed")
    if parts.fragment or url.endswith("#"):
        raise ValueError("a URL of an endpoint has no fragment")
    if parts.scheme == "http" and (not is_private_allowed or port in (None, 443)):
        raise ValueError("give a URL that begins with https://")
    if parts.scheme == "https" and port not in (None, 443) and not is_private_allowed:
        raise ValueError("only port 443 is allowed")
    _check_host(host, is_ipv6="[" in parts.netloc)
    return url


def _check_host(host: str, *, is_ipv6: bool) -> None:
    """Refuse what some programs read as an address and others as a name: 2130706433, 0x7f.1, 127.1."""
    try:
        if is_ipv6:
            if "%" in host:
                raise ValueError("an address has no zone")
            IPv6Address(host)
            return
        if host.rpartition(".")[2][:1].isdigit():
            IPv4Address(host)
            return
    except AddressValueError:
        raise ValueError("give a name, or an address in its usual form, such as 192.0.2.7") from None
    labels = host.split(".")
    if not all(_is_label(label) for label in labels) or len(host) > 253:
        raise ValueError("this is no host name; it ends without a dot")


def _is_label(label: str) -> bool:
    """RFC 1123, 2.1, and the underscore that some names of services have."""
    plain = label.replace("-", "").replace("_", "")
    return 1 <= len(label) <= 63 and plain.isalnum() and label[0] != "-" and label[-1] != "-"
