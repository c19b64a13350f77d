"""`python -m orderplane.webhook.main`: the admission webhook as a process.

Kopf serves the requests. It watches nothing but the definitions of our own
kinds, so that they may be installed before or after this process starts.
"""

import logging
import ssl
import sys
from collections.abc import AsyncIterator
from typing import Any, cast

import kopf

from orderplane.adapters.dependencies import api_server, postgres
from orderplane.adapters.halves import Half
from orderplane.adapters.kubernetes.kopf_runner import run_kopf
from orderplane.adapters.payments.stripe_currencies import charge_limits
from orderplane.adapters.process import Process, run_process
from orderplane.adapters.settings import SettingsError
from orderplane.ledgers.postgres.products import PostgresPriceList
from orderplane.webhook.certificate import ServingCertificate
from orderplane.webhook.handlers import build_registry
from orderplane.webhook.settings import WebhookSettings

CONNECTIONS = 4
_NEVER_SECONDS = 1e9


class Server:
    """Kopf's server, which also says whether it listens."""

    def __init__(self, settings: WebhookSettings, context: ssl.SSLContext) -> None:
        self._server = kopf.WebhookServer(
            addr=settings.webhook_host,
            port=settings.webhook_port,
            context=context,
            # Kopf has to be given files, or it makes a certificate of its own. When they change it would stop
            # listening for a moment, and refuse what comes then; the context follows them without that.
            certfile=settings.webhook_cert,
            pkeyfile=settings.webhook_key,
            file_check_interval=_NEVER_SECONDS,
        )
        self.is_serving = False

    async def __call__(self, answer: kopf.WebhookFn) -> AsyncIterator[kopf.WebhookClientConfig]:
        """Serve admission reviews; Kopf iterates over the addresses to register."""

        async def answer_unremembered(request: dict[str, Any], **context: Any) -> Any:
            # Kopf keeps a memo for each uid that was ever updated, until a watch says that it is gone.
            for name in ("object", "oldObject"):
                body = request["request"].get(name) or {}
                body.get("metadata", {}).pop("uid", None)
            return await answer(cast("Any", request), **context)

        try:
            async for configuration in self._server(cast("Any", answer_unremembered)):
                self.is_serving = True
                yield configuration
        finally:
            self.is_serving = False


async def serve(settings: WebhookSettings, process: Process) -> None:
    """Answer admission reviews until the process is asked to stop."""
    try:
        certificate = ServingCertificate(
            settings.webhook_cert, settings.webhook_key, settings.webhook_client_ca
        )
    except (OSError, ValueError) as problem:
        raise SettingsError(
            f"ORDERPLANE_WEBHOOK_CERT, _KEY or _CLIENT_CA cannot be used: {problem}. Give files in PEM that "
            "belong together."
        ) from problem
    async with (
        postgres(process, size=CONNECTIONS) as pool,
        api_server(process),
        process.halves.running(Half("certificate", certificate.follow)),
    ):
        server = Server(settings, certificate.context)
        process.serving(
            lambda: server.is_serving, address=f"https://{settings.webhook_host}:{settings.webhook_port}"
        )
        registry = build_registry(PostgresPriceList(pool), charge_limits(settings.least_charges))
        await run_kopf(process, registry, _kopf_settings(server))


def _kopf_settings(server: Server) -> kopf.OperatorSettings:
    settings = kopf.OperatorSettings()
    settings.admission.server = server
    # The configuration object is installed with the manifests; this process may not write it.
    settings.admission.managed = None
    settings.networking.request_timeout = 10
    settings.networking.connect_timeout = 3
    settings.networking.error_backoffs = (0.2, 0.5, 1, 2)
    # A refused order is no error here; the handlers log it in one line, without Kopf's traceback.
    logging.getLogger("kopf.objects").setLevel(logging.CRITICAL)
    return settings


def main() -> int:
    """Run the webhook; returns the exit code."""
    return run_process("webhook", WebhookSettings, serve)


if __name__ == "__main__":
    sys.exit(main())
