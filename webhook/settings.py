"""What the webhook is told by its environment."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Self


class SettingsError(Exception):
    """A variable is missing or wrong; the message says which, and what it should be."""


@dataclass(frozen=True, slots=True)
class Settings:
    """Read once at start-up. The API server to talk to is found by `KUBECONFIG`, or in the cluster.

    Args:
        postgres_dsn: `ORDERPLANE_POSTGRES_DSN`.
        certificate: `ORDERPLANE_WEBHOOK_CERT`, the serving certificate, PEM. It and the key are read again
            when they change.
        key: `ORDERPLANE_WEBHOOK_KEY`.
        authority: `ORDERPLANE_WEBHOOK_CA`, who signed the certificate, where that is a file.
        host: `ORDERPLANE_WEBHOOK_HOST`, 127.0.0.1 by default.
        port: `ORDERPLANE_WEBHOOK_PORT`, 9443 by default.
        metrics_port: `ORDERPLANE_METRICS_PORT`, 9090 by default; 0 takes a free one.
    """

    postgres_dsn: str
    certificate: Path
    key: Path
    authority: Path | None
    host: str
    port: int
    metrics_port: int

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] = os.environ) -> Self:
        """Read the variables.

        Raises:
            SettingsError: one is missing or wrong.
        """
        authority = environment.get("ORDERPLANE_WEBHOOK_CA")
        return cls(
            postgres_dsn=_text(
                environment, "ORDERPLANE_POSTGRES_DSN", "the database with the catalogue, as postgresql://..."
            ),
            certificate=_file(environment, "ORDERPLANE_WEBHOOK_CERT"),
            key=_file(environment, "ORDERPLANE_WEBHOOK_KEY"),
            authority=_file(environment, "ORDERPLANE_WEBHOOK_CA") if authority else None,
            host=environment.get("ORDERPLANE_WEBHOOK_HOST") or "127.0.0.1",
            port=_port(environment, "ORDERPLANE_WEBHOOK_PORT", 9443, at_least=1),
            metrics_port=_port(environment, "ORDERPLANE_METRICS_PORT", 9090),
        )


def _text(environment: Mapping[str, str], name: str, meaning: str) -> str:
    value = environment.get(name)
    if not value:
        raise SettingsError(f"{name} is not set. Set it to {meaning}.")
    return value


def _file(environment: Mapping[str, str], name: str) -> Path:
    path = Path(_text(environment, name, "a PEM file; the API server speaks to webhooks by HTTPS only"))
    if not path.is_file():
        raise SettingsError(f"{name} names {path}, which is not a file. Set it to a PEM file.")
    return path


def _port(environment: Mapping[str, str], name: str, default: int, at_least: int = 0) -> int:
    text = environment.get(name) or str(default)
    if not (text.isascii() and text.isdigit() and at_least <= int(text) <= 65_535):
        raise SettingsError(f"{name} is {text!r}. Set it to a port number from {at_least} to 65535.")
    return int(text)
