"""compose.yaml, without Docker: what its own loader says, and what we promise of each service."""

import asyncio
import json
import os
from pathlib import Path
from typing import Any

import pytest
import yaml

from orderplane.adapters.settings import SECRETS_DIR, read_settings, variables_of
from orderplane.adapters.webhook_endpoints.secrets import new_key
from orderplane.dev.localplane.progress import ConsoleProgress
from orderplane.dev.localplane.tools import find_compose_spec
from orderplane.dev.settings_page import PROCESSES

ROOT = Path(__file__).parents[3]
FILE = ROOT / "compose.yaml"
SERVICES: dict[str, dict[str, Any]] = yaml.safe_load(FILE.read_text(encoding="utf-8"))["services"]

SETTINGS = {module.split(".")[-2]: settings for module, settings in PROCESSES.items()}
SANDBOX = {
    "payments": "ORDERPLANE_PAYMENTS_KEY",
    "carrier": "ORDERPLANE_CARRIER_KEY",
    "sms": "ORDERPLANE_SMS_KEY",
}
STEPS = {"credentials", "install", "cli"}
"""They end by themselves."""


def environment(service: str) -> dict[str, str]:
    return SERVICES[service].get("environment", {})


@pytest.mark.integration
async def test_the_loader_of_docker_compose_takes_it() -> None:
    """It has the schema, interpolation, merging, and checks that references lead somewhere."""
    loader = await find_compose_spec(ConsoleProgress())
    process = await asyncio.create_subprocess_exec(
        loader, "-format", "json", FILE,
        cwd=ROOT, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    out, complaints = await asyncio.wait_for(process.communicate(), 60)
    assert (process.returncode, complaints.decode()) == (0, "")
    assert set(json.loads(out)["services"]) == set(SERVICES)


@pytest.mark.parametrize("name", SERVICES)
def test_an_image_is_built_here_or_pinned_by_digest_beside_its_version(name: str) -> None:
    service = SERVICES[name]
    image, _, digest = service["image"].partition("@")
    if "build" in service:
        assert image.startswith("orderplane/")
        assert service["build"]["target"] in (ROOT / "Dockerfile").read_text(encoding="utf-8")
    else:
        assert digest.startswith("sha256:")
        assert len(digest) == len("sha256:") + 64
        assert image.partition(":")[2][:1].isdigit() or image.partition(":")[2].startswith("v")


@pytest.mark.parametrize("name", SERVICES)
def test_a_service_can_write_only_where_it_must_and_win_no_rights(name: str) -> None:
    service = SERVICES[name]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert "privileged" not in service
    assert set(service["logging"]["options"]) == {"max-size", "max-file"}


@pytest.mark.parametrize("name", SERVICES)
def test_ports_are_published_on_loopback_alone(name: str) -> None:
    assert all(port.startswith("127.0.0.1:") for port in SERVICES[name].get("ports", []))


@pytest.mark.parametrize("name", SETTINGS)
def test_the_settings_of_a_process_are_right_and_no_others(
    name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    given = {key: value for key, value in environment(name).items() if "${" not in value}
    known = {variable.name for variable in variables_of(SETTINGS[name])}
    assert set(environment(name)) <= known | {SECRETS_DIR, "KUBECONFIG"}
    for variable in set(os.environ) & known:
        monkeypatch.delenv(variable)
    for key, value in given.items():
        monkeypatch.setenv(key, _here(value, tmp_path))
    # What the first run draws.
    (tmp_path / "settings" / "ORDERPLANE_ENDPOINT_KEYS").write_text(new_key())
    (tmp_path / "settings" / "ORDERPLANE_POSTGRES_DSN").write_text(
        "postgresql://postgres:x@postgres/postgres"
    )
    read_settings(SETTINGS[name])


def _here(value: str, folder: Path) -> str:
    """A path of the volume, as a file of this test."""
    (folder / "settings").mkdir(exist_ok=True)
    if not value.startswith("/var/lib/orderplane/"):
        return value
    path = folder / value.removeprefix("/var/lib/orderplane/")
    if path.suffix in (".crt", ".key"):
        path.parent.mkdir(exist_ok=True)
        path.touch()
    return str(path)


@pytest.mark.parametrize(("name", "key"), SANDBOX.items())
def test_a_sandbox_has_the_key_that_its_clients_show(name: str, key: str) -> None:
    assert set(environment(name)) == {
        "ORDERPLANE_HTTP_HOST", "ORDERPLANE_HTTP_PORT", "ORDERPLANE_STATE_DIR", key,
    }  # fmt: skip
    shown = {environment(client)[key] for client in SERVICES if key in environment(client)}
    assert shown == {environment(name)[key]}


@pytest.mark.parametrize("name", SERVICES)
def test_what_is_mounted_or_waited_for_exists(name: str) -> None:
    service = SERVICES[name]
    sources = [volume.split(":")[0] for volume in service.get("volumes", [])]
    assert all((ROOT / source).exists() for source in sources if source.startswith("./"))
    for other, wanted in service.get("depends_on", {}).items():
        match wanted["condition"]:
            case "service_healthy":
                assert "healthcheck" in SERVICES[other]
            case "service_completed_successfully":
                assert other in STEPS


def test_prometheus_asks_every_process() -> None:
    config = yaml.safe_load((ROOT / "dev/compose/prometheus.yaml").read_text(encoding="utf-8"))
    targets = {
        target
        for job in config["scrape_configs"]
        for each in job["static_configs"]
        for target in each["targets"]
    }
    assert {f"{name}:9090" for name in SETTINGS} <= targets
    assert {target.partition(":")[0] for target in targets} <= set(SERVICES)


def test_prometheus_has_the_rules_and_grafana_the_dashboards_of_a_cluster() -> None:
    prometheus = yaml.safe_load((ROOT / "dev/compose/prometheus.yaml").read_text(encoding="utf-8"))
    [rules] = prometheus["rule_files"]
    monitoring = "./kustomize/components/monitoring"
    assert f"{monitoring}/rules.yaml:/etc/prometheus/{rules}:ro" in SERVICES["prometheus"]["volumes"]
    provider = yaml.safe_load((ROOT / "dev/compose/grafana-dashboards.yaml").read_text(encoding="utf-8"))
    [place] = [each["options"]["path"] for each in provider["providers"]]
    assert f"{monitoring}/dashboards:{place}:ro" in SERVICES["grafana"]["volumes"]


@pytest.mark.parametrize("profile", ["observability"])
def test_a_profile_adds_to_what_runs_without_it(profile: str) -> None:
    """Who starts without it misses nothing that another service waits for."""
    in_profile = {name for name, service in SERVICES.items() if profile in service.get("profiles", [])}
    assert in_profile == {"prometheus", "grafana", "jaeger", "loki", "collector"}
    assert not any(
        in_profile & set(service.get("depends_on", {})) for name, service in SERVICES.items()
        if name not in in_profile
    )  # fmt: skip
