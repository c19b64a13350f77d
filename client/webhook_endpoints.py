"""Webhook endpoints of a merchant, and their deliveries."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any, cast
from urllib.parse import quote

from orderplane.client.accounts import Caller
from orderplane.client.responses import (
    DeliveryLog,
    DeliveryReplay,
    EndpointSecret,
    EventDeliveryPage,
    WebhookEndpoint,
    WebhookEndpointList,
)
from orderplane.client.transport import Request

_PATH = "/api/webhook-endpoints"


class WebhookEndpoints:
    """The webhook endpoints of the caller's merchant. What has a `key` is done once for each key."""

    def __init__(self, caller: Caller) -> None:
        self._caller = caller

    async def list(self) -> WebhookEndpointList:
        """All of them, the oldest first."""
        return cast("WebhookEndpointList", await self._send(Request("GET", _PATH)))

    async def add(self, endpoint: Mapping[str, Any], *, key: str) -> WebhookEndpoint:
        """Register one.

        Args:
            endpoint: As the body of the route.

        Raises:
            ApiProblem: `validation_failed`, `too_many_endpoints`.
        """
        return cast("WebhookEndpoint", await self._send(_keyed(_PATH, key, endpoint)))

    async def get(self, endpoint: str) -> WebhookEndpoint:
        """One of them.

        Raises:
            ApiProblem: `endpoint_not_found`, as every method that names one.
        """
        return cast("WebhookEndpoint", await self._send(Request("GET", _of(endpoint))))

    async def change(self, endpoint: str, patch: Mapping[str, Any]) -> WebhookEndpoint:
        """Change one by a JSON merge patch.

        Raises:
            ApiProblem: `validation_failed`.
        """
        request = Request("PATCH", _of(endpoint), json=patch, is_idempotent=True)
        return cast("WebhookEndpoint", await self._send(request))

    async def delete(self, endpoint: str) -> None:
        """Delete one."""
        await self._caller.send(Request("DELETE", _of(endpoint)))

    async def secret(self, endpoint: str) -> EndpointSecret:
        """The secret of one."""
        return cast("EndpointSecret", await self._send(Request("GET", f"{_of(endpoint)}/secret")))

    async def rotate_secret(
        self, endpoint: str, *, key: str, secret: str | None = None, overlap_seconds: int | None = None
    ) -> WebhookEndpoint:
        """Replace the secret of one.

        Args:
            secret: None: one is made.
            overlap_seconds: For how long the one before is valid, too.

        Raises:
            ApiProblem: `validation_failed`.
        """
        body = {"secret": secret, "overlapSeconds": overlap_seconds}
        given = {name: value for name, value in body.items() if value is not None}
        return cast(
            "WebhookEndpoint", await self._send(_keyed(f"{_of(endpoint)}/secret/rotations", key, given))
        )

    async def test(self, endpoint: str, *, key: str) -> DeliveryLog:
        """Have a test event sent to one."""
        return cast("DeliveryLog", await self._send(_keyed(f"{_of(endpoint)}/tests", key)))

    async def deliveries(
        self,
        endpoint: str,
        *,
        state: str | None = None,
        type_: str | None = None,
        order: str | None = None,
        limit: int | None = None,
        cursor: str | None = None,
    ) -> EventDeliveryPage:
        """A page of the deliveries of one, the newest first.

        Raises:
            ApiProblem: `validation_failed`, `invalid_cursor`.
        """
        query = {"state": state, "type": type_, "order": order, "limit": limit, "cursor": cursor}
        return cast(
            "EventDeliveryPage", await self._send(Request("GET", f"{_of(endpoint)}/deliveries", query))
        )

    async def delivery(self, endpoint: str, event_id: str) -> DeliveryLog:
        """One delivery with its attempts.

        Raises:
            ApiProblem: `delivery_not_found`.
        """
        return cast("DeliveryLog", await self._send(Request("GET", _delivery(endpoint, event_id))))

    async def replay(self, endpoint: str, event_id: str, *, key: str) -> DeliveryLog:
        """Send one event again.

        Raises:
            ApiProblem: `delivery_not_found`, `endpoint_disabled`.
        """
        return cast("DeliveryLog", await self._send(_keyed(f"{_delivery(endpoint, event_id)}/replay", key)))

    async def replay_range(
        self, endpoint: str, since: datetime, until: datetime, *, key: str, delivered_too: bool = False
    ) -> DeliveryReplay:
        """Send the parked deliveries of a time range again.

        Raises:
            ApiProblem: `validation_failed`, `endpoint_disabled`.
        """
        body = {"since": since.isoformat(), "until": until.isoformat(), "deliveredToo": delivered_too}
        return cast("DeliveryReplay", await self._send(_keyed(f"{_of(endpoint)}/replays", key, body)))

    async def _send(self, request: Request) -> Any:
        return (await self._caller.send(request)).document


def _keyed(path: str, key: str, body: Mapping[str, Any] | None = None) -> Request:
    return Request("POST", path, json=body, headers={"Idempotency-Key": key})


def _of(endpoint: str) -> str:
    return f"{_PATH}/{quote(endpoint, safe='')}"


def _delivery(endpoint: str, event_id: str) -> str:
    return f"{_of(endpoint)}/deliveries/{quote(event_id, safe='')}"
