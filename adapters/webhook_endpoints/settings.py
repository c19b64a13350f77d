"""Settings of webhook endpoints, which the gateway and the deliverer share."""

from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator, Field, SecretStr
from pydantic_settings import NoDecode

from orderplane.adapters.webhook_endpoints.addresses import PUBLIC, Networks, parse_networks
from orderplane.adapters.webhook_endpoints.secrets import EndpointSecrets


def _parsed(value: Any) -> Any:
    return parse_networks(value) if isinstance(value, str) else value


def _checked(keys: SecretStr) -> SecretStr:
    EndpointSecrets(keys.get_secret_value())
    return keys


DEFAULT_NETWORKS = Networks(is_public=True)

EndpointKeys = Annotated[SecretStr, AfterValidator(_checked)]
ENDPOINT_KEYS = (
    "Keys by which the secrets of webhook endpoints are encrypted in the database, with commas between: the "
    "first encrypts, all decrypt. `orderplane keys endpoint` makes one."
)

EndpointNetworks = Annotated[
    Networks,
    NoDecode,
    BeforeValidator(_parsed),
    Field(
        description="Where webhook endpoints may be, such as public, 10.20.0.0/16: public is https on port "
        "443 of public addresses; in a network http and every port are allowed, too. A merchant reaches "
        "whatever is named here.",
        json_schema_extra={"written": PUBLIC},
    ),
]
