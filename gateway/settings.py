"""What the front door is told by its environment."""

import math
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

from orderplane.gateway.http.client_address import Networks, networks
from orderplane.gateway.traffic.rate_limits import DEFAULTS, Quotas, quotas_from

_MERCHANT = "demo"
_HOST = "127.0.0.1"
_AUDIENCE = "orderplane"
_HTTP_PORT = 8080
_METRICS_PORT = 9090
_SHED_AFTER_SECONDS = 120.0


class SettingsError(Exception):
    """A variable is missing or wrong; the message says which, and what it should be."""


@dataclass(frozen=True, slots=True)
class OidcIssuerSettings:
    """Tokens come from a provider of OpenID Connect.

    Args:
        issuer: `ORDERPLANE_OIDC_ISSUER`, its address without `/.well-known/openid-configuration`.
        merchant_claim: `ORDERPLANE_OIDC_MERCHANT_CLAIM`, `merchant` by default.
        role_claim: `ORDERPLANE_OIDC_ROLE_CLAIM`, `role` by default.
    """

    issuer: str
    merchant_claim: str = "merchant"
    role_claim: str = "role"


@dataclass(frozen=True, slots=True)
class Settings:
    """Read once at start-up.

    Args:
        postgres_dsn: `ORDERPLANE_POSTGRES_DSN`.
        signing_keys: `ORDERPLANE_SIGNING_KEYS`, a folder of private keys (PEM), such as a mounted Secret.
        outside_issuer: Instead of keys and accounts of our own.
        issuer: `ORDERPLANE_ISSUER`, who has issued our tokens, as they say; by default the address of this
            process.
        audience: `ORDERPLANE_AUDIENCE`, whom tokens have to be for; `orderplane` by default.
        merchant: `ORDERPLANE_MERCHANT`, whose accounts are meant where a request does not say; by default
            `demo`.
        http_host: `ORDERPLANE_HTTP_HOST`, where to listen; loopback by default.
        trusted_proxies: `ORDERPLANE_TRUSTED_PROXIES`, networks whose X-Forwarded-For is believed; by default
            none.
        quotas: `ORDERPLANE_RATE_LIMITS`, such as `reads=600/6000, orders=60/600`: requests a minute of one
            user and from one address, by class (`auth`, `orders`, `reads`, `writes`); what is left out keeps
            its default, and `off` limits nothing.
        redis_url: `ORDERPLANE_REDIS_URL`, where replicas count together; each counts alone without it.
        shed_after_seconds: `ORDERPLANE_SHED_AFTER_SECONDS`, 120 by default: new orders are sent away (503)
            while they would have to wait about that long, or too many come at once; `off` sends nobody away.
        http_port: `ORDERPLANE_HTTP_PORT`, 8080 by default; 0 takes a free one.
        metrics_port: `ORDERPLANE_METRICS_PORT`, 9090 by default; 0 takes a free one.
    """

    postgres_dsn: str
    signing_keys: Path | None = None
    outside_issuer: OidcIssuerSettings | None = None
    issuer: str = ""
    audience: str = _AUDIENCE
    merchant: str = _MERCHANT
    http_host: str = _HOST
    trusted_proxies: Networks = ()
    quotas: Quotas | None = field(default_factory=lambda: DEFAULTS)
    redis_url: str | None = None
    shed_after_seconds: float = _SHED_AFTER_SECONDS
    http_port: int = _HTTP_PORT
    metrics_port: int = _METRICS_PORT

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] = os.environ) -> Self:
        """Read the variables.

        Raises:
            SettingsError: one is missing or wrong.
        """
        dsn = environment.get("ORDERPLANE_POSTGRES_DSN")
        if not dsn:
            raise SettingsError(
                "ORDERPLANE_POSTGRES_DSN is not set. Set it to the database of this plane, "
                "as postgresql://user:password@127.0.0.1:5432/orderplane."
            )
        keys, outside = environment.get("ORDERPLANE_SIGNING_KEYS"), _outside_issuer(environment)
        if bool(keys) == bool(outside):
            raise SettingsError(
                "Set either ORDERPLANE_SIGNING_KEYS to a folder of keys (`orderplane keys new FOLDER` makes "
                "one), or ORDERPLANE_OIDC_ISSUER to the provider that issues tokens."
            )
        host = environment.get("ORDERPLANE_HTTP_HOST") or _HOST
        port = _port(environment, "ORDERPLANE_HTTP_PORT", _HTTP_PORT)
        return cls(
            postgres_dsn=dsn,
            signing_keys=Path(keys) if keys else None,
            outside_issuer=outside,
            issuer=environment.get("ORDERPLANE_ISSUER") or f"http://{host}:{port}",
            audience=environment.get("ORDERPLANE_AUDIENCE") or _AUDIENCE,
            http_host=host,
            trusted_proxies=_networks(environment, "ORDERPLANE_TRUSTED_PROXIES"),
            quotas=_quotas(environment),
            redis_url=_redis_url(environment),
            shed_after_seconds=_shed_after(environment),
            merchant=environment.get("ORDERPLANE_MERCHANT") or _MERCHANT,
            http_port=port,
            metrics_port=_port(environment, "ORDERPLANE_METRICS_PORT", _METRICS_PORT),
        )


def _port(environment: Mapping[str, str], name: str, default: int) -> int:
    text = environment.get(name) or str(default)
    if not (text.isascii() and text.isdigit() and int(text) <= 65_535):
        raise SettingsError(f"{name} is {text!r}. Set it to a port number from 0 (any free one) to 65535.")
    return int(text)


def _outside_issuer(environment: Mapping[str, str]) -> OidcIssuerSettings | None:
    issuer = environment.get("ORDERPLANE_OIDC_ISSUER")
    if not issuer:
        return None
    return OidcIssuerSettings(
        issuer,
        environment.get("ORDERPLANE_OIDC_MERCHANT_CLAIM") or "merchant",
        environment.get("ORDERPLANE_OIDC_ROLE_CLAIM") or "role",
    )


def _networks(environment: Mapping[str, str], name: str) -> Networks:
    try:
        return networks(environment.get(name, ""))
    except ValueError as problem:
        raise SettingsError(f"{name}: {problem}. Set it to networks such as 10.0.0.0/8, 192.0.2.7.") from None


def _quotas(environment: Mapping[str, str]) -> Quotas | None:
    try:
        return quotas_from(environment.get("ORDERPLANE_RATE_LIMITS", ""))
    except ValueError as problem:
        raise SettingsError(
            f"ORDERPLANE_RATE_LIMITS: {problem}. Set it to quotas such as reads=600/6000, orders=60/600 "
            "(requests a minute of a user and of an address), or to off."
        ) from None


def _redis_url(environment: Mapping[str, str]) -> str | None:
    url = environment.get("ORDERPLANE_REDIS_URL") or None
    if url is not None and not url.startswith(("redis://", "rediss://")):
        # It may carry a password, so it is not repeated.
        raise SettingsError(
            "ORDERPLANE_REDIS_URL is no address of Redis. Set it as redis://127.0.0.1:6379/0."
        )
    return url


def _shed_after(environment: Mapping[str, str]) -> float:
    name = "ORDERPLANE_SHED_AFTER_SECONDS"
    text = environment.get(name) or str(_SHED_AFTER_SECONDS)
    if text == "off":
        return math.inf
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not 0.0 < seconds < math.inf:
        raise SettingsError(f"{name} is {text!r}. Set it to a number of seconds above 0, or to off.")
    return seconds
