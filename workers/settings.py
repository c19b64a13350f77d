"""Settings of the workers, which share the history in PostgreSQL and Kafka."""

from email.utils import parseaddr
from typing import Annotated, Any

from pydantic import BeforeValidator, Field, SecretStr, ValidationInfo, field_validator
from pydantic_settings import NoDecode

from orderplane.adapters.settings import HttpUrl, LedgerSettings, MetricsPort, url_with_scheme
from orderplane.adapters.sms.twilio import TWILIO
from orderplane.adapters.webhook_endpoints.settings import (
    DEFAULT_NETWORKS,
    ENDPOINT_KEYS,
    EndpointKeys,
    EndpointNetworks,
)


class WorkerSettings(LedgerSettings):
    """What every worker reads."""

    metrics_port: MetricsPort = 9091
    kafka: str | None = Field(
        None,
        description="Kafka's bootstrap servers, HOST:PORT with commas between. Without them events wait in "
        "the outbox and are counted.",
    )
    kafka_replication: int = Field(
        1, ge=1, le=10, description="Replication factor of topics that are created."
    )


class RelaySettings(WorkerSettings):
    """The relay: publishes the events of the outbox to Kafka."""


PAUSES = (5.0, 30.0, 120.0, 600.0, 1800.0, 3600.0, 7200.0, 14_400.0)
"""Before each further attempt of a delivery: thirteen in a day."""


def _pauses(value: Any) -> Any:
    return tuple(part.strip() for part in value.split(",")) if isinstance(value, str) else value


class DelivererSettings(LedgerSettings):
    """The deliverer: sends events to the webhook endpoints of merchants."""

    metrics_port: MetricsPort = 9091
    endpoint_keys: EndpointKeys = Field(description=ENDPOINT_KEYS)
    endpoint_networks: EndpointNetworks = DEFAULT_NETWORKS
    delivery_timeout_seconds: float = Field(
        15.0, ge=0.1, le=60, description="Seconds in which an endpoint has to answer."
    )
    delivery_lease_seconds: float = Field(
        45.0,
        ge=1,
        le=3_600,
        validate_default=True,
        description="Seconds after which others take over what a dead deliverer had claimed: longer than an "
        "attempt and the writing of its result.",
    )
    delivery_pauses: Annotated[
        tuple[Annotated[float, Field(gt=0, le=86_400)], ...], NoDecode, BeforeValidator(_pauses)
    ] = Field(
        PAUSES,
        min_length=1,
        description="Seconds before the second attempt, the third and so on; the last one again and again.",
        json_schema_extra={"written": ", ".join(f"{pause:g}" for pause in PAUSES)},
    )
    delivery_good_for_seconds: int = Field(
        86_400,
        ge=1,
        le=2_592_000,
        description="Seconds after its first attempt in which a delivery is tried; then it is parked.",
    )
    endpoint_patience_seconds: int = Field(
        259_200,
        ge=1,
        le=2_592_000,
        description="Seconds for which an endpoint may take nothing; then it is disabled, and the staff of "
        "its merchant gets a mail.",
    )

    @field_validator("delivery_lease_seconds")
    @classmethod
    def _longer_than_an_attempt(cls, lease: float, info: ValidationInfo) -> float:
        if lease < info.data.get("delivery_timeout_seconds", 0) + 1:
            raise ValueError("make it longer than ORDERPLANE_DELIVERY_TIMEOUT_SECONDS, by a second at least")
        return lease


class NotifierSettings(WorkerSettings):
    """The notifier: sends customers mail and SMS about their orders and accounts.

    A channel whose provider is not set is not offered.
    """

    smtp_url: Annotated[SecretStr, url_with_scheme("smtp", "smtp+starttls", "smtps")] | None = Field(
        None, description="Mail server, with user and password where it asks for them."
    )
    mail_from: str | None = Field(
        None,
        validate_default=True,
        description="Sender of mail, as NAME <ADDRESS>; required with a mail server.",
    )
    sms_url: HttpUrl = Field(TWILIO, description="SMS provider, a server with Twilio's API.")
    sms_key: SecretStr | None = Field(
        None, description="Account at the SMS provider, as ACCOUNT_SID:AUTH_TOKEN."
    )
    sms_from: str | None = Field(
        None,
        validate_default=True,
        description="Number or name that SMS come from; required with an account.",
    )
    account_url: HttpUrl | None = Field(
        None,
        description="Page of the shop that links in mails about accounts open; {merchant} in it stands for "
        "the merchant. It gets the token as #confirm-registration=TOKEN, #confirm-email=TOKEN or "
        "#reset-password=TOKEN. Without a page, the mails have the token to be copied.",
    )
    notifier_lease_seconds: int = Field(
        30,
        ge=1,
        le=3_600,
        description="Seconds after which others take over what a dead notifier had claimed: more than "
        "twice what a call to a provider may take, which is 8 seconds.",
    )
    notifier_good_for_seconds: int = Field(
        86_400, ge=1, le=2_592_000, description="Seconds after its first attempt in which a message is tried."
    )

    @field_validator("mail_from", "sms_from")
    @classmethod
    def _sender_where_a_channel_is_set(cls, sender: str | None, info: ValidationInfo) -> str | None:
        channel = {"mail_from": "smtp_url", "sms_from": "sms_key"}[str(info.field_name)]
        if info.data.get(channel) and not sender:
            raise ValueError(f"set the sender, because ORDERPLANE_{channel.upper()} is set")
        if info.field_name == "mail_from" and not parseaddr(sender or "")[1].isascii():
            raise ValueError("give the address in ASCII, its domain in A-labels (xn--)")
        return sender
