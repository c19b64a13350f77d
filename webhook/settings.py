"""Settings of the webhook."""

from pydantic import Field, FilePath

from orderplane.adapters.payments.settings import LeastCharges
from orderplane.adapters.payments.stripe_currencies import LEAST_CHARGES
from orderplane.adapters.settings import LedgerSettings, Port


class WebhookSettings(LedgerSettings):
    """The admission webhook: prices orders and sets defaults when resources are created.

    The API server is found by KUBECONFIG, ~/.kube/config or the service account of the pod. Certificate, key
    and client authority are read again when their files change.
    """

    webhook_cert: FilePath = Field(description="File of the serving certificate, PEM.")
    webhook_key: FilePath = Field(description="File of its private key, PEM.")
    webhook_client_ca: FilePath | None = Field(
        None,
        description="File of the authority that signs the API server's client certificate, PEM. With it, "
        "nobody else is answered; without it, everybody who can reach the port.",
    )
    webhook_host: str = Field("127.0.0.1", description="Address to listen on.")
    webhook_port: Port = Field(9443, description="Port to listen on, HTTPS.")
    least_charges: LeastCharges = LEAST_CHARGES
