"""Settings of the console."""

from pydantic import Field, SecretStr, ValidationInfo, field_validator

from orderplane.adapters.settings import AnyPort, HttpUrl, ProcessSettings


class ConsoleSettings(ProcessSettings):
    """The console: pages for those who run the shop, made of answers of the HTTP API.

    It has no database and no access to Kubernetes. People sign in with their accounts at the gateway, or at
    the provider of OpenID Connect that the gateway takes tokens of.
    """

    http_host: str = Field("127.0.0.1", description="Address to listen on.")
    http_port: AnyPort = Field(8090, description="Port to listen on; 0 takes a free one.")
    gateway_url: HttpUrl = Field("http://127.0.0.1:8080", description="The HTTP API.")
    console_url: HttpUrl | None = Field(
        None,
        description="What browsers have before /console/, as https://shop.example. Without it, the address "
        "of this process. With https, cookies are sent over TLS only.",
    )
    oidc_issuer: HttpUrl | None = Field(
        None, description="Provider of OpenID Connect where people sign in: as the gateway's."
    )
    oidc_client_id: str | None = Field(
        None, validate_default=True, description="The console's client_id at that provider."
    )
    oidc_client_secret: SecretStr | None = Field(
        None, description="Its secret; none where it is a public client, which PKCE protects."
    )
    oidc_scopes: str = Field("openid profile email offline_access", description="Scopes that are asked for.")
    oidc_resource: str | None = Field(
        None,
        description="What access tokens are for (RFC 8707), where the provider needs that for the audience "
        "that the gateway expects.",
    )
    prometheus_url: HttpUrl | None = Field(
        None,
        description="Prometheus, for what the API does not know: open breakers. Without it, none are shown.",
    )

    @property
    def own_url(self) -> str:
        """What browsers have before /console/."""
        return (self.console_url or f"http://{self.http_host}:{self.http_port}").rstrip("/")

    @field_validator("oidc_client_id")
    @classmethod
    def _client_of_the_issuer(cls, client_id: str | None, info: ValidationInfo) -> str | None:
        if info.data.get("oidc_issuer") is not None and client_id is None:
            raise ValueError("ORDERPLANE_OIDC_ISSUER needs it; register the console at that provider")
        return client_id
