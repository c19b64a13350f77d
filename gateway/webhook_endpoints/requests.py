"""Request bodies for webhook endpoints."""

from datetime import datetime
from typing import Annotated, Any, Self

from pydantic import AfterValidator, AwareDatetime, ConfigDict, Field, model_validator

from orderplane.crds.meta import ApiModel
from orderplane.crds.text import Line
from orderplane.events.standard_webhooks import check_secret
from orderplane.events.types import EventType
from orderplane.gateway.http.body import STRICT
from orderplane.ledgers.webhook_endpoints import MAX_URL, DeliveryState, EndpointDetails, WebhookEndpoint

_SECRET_EXAMPLE = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSwMfKQ9r8GKYo="  # noqa: S105 - of the specification

Url = Annotated[
    str,
    Field(
        min_length=1,
        max_length=MAX_URL,
        description="Where events are sent to by POST: https, port 443, a public address; unless whoever "
        "runs this allows more. Redirects are not followed.",
        examples=["https://erp.example.com/orderplane"],
    ),
]
Description = Annotated[
    Line, Field(max_length=200, description="For people; no personal data.", examples=["our ERP"])
]
EventTypes = Annotated[
    tuple[Annotated[str, Field(max_length=64)], ...],
    Field(
        max_length=64,
        description="The types of events that it gets; empty: all, those of later versions, too.",
        examples=[["order.shipped", "order.delivered"]],
    ),
]
Secret = Annotated[
    str,
    Field(
        max_length=128,
        description="`whsec_` and the base64 of 24 to 64 random bytes. Without it, one is made.",
        examples=[_SECRET_EXAMPLE],
    ),
    AfterValidator(check_secret),
]


def _as_patch(schema: dict[str, Any]) -> None:
    """Turn the schema into that of a merge patch."""
    del schema["required"]
    fields = schema["properties"]
    for name in ("description", "eventTypes", "enabled"):
        fields[name] = {"anyOf": [fields[name], {"type": "null"}]}
    schema["examples"] = [{"eventTypes": ["order.shipped"]}]


class EndpointDetailsRequest(ApiModel):
    """What can be changed of an endpoint. Null resets what may be left out."""

    model_config = ConfigDict(**STRICT, title="WebhookEndpointPatch", json_schema_extra=_as_patch)

    url: Url
    description: Description = ""
    event_types: EventTypes = ()
    enabled: Annotated[
        bool,
        Field(
            description="A disabled endpoint gets nothing. Its deliveries are parked, and can be replayed.",
            examples=[True],
        ),
    ] = True

    @model_validator(mode="after")
    def _known_types(self) -> Self:
        known = set(EventType)
        if len(set(self.event_types)) < len(self.event_types) or not known.issuperset(self.event_types):
            raise ValueError(f"Give each type in eventTypes once, of: {', '.join(sorted(known))}.")
        return self

    def details(self) -> EndpointDetails:
        """As the store takes them."""
        return EndpointDetails(
            self.url, self.description, tuple(sorted(self.event_types)), is_enabled=self.enabled
        )


class EndpointRequest(EndpointDetailsRequest):
    """An endpoint to register."""

    model_config = ConfigDict(
        **STRICT,
        title="WebhookEndpointRequest",
        json_schema_extra={
            "examples": [
                {
                    "url": "https://erp.example.com/orderplane",
                    "description": "our ERP",
                    "eventTypes": ["order.shipped", "order.delivered"],
                }
            ]
        },
    )

    secret: Secret | None = None


class RotationRequest(ApiModel):
    """A new secret."""

    model_config = ConfigDict(
        **STRICT, title="SecretRotationRequest", json_schema_extra={"examples": [{"overlapSeconds": 86400}]}
    )

    secret: Secret | None = None
    overlap_seconds: Annotated[
        int,
        Field(
            ge=0,
            le=604_800,
            description="For how long requests are signed by the secret before, too; a week at most.",
            examples=[86400],
        ),
    ] = 86_400


class ReplayRequest(ApiModel):
    """Which deliveries to send again: those of the events from `since` to before `until`."""

    model_config = ConfigDict(
        **STRICT,
        title="DeliveryReplayRequest",
        json_schema_extra={"examples": [{"since": "2026-03-01T00:00:00Z", "until": "2026-03-02T00:00:00Z"}]},
    )

    since: Annotated[AwareDatetime, Field(examples=["2026-03-01T00:00:00Z"])]
    until: Annotated[AwareDatetime, Field(examples=["2026-03-02T00:00:00Z"])]
    delivered_too: Annotated[
        bool, Field(description="Also those that were delivered; else the parked ones.", examples=[False])
    ] = False

    @model_validator(mode="after")
    def _range(self) -> Self:
        if self.since >= self.until:
            raise ValueError("since has to be before until.")
        return self

    @property
    def states(self) -> tuple[DeliveryState, ...]:
        """Of the deliveries that are meant."""
        parked = (DeliveryState.PARKED,)
        return (*parked, DeliveryState.DELIVERED) if self.delivered_too else parked

    @property
    def range(self) -> tuple[datetime, datetime]:
        """From the first to before the second."""
        return self.since, self.until


def document_of(endpoint: WebhookEndpoint) -> dict[str, Any]:
    """An endpoint as the body that would make it; a merge patch is applied to it."""
    return {
        "url": endpoint.url,
        "description": endpoint.description,
        "eventTypes": list(endpoint.event_types),
        "enabled": endpoint.disabled_at is None,
    }
