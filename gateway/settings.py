"""Settings of the gateway."""

import math
from pathlib import Path
from typing import Annotated, Any

from pydantic import BeforeValidator, Field, SecretStr, ValidationInfo, field_validator
from pydantic_settings import NoDecode

from orderplane.adapters.payments.settings import LeastCharges
from orderplane.adapters.payments.stripe_currencies import LEAST_CHARGES
from orderplane.adapters.settings import AnyPort, HttpUrl, LedgerSettings, url_with_scheme
from orderplane.adapters.webhook_endpoints.settings import (
    DEFAULT_NETWORKS,
    ENDPOINT_KEYS,
    EndpointKeys,
    EndpointNetworks,
)
from orderplane.gateway.http.client_address import Networks, networks
from orderplane.gateway.http.cors import origins
from orderplane.gateway.traffic.rate_limits import DEFAULTS, Quotas, quotas_from


def _networks(value: Any) -> Any:
    return networks(value) if isinstance(value, str) else value


def _origins(value: Any) -> Any:
    return origins(value) if isinstance(value, str) else value


def _quotas(value: Any) -> Any:
    return quotas_from(value) if isinstance(value, str) else value


def _seconds_or_off(value: Any) -> Any:
    if value == "off":
        return math.inf
    if isinstance(value, str) and not math.isfinite(float(value)):
        raise ValueError("give a number of seconds, or off")
    return value


class GatewaySettings(LedgerSettings):
    """The gateway: the HTTP API for shops and their customers.

    The API server is found by KUBECONFIG, ~/.kube/config or the service account of the pod. Tokens are issued
    here (ORDERPLANE_SIGNING_KEYS), or by a provider of OpenID Connect (ORDERPLANE_OIDC_ISSUER).
    """

    http_host: str = Field("127.0.0.1", description="Address to listen on.")
    http_port: AnyPort = Field(8080, description="Port to listen on; 0 takes a free one.")
    http_reuse_port: bool = Field(
        False,
        description="Whether other gateways on this machine listen on the same port: the kernel spreads "
        "connections over them (SO_REUSEPORT). Off, a second one does not start.",
    )
    merchant: str = Field(
        "demo", description="The merchant whose accounts are meant where a login names none."
    )
    signing_keys: Path | None = Field(
        None, description="Folder of the private keys (PEM) that sign tokens, as a mounted Secret."
    )
    issuer: str | None = Field(
        None, description="Issuer of our own tokens; without it, the address of this process."
    )
    audience: str = Field("orderplane", description="Audience that tokens must have.")
    oidc_issuer: HttpUrl | None = Field(
        None,
        validate_default=True,
        description="Provider of OpenID Connect that issues tokens, in place of our own accounts: its URL "
        "without /.well-known/openid-configuration.",
    )
    oidc_merchant_claim: str = Field("merchant", description="Claim with the caller's merchant.")
    oidc_role_claim: str = Field("role", description="Claim with the caller's role.")
    mail_smtputf8: bool = Field(
        False,
        description="Whether the notifier's mail server takes addresses with letters beyond ASCII before the "
        "@ (SMTPUTF8, RFC 6531). If not, they are refused at registration. Letters beyond ASCII after the @ "
        "can always be sent to.",
    )
    trusted_proxies: Annotated[Networks, NoDecode, BeforeValidator(_networks)] = Field(
        (),
        description="Networks whose X-Forwarded-For is believed, such as 10.0.0.0/8, 192.0.2.7.",
    )
    cors_origins: Annotated[tuple[str, ...], NoDecode, BeforeValidator(_origins)] = Field(
        (),
        description="Origins whose pages may call this API from a browser (CORS), such as "
        "https://shop.example, http://localhost:3000. None by default.",
    )
    rate_limits: Annotated[Quotas | None, NoDecode, BeforeValidator(_quotas)] = Field(
        DEFAULTS,
        description="Requests a minute of one user and from one address, by class (auth, orders, reads, "
        "writes), such as reads=600/6000, orders=60/600. A class that is left out keeps its default; off "
        "limits nothing.",
        json_schema_extra={
            "written": ", ".join(f"{name}={it.user}/{it.address}" for name, it in DEFAULTS.items())
        },
    )
    redis_url: Annotated[SecretStr, url_with_scheme("redis", "rediss")] | None = Field(
        None, description="Redis in which replicas count requests together; each counts alone without it."
    )
    shed_after_seconds: Annotated[float, BeforeValidator(_seconds_or_off)] = Field(
        120.0,
        gt=0,
        description="New orders are refused (503) while they would wait about this many seconds; off "
        "refuses none.",
    )
    archive_months: int = Field(
        0,
        ge=0,
        le=1_200,
        description="Months for which orders that have left the API server are archived; then they are "
        "deleted, a month at a time. 0 keeps them for ever.",
    )
    held_orders: int = Field(
        50_000,
        ge=0,
        description="The most orders that are held in memory: the newest. 10,000 take about 25 MiB, with "
        "much metadata up to 45 MiB. Of what is beyond them each read asks the API server.",
    )
    max_streams: int = Field(
        1_000,
        ge=0,
        description="The most streams of orders that are open at a time; each takes a connection. Further "
        "ones are refused (503).",
    )
    catalogue_megabytes: int = Field(
        48,
        ge=0,
        le=4096,
        description="Memory for products and pages of catalogues, in MB; 0 keeps none. What has no room is "
        "read from PostgreSQL.",
    )

    leave_seconds: float = Field(
        0.0,
        ge=0,
        le=60,
        description="Seconds after SIGTERM in which new connections are still taken, because load balancers "
        "do not know yet that this replica ends. Each answer closes its connection meanwhile.",
    )

    least_charges: LeastCharges = LEAST_CHARGES

    endpoint_keys: EndpointKeys | None = Field(
        None, description=f"{ENDPOINT_KEYS} Without them no webhook endpoint can be registered."
    )
    endpoint_networks: EndpointNetworks = DEFAULT_NETWORKS

    @field_validator("oidc_issuer")
    @classmethod
    def _one_source_of_tokens(cls, oidc_issuer: str | None, info: ValidationInfo) -> str | None:
        if "signing_keys" in info.data and bool(info.data["signing_keys"]) == bool(oidc_issuer):
            raise ValueError(
                "set either this, or ORDERPLANE_SIGNING_KEYS to a folder of keys (`orderplane keys new "
                "FOLDER` makes one)"
            )
        return oidc_issuer

    @property
    def own_issuer(self) -> str:
        """The issuer of our own tokens."""
        return self.issuer or f"http://{self.http_host}:{self.http_port}"
