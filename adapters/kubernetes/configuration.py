"""How the API server is reached: the configuration that the `kubernetes` package reads, and its token."""

import asyncio
import ssl
import time
from collections.abc import Callable
from typing import Any

import structlog
from kubernetes import client as kubernetes_client
from kubernetes import config as kubernetes_config

log = structlog.get_logger(__name__)

TOKEN_SECONDS = 30.0
"""A token is read again when it is older: the kubelet replaces a service account's token about every hour."""


class Credentials:
    """The present token of a kubeconfig or of a pod's service account.

    Args:
        read: Returns the Authorization header, or None where there is no token. It may block.
    """

    def __init__(self, read: Callable[[], str | None]) -> None:
        self._read = read
        self._header: str | None = None
        self._stale_at = 0.0

    async def header(self) -> str | None:
        """The Authorization header, at most `TOKEN_SECONDS` old."""
        if time.monotonic() >= self._stale_at:
            # Set before the read, so that concurrent callers use the last header and do not read as well.
            self._stale_at = time.monotonic() + TOKEN_SECONDS
            try:
                self._header = await asyncio.to_thread(self._read)
            except (OSError, kubernetes_config.ConfigException) as problem:
                log.warning("the token cannot be read again; the last one is used", why=str(problem))
        return self._header


def load_configuration(kubeconfig: str | None, context: str | None) -> Any:
    """The configuration of a pod or of a kubeconfig. It blocks.

    Raises:
        kubernetes.config.ConfigException: there is none that can be used.
    """
    settings = kubernetes_client.Configuration()
    if kubeconfig is None:
        try:
            kubernetes_config.load_incluster_config(client_configuration=settings)  # type: ignore[no-untyped-call]
        except kubernetes_config.ConfigException:
            pass
        else:
            return settings
    kubernetes_config.load_kube_config(  # type: ignore[no-untyped-call]
        config_file=kubeconfig, context=context, client_configuration=settings
    )
    return settings


def tls_context(settings: Any) -> ssl.SSLContext | bool:
    """What a configuration says of certificates; False where its server speaks plain HTTP."""
    if not settings.host.startswith("https"):
        return False
    tls = ssl.create_default_context(cafile=settings.ssl_ca_cert)
    if not settings.verify_ssl:
        tls.check_hostname = False
        tls.verify_mode = ssl.CERT_NONE
    if settings.cert_file:
        tls.load_cert_chain(settings.cert_file, settings.key_file)
    return tls
