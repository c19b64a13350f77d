"""The environment of the webhook, and what it says when it is wrong."""

from pathlib import Path

import pytest

from orderplane.webhook.settings import Settings, SettingsError


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    for name in ("tls.crt", "tls.key"):
        (tmp_path / name).touch()
    return {
        "ORDERPLANE_POSTGRES_DSN": "postgresql://localhost/orderplane",
        "ORDERPLANE_WEBHOOK_CERT": str(tmp_path / "tls.crt"),
        "ORDERPLANE_WEBHOOK_KEY": str(tmp_path / "tls.key"),
    }


def test_defaults(environment: dict[str, str], tmp_path: Path) -> None:
    settings = Settings.from_environment(environment)
    assert (settings.host, settings.port, settings.metrics_port) == ("127.0.0.1", 9443, 9090)
    assert (settings.certificate, settings.authority) == (tmp_path / "tls.crt", None)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("ORDERPLANE_POSTGRES_DSN", ""),
        ("ORDERPLANE_WEBHOOK_CERT", ""),
        ("ORDERPLANE_WEBHOOK_KEY", "/does/not/exist"),
        ("ORDERPLANE_WEBHOOK_CA", "/does/not/exist"),
        ("ORDERPLANE_WEBHOOK_PORT", "0"),
        ("ORDERPLANE_WEBHOOK_PORT", "https"),
        ("ORDERPLANE_METRICS_PORT", "65536"),
    ],
)
def test_what_is_wrong_is_named(environment: dict[str, str], name: str, value: str) -> None:
    with pytest.raises(SettingsError, match=name):
        Settings.from_environment({**environment, name: value})
