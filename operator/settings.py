"""Settings of the operator."""

import socket
from datetime import timedelta
from typing import Annotated, Any

import orjson
from pydantic import AfterValidator, BeforeValidator, Field, SecretStr
from pydantic_settings import NoDecode

from orderplane.adapters.settings import HttpUrl, LedgerSettings
from orderplane.controllers.order.rest import RestRules
from orderplane.crds.meta import Kind

CallSeconds = Annotated[float, Field(gt=0, le=60)]


def _kinds(value: Any) -> Any:
    """`order,payment` as kinds."""
    if not isinstance(value, str):
        return value
    names = {name.strip().capitalize() for name in value.split(",") if name.strip()}
    if unknown := names - {kind.value for kind in Kind}:
        raise ValueError(f"there is no controller {', '.join(sorted(unknown)).lower()}")
    return frozenset(Kind(name) for name in names)


def _json(value: Any) -> Any:
    try:
        return orjson.loads(value) if isinstance(value, str) else value
    except orjson.JSONDecodeError:
        raise ValueError("this is not JSON") from None


def _address(address: dict[str, str]) -> dict[str, str]:
    if missing := {"street1", "city", "zip", "country"} - set(address):
        raise ValueError(f"{', '.join(sorted(missing))} is missing in the address")
    return address


class OperatorSettings(LedgerSettings):
    """The operator: the controllers of orders, reservations, payments and shipments.

    The API server is found by KUBECONFIG, ~/.kube/config or the service account of the pod.
    """

    controllers: Annotated[frozenset[Kind], NoDecode, BeforeValidator(_kinds)] = Field(
        frozenset(Kind),
        description="Which controllers run here: a list of order, reservation, payment, shipment.",
        json_schema_extra={"written": ",".join(kind.value.lower() for kind in Kind)},
    )
    member: str = Field(
        default_factory=lambda: socket.gethostname().lower(),
        pattern=r"^[a-z0-9]([a-z0-9.-]{0,61}[a-z0-9])?$",
        description="Name of this replica among those of the operator: one process at a time has it.",
        json_schema_extra={"written": "the name of the host"},
    )
    payments_url: HttpUrl = Field(description="Payment provider, a server with Stripe's API.")
    payments_key: SecretStr = Field(description="Secret key of the account at the payment provider.")
    payments_seconds: CallSeconds = Field(
        10.0, description="Time-out in seconds of one call to the payment provider."
    )
    carrier_url: HttpUrl = Field(description="Carrier, a server with EasyPost's API.")
    carrier_key: SecretStr = Field(description="API key of the account at the carrier.")
    carrier_seconds: CallSeconds = Field(10.0, description="Time-out in seconds of one call to the carrier.")
    carrier_sender: Annotated[dict[str, str], NoDecode, BeforeValidator(_json), AfterValidator(_address)] = (
        Field(
            description="Where parcels are sent from: a JSON object of EasyPost's address fields, at least "
            "street1, city, zip and country."
        )
    )
    carrier_settle_seconds: float = Field(
        30.0,
        ge=1,
        le=3_600,
        description="Seconds in which a purchase of a label may still reach the carrier after it was sent. "
        "It is sent within a quarter of them, or begun again.",
    )
    tracking_first_seconds: float = Field(
        60.0,
        gt=0,
        le=86_400,
        description="Seconds from the purchase of a label to the first poll of its parcel.",
    )
    tracking_longest_seconds: float = Field(
        3_600.0, gt=0, le=86_400, description="Longest pause in seconds between two polls of a parcel."
    )
    rest_delivered_seconds: float = Field(
        900.0,
        ge=0,
        le=31_536_000,
        description="Seconds that an order stays in the API server after its delivery; then it is in the "
        "archive only. `spec.ttlSecondsAfterFinished` of an order goes before.",
    )
    rest_undone_seconds: float = Field(
        86_400.0,
        ge=0,
        le=31_536_000,
        description="Seconds that an order stays there after it failed, was cancelled or came back.",
    )
    live_orders: int = Field(
        8_000,
        ge=1,
        le=1_000_000,
        description="With more orders in the API server, those at rest longest leave early, also ones whose "
        "parcel is on its way, of the merchant that has most.",
    )

    @property
    def rest_rules(self) -> RestRules:
        """How long orders stay after their end."""
        return RestRules(
            timedelta(seconds=self.rest_delivered_seconds), timedelta(seconds=self.rest_undone_seconds)
        )
