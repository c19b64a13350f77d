"""The certificate that the webhook serves with, as its files say now."""

import asyncio
import ssl
from pathlib import Path

import structlog
from cryptography import x509
from prometheus_client import Gauge

from orderplane.adapters.halves import Beat

EXPIRES = Gauge(
    "orderplane_webhook_certificate_expiry_timestamp_seconds",
    "When the certificate that the webhook serves with expires, as Unix time.",
)
RELOAD_SECONDS = 10.0

log = structlog.get_logger(__name__)


class ServingCertificate:
    """Certificate, key and the authority of clients, each changed over to when its file changes.

    Connections that are open stay; nothing stops listening.

    Args:
        certificate, key: PEM.
        client_ca: PEM; with it, a client has to show a certificate that is signed by one of its authorities.

    Raises:
        OSError, ValueError: they cannot be read, or do not belong together (ssl.SSLError is an OSError).
    """

    def __init__(self, certificate: Path, key: Path, client_ca: Path | None) -> None:
        self._files = (certificate, key, client_ca)
        self._contents = self._read()
        self._current = self._load()
        # A connection can be given another context in this callback only:
        # https://docs.python.org/3/library/ssl.html#ssl.SSLContext.sni_callback
        self.context = self._load()
        self.context.sni_callback = self._use_current

    async def follow(self, beat: Beat) -> None:
        """Read the files again and again, until cancelled."""
        while True:
            beat()
            await asyncio.sleep(RELOAD_SECONDS)
            await asyncio.to_thread(self.reload)

    def reload(self) -> None:
        """Change over to what the files have now. What cannot be used yet is tried again by the next call."""
        try:
            contents = self._read()
            if contents == self._contents:
                return
            current = self._load()
            # They may have been replaced between the two reads: then the next call loads them again.
            self._contents, self._current = contents, current
            log.info("the certificate was replaced")
        except (OSError, ValueError) as problem:
            log.warning("the new certificate cannot be used; the last one is", why=repr(problem))

    def _read(self) -> list[bytes]:
        return [file.read_bytes() for file in self._files if file is not None]

    def _load(self) -> ssl.SSLContext:
        certificate, key, client_ca = self._files
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(certificate, key)
        if client_ca is not None:
            context.load_verify_locations(client_ca)
            context.verify_mode = ssl.CERT_REQUIRED
        EXPIRES.set(x509.load_pem_x509_certificate(certificate.read_bytes()).not_valid_after_utc.timestamp())
        return context

    def _use_current(
        self, connection: ssl.SSLSocket | ssl.SSLObject, _name: str | None, _initial: ssl.SSLContext
    ) -> None:
        connection.context = self._current
