"""The settings of every process: defaults, what is refused, and that a refusal names the variable."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import TypeVar
from unittest.mock import patch

import pytest

from orderplane.adapters.payments.stripe_currencies import LEAST_CHARGES
from orderplane.adapters.settings import (
    SECRETS_DIR,
    ProcessSettings,
    SettingsError,
    read_settings,
    variables_of,
)
from orderplane.console.settings import ConsoleSettings
from orderplane.crds.meta import Kind
from orderplane.dev.settings_page import page
from orderplane.gateway.settings import GatewaySettings
from orderplane.gateway.traffic.rate_limits import DEFAULTS
from orderplane.operator.settings import OperatorSettings
from orderplane.webhook.settings import WebhookSettings
from orderplane.workers.settings import NotifierSettings, RelaySettings

S = TypeVar("S", bound=ProcessSettings)

LEDGERS = (GatewaySettings, OperatorSettings, WebhookSettings, RelaySettings, NotifierSettings)
"""Those of the processes that work with the ledgers."""

CLASSES = (*LEDGERS, ConsoleSettings)
DSN = {"ORDERPLANE_POSTGRES_DSN": "postgresql://user:do-not-tell@127.0.0.1/orderplane"}
MAIL = {"ORDERPLANE_SMTP_URL": "smtp://x", "ORDERPLANE_MAIL_FROM": "a@b.example"}
PEM = str(Path(__file__))
PAGE = Path(__file__).parents[2] / "docs" / "settings.md"

NEEDED: dict[type[ProcessSettings], dict[str, str]] = {
    GatewaySettings: {**DSN, "ORDERPLANE_SIGNING_KEYS": "/keys"},
    ConsoleSettings: {"ORDERPLANE_OIDC_ISSUER": "https://id.example", "ORDERPLANE_OIDC_CLIENT_ID": "console"},
    OperatorSettings: {
        **DSN,
        "ORDERPLANE_PAYMENTS_URL": "https://payments.example",
        "ORDERPLANE_PAYMENTS_KEY": "sk_do-not-tell",
        "ORDERPLANE_CARRIER_URL": "https://carrier.example",
        "ORDERPLANE_CARRIER_KEY": "EZ_do-not-tell",
        "ORDERPLANE_CARRIER_SENDER": '{"street1": "1 Dock St", "city": "R", "zip": "3011", "country": "NL"}',
    },
    WebhookSettings: {**DSN, "ORDERPLANE_WEBHOOK_CERT": PEM, "ORDERPLANE_WEBHOOK_KEY": PEM},
    RelaySettings: DSN,
    NotifierSettings: DSN,
}


def read(settings_class: type[S], environment: Mapping[str, str]) -> S:
    with patch.dict(os.environ, environment, clear=True):
        return read_settings(settings_class)


def with_needed(settings_class: type[S], **more: str) -> S:
    return read(settings_class, {**NEEDED[settings_class], **more})


@pytest.mark.parametrize("settings_class", CLASSES)
def test_defaults_hold_and_an_empty_variable_is_not_set(settings_class: type[ProcessSettings]) -> None:
    optional = {each.name: "" for each in variables_of(settings_class) if each.default is not None}
    settings = read(settings_class, {**optional, **NEEDED[settings_class]})
    assert settings == with_needed(settings_class)
    assert (settings.metrics_host, settings.log_level, settings.log_format) == ("127.0.0.1", "INFO", None)


def test_the_console_needs_nothing_but_a_client_where_others_sign_people_in() -> None:
    assert read(ConsoleSettings, {}).own_url == "http://127.0.0.1:8090"
    with pytest.raises(SettingsError, match="ORDERPLANE_OIDC_CLIENT_ID"):
        read(ConsoleSettings, {"ORDERPLANE_OIDC_ISSUER": "https://id.example"})


@pytest.mark.parametrize("settings_class", LEDGERS)
def test_everything_that_is_missing_is_named_at_once(settings_class: type[ProcessSettings]) -> None:
    with pytest.raises(SettingsError) as caught:
        read(settings_class, {})
    required = [each.name for each in variables_of(settings_class) if each.default is None]
    assert required
    for name in required:
        assert f"{name} is not set" in str(caught.value)


@pytest.mark.parametrize("settings_class", CLASSES)
def test_every_variable_has_a_description_and_its_unit(settings_class: type[ProcessSettings]) -> None:
    for each in variables_of(settings_class):
        assert each.description.endswith("."), each.name
        if each.name.endswith("_SECONDS"):
            assert "econds" in each.description, each.name
            assert each.allowed, each.name


def test_secrets_are_not_shown() -> None:
    settings = with_needed(OperatorSettings)
    assert "do-not-tell" not in repr(settings)
    with pytest.raises(SettingsError) as caught:
        with_needed(RelaySettings, ORDERPLANE_POSTGRES_DSN="mysql://user:do-not-tell@host")
    assert "do-not-tell" not in f"{caught.value!r}{caught.value.__cause__}{caught.value.__context__}"
    assert "ORDERPLANE_POSTGRES_DSN" in str(caught.value)


def test_settings_of_the_gateway() -> None:
    settings = with_needed(
        GatewaySettings,
        ORDERPLANE_HTTP_PORT="81",
        ORDERPLANE_TRUSTED_PROXIES="10.0.0.0/8, 192.0.2.7",
        ORDERPLANE_RATE_LIMITS="off",
        ORDERPLANE_SHED_AFTER_SECONDS="off",
    )
    assert (settings.signing_keys, settings.own_issuer) == (Path("/keys"), "http://127.0.0.1:81")
    assert [str(network) for network in settings.trusted_proxies] == ["10.0.0.0/8", "192.0.2.7/32"]
    assert (settings.rate_limits, settings.shed_after_seconds) == (None, float("inf"))
    assert with_needed(GatewaySettings).rate_limits == DEFAULTS


@pytest.mark.parametrize("settings_class", [GatewaySettings, WebhookSettings])
def test_least_charges_are_set_for_some_currencies(
    settings_class: type[GatewaySettings] | type[WebhookSettings],
) -> None:
    least = with_needed(settings_class, ORDERPLANE_LEAST_CHARGES="JPY=80, ISK=75").least_charges
    assert (least["JPY"], least["ISK"], least["EUR"]) == (80, 75, 50)
    assert with_needed(settings_class).least_charges == LEAST_CHARGES


def test_tokens_may_come_from_outside() -> None:
    outside = {"ORDERPLANE_OIDC_ISSUER": "https://id.example", "ORDERPLANE_OIDC_ROLE_CLAIM": "groups"}
    settings = read(GatewaySettings, {**DSN, **outside})
    assert settings.signing_keys is None
    assert (settings.oidc_issuer, settings.oidc_merchant_claim, settings.oidc_role_claim) == (
        "https://id.example", "merchant", "groups",
    )  # fmt: skip


def test_settings_of_the_operator() -> None:
    settings = with_needed(OperatorSettings, ORDERPLANE_CONTROLLERS="order, payment")
    assert settings.controllers == {Kind.ORDER, Kind.PAYMENT}
    assert with_needed(OperatorSettings).controllers == set(Kind)
    assert settings.carrier_sender["city"] == "R"


def test_settings_of_the_webhook() -> None:
    settings = with_needed(WebhookSettings)
    assert (settings.webhook_host, settings.webhook_port, settings.metrics_port) == ("127.0.0.1", 9443, 9090)
    assert (settings.webhook_cert, settings.webhook_client_ca) == (Path(PEM), None)


def test_channels_of_the_notifier_are_offered_as_they_are_set() -> None:
    settings = with_needed(NotifierSettings, **MAIL)
    assert settings.smtp_url is not None
    assert (settings.smtp_url.get_secret_value(), settings.sms_key) == ("smtp://x", None)
    assert (settings.notifier_good_for_seconds, settings.metrics_port) == (86_400, 9091)


@pytest.mark.parametrize(
    ("settings_class", "name", "value"),
    [
        *((each, "ORDERPLANE_POSTGRES_DSN", "x") for each in LEDGERS),
        *((each, "ORDERPLANE_METRICS_PORT", "65536") for each in CLASSES),
        (RelaySettings, "ORDERPLANE_METRICS_PORT", "many"),
        (RelaySettings, "ORDERPLANE_LOG_FORMAT", "xml"),
        (RelaySettings, "ORDERPLANE_TRACE_RATIO", "2"),
        (RelaySettings, "ORDERPLANE_KAFKA_REPLICATION", "0"),
        (GatewaySettings, "ORDERPLANE_SIGNING_KEYS", ""),
        (GatewaySettings, "ORDERPLANE_OIDC_ISSUER", "https://id.example"),
        (GatewaySettings, "ORDERPLANE_HTTP_PORT", "http"),
        (GatewaySettings, "ORDERPLANE_TRUSTED_PROXIES", "10.0.0.0/8, everybody"),
        (GatewaySettings, "ORDERPLANE_RATE_LIMITS", "reads=many"),
        (GatewaySettings, "ORDERPLANE_REDIS_URL", "127.0.0.1:6379"),
        *(
            (each, "ORDERPLANE_LEAST_CHARGES", wrong)
            for each in (GatewaySettings, WebhookSettings)
            for wrong in ("EUR", "EUR=0", "EUR=0.50", "XYZ=50", "EUR=-1")
        ),
        (GatewaySettings, "ORDERPLANE_SHED_AFTER_SECONDS", "0"),
        (GatewaySettings, "ORDERPLANE_SHED_AFTER_SECONDS", "soon"),
        (GatewaySettings, "ORDERPLANE_SHED_AFTER_SECONDS", "inf"),
        (OperatorSettings, "ORDERPLANE_CONTROLLERS", "order,parcel"),
        (OperatorSettings, "ORDERPLANE_PAYMENTS_URL", "payments.example"),
        (OperatorSettings, "ORDERPLANE_PAYMENTS_SECONDS", "0"),
        (OperatorSettings, "ORDERPLANE_CARRIER_SENDER", "{"),
        (OperatorSettings, "ORDERPLANE_CARRIER_SENDER", '{"city": "R"}'),
        (WebhookSettings, "ORDERPLANE_WEBHOOK_CERT", ""),
        (WebhookSettings, "ORDERPLANE_WEBHOOK_KEY", "/does/not/exist"),
        (WebhookSettings, "ORDERPLANE_WEBHOOK_CLIENT_CA", "/does/not/exist"),
        (WebhookSettings, "ORDERPLANE_WEBHOOK_PORT", "0"),
        (WebhookSettings, "ORDERPLANE_WEBHOOK_PORT", "https"),
        (NotifierSettings, "ORDERPLANE_NOTIFIER_LEASE_SECONDS", "0"),
        (NotifierSettings, "ORDERPLANE_NOTIFIER_GOOD_FOR_SECONDS", "long"),
        (NotifierSettings, "ORDERPLANE_SMTP_URL", "http://x"),
    ],
)
def test_what_is_wrong_is_named(settings_class: type[ProcessSettings], name: str, value: str) -> None:
    with pytest.raises(SettingsError) as caught:
        with_needed(settings_class, **{name: value})
    assert name in str(caught.value)
    assert len(caught.value.problems) == 1


@pytest.mark.parametrize(
    ("name", "value", "named"),
    [
        ("ORDERPLANE_SMTP_URL", "smtp://x", "ORDERPLANE_MAIL_FROM"),
        ("ORDERPLANE_SMS_KEY", "AC:t", "ORDERPLANE_SMS_FROM"),
    ],
)
def test_a_channel_needs_a_sender(name: str, value: str, named: str) -> None:
    with pytest.raises(SettingsError, match=named):
        with_needed(NotifierSettings, **{name: value})


def test_a_sender_is_one_that_every_mail_server_takes() -> None:
    with pytest.raises(SettingsError, match=r"ORDERPLANE_MAIL_FROM.*A-labels"):
        with_needed(NotifierSettings, **MAIL | {"ORDERPLANE_MAIL_FROM": "Shop <a@b\u00fccher.example>"})
    with_needed(NotifierSettings, **MAIL | {"ORDERPLANE_MAIL_FROM": "B\u00fccher <a@xn--bcher-kva.example>"})


def test_the_page_is_what_the_classes_say() -> None:
    assert PAGE.read_text() == page(), (
        "docs/settings.md is not what the settings classes say. "
        "Write it anew: python -m orderplane.dev.settings_page > docs/settings.md"
    )


def test_settings_come_from_the_files_of_a_folder_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "ORDERPLANE_POSTGRES_DSN").write_text("postgresql://from-a-file/\n")
    (tmp_path / "ORDERPLANE_LOG_LEVEL").write_text("debug")
    (tmp_path / "..data").mkdir()
    monkeypatch.delenv("ORDERPLANE_POSTGRES_DSN", raising=False)
    monkeypatch.setenv(SECRETS_DIR, str(tmp_path))
    settings = read_settings(RelaySettings)
    assert settings.postgres_dsn.get_secret_value() == "postgresql://from-a-file/"
    assert settings.log_level == "DEBUG"
    monkeypatch.setenv("ORDERPLANE_LOG_LEVEL", "error")
    assert read_settings(RelaySettings).log_level == "ERROR"


@pytest.mark.parametrize("settings_class", [OperatorSettings, NotifierSettings])
@pytest.mark.parametrize("default", ["changeme", "CHANGE-ME", "<replace-me>", "Password", "postgres"])
def test_a_default_secret_is_refused(settings_class: type[ProcessSettings], default: str) -> None:
    dsn = f"postgresql://orderplane:{default.strip('<>')}@db/orderplane"
    with pytest.raises(SettingsError, match=r"ORDERPLANE_POSTGRES_DSN: .*a default"):
        with_needed(settings_class, ORDERPLANE_POSTGRES_DSN=dsn)
    other = (
        {"ORDERPLANE_PAYMENTS_KEY": default}
        if settings_class is OperatorSettings
        else {"ORDERPLANE_SMS_KEY": f"AC1:{default}", "ORDERPLANE_SMS_FROM": "+1"}
    )
    with pytest.raises(SettingsError, match=rf"{next(iter(other))}: .*a default") as caught:
        with_needed(settings_class, **other)
    assert len(caught.value.problems) == 1


def test_who_needs_no_password_gives_none() -> None:
    """By a certificate, or by a file of PostgreSQL's own."""
    with_needed(
        RelaySettings, ORDERPLANE_POSTGRES_DSN="postgresql://relay@db/orderplane?sslcert=/run/tls.crt"
    )


def test_a_folder_that_is_not_there_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(SECRETS_DIR, str(tmp_path / "absent"))
    with pytest.raises(SettingsError, match="absent"):
        read_settings(RelaySettings)
