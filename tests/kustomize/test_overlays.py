"""The overlays as people apply them: `kubectl kustomize`, and server-side apply on a real API server."""

import asyncio
import json
import subprocess
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from orderplane.adapters.settings import SECRETS_DIR, variables_of
from orderplane.dev.localplane.foreign_crds import foreign_crds
from orderplane.dev.localplane.plane import Plane
from orderplane.dev.localplane.progress import ConsoleProgress
from orderplane.dev.settings_page import PROCESSES as CLASSES
from orderplane.gateway.main import DRAIN_SECONDS as GATEWAY_DRAIN
from orderplane.operator.main import DRAIN_SECONDS as OPERATOR_DRAIN
from orderplane.workers.notifier.dispatcher import DRAIN_SECONDS as NOTIFIER_DRAIN
from orderplane.workers.relay.relay import DRAIN_SECONDS as RELAY_DRAIN

from ..support.plane import bare_plane

pytestmark = pytest.mark.integration

ROOT = Path(__file__).parents[2] / "kustomize"
OVERLAYS = ["base", "overlays/production"]
PROCESSES = {"gateway", "operator", "webhook", "relay", "notifier"}

Json = dict[str, Any]


@pytest.fixture(scope="module")
async def cluster(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Plane]:
    """A plane of its own with the CRDs of other projects, and without the address of the plane's webhook: the
    overlays name a Service."""
    crds = [word for path in await foreign_crds(ConsoleProgress()) for word in ("-f", str(path))]
    async with bare_plane(tmp_path_factory.mktemp("kustomize")) as plane:
        await kubectl(plane, "delete", "mutatingwebhookconfiguration", "orderplane")
        await kubectl(plane, "apply", "--server-side", *crds)
        await kubectl(plane, "wait", "--for=condition=Established", "crd", "--all", "--timeout=60s")
        yield plane


async def kubectl(plane: Plane, *words: str, stdin: str | None = None) -> str:
    done = await asyncio.to_thread(
        subprocess.run,
        [str(plane.kubectl), "--kubeconfig", str(plane.kubeconfig("admin")), *words],
        input=stdin,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


async def rendered(plane: Plane, overlay: str) -> list[Json]:
    return list(yaml.safe_load_all(await kubectl(plane, "kustomize", str(ROOT / overlay))))


def pods(documents: list[Json]) -> Iterator[tuple[str, Json]]:
    for document in documents:
        if document["kind"] in {"Deployment", "Job"}:
            yield document["metadata"]["name"], document["spec"]["template"]["spec"]


@pytest.mark.parametrize("overlay", OVERLAYS)
async def test_the_api_server_takes_it_and_a_second_apply_changes_nothing(
    cluster: Plane, overlay: str
) -> None:
    documents = await rendered(cluster, overlay)
    manifest = json.dumps({"apiVersion": "v1", "kind": "List", "items": documents})
    apply = ("apply", "--server-side", "--force-conflicts", "-o", "json", "-f", "-")
    first, second = [json.loads(await kubectl(cluster, *apply, stdin=manifest))["items"] for _ in range(2)]
    assert len(first) == len(documents)
    assert [each["metadata"]["resourceVersion"] for each in first] == [
        each["metadata"]["resourceVersion"] for each in second
    ]


@pytest.mark.parametrize("overlay", OVERLAYS)
async def test_pods_meet_the_restricted_standard_and_have_bounds(cluster: Plane, overlay: str) -> None:
    """https://kubernetes.io/docs/concepts/security/pod-security-standards/"""
    found = dict(pods(await rendered(cluster, overlay)))
    assert set(found) == {f"orderplane-{name}" for name in PROCESSES}
    for spec in found.values():
        assert spec["securityContext"]["runAsNonRoot"] is True
        assert spec["securityContext"]["runAsUser"] > 0
        assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        [container] = spec["containers"]
        context = container["securityContext"]
        assert context["allowPrivilegeEscalation"] is False
        assert context["readOnlyRootFilesystem"] is True
        assert context["capabilities"] == {"drop": ["ALL"]}
        assert set(container["resources"]["requests"]) == {"cpu", "memory", "ephemeral-storage"}
        assert set(container["resources"]["limits"]) == {"memory", "ephemeral-storage"}
        assert {"readinessProbe", "livenessProbe"} <= set(container)
        assert not container["image"].endswith(":latest")


@pytest.mark.parametrize("overlay", OVERLAYS)
async def test_a_pod_has_longer_to_end_than_it_needs(cluster: Plane, overlay: str) -> None:
    drains = {
        "gateway": GATEWAY_DRAIN,
        "operator": OPERATOR_DRAIN,
        "relay": RELAY_DRAIN,
        "notifier": NOTIFIER_DRAIN,
    }
    for name, spec in pods(await rendered(cluster, overlay)):
        before = (
            spec["containers"][0].get("lifecycle", {}).get("preStop", {}).get("sleep", {}).get("seconds", 0)
        )
        drain = drains.get(name.removeprefix("orderplane-"), 0)
        assert spec["terminationGracePeriodSeconds"] > before + drain, name


async def test_where_an_autoscaler_decides_nothing_else_does(cluster: Plane) -> None:
    documents = await rendered(cluster, "overlays/production")
    scaled = {
        each["spec"]["scaleTargetRef"]["name"]
        for each in documents
        if each["kind"] == "HorizontalPodAutoscaler"
    }
    replicas = {
        each["metadata"]["name"]: "replicas" in each["spec"]
        for each in documents
        if each["kind"] == "Deployment"
    }
    assert scaled
    assert {name for name, has in replicas.items() if not has} == scaled


async def test_every_setting_is_one_that_the_process_reads(cluster: Plane) -> None:
    known = {
        name.split(".")[-2]: {v.name for v in variables_of(settings)} for name, settings in CLASSES.items()
    }
    documents = await rendered(cluster, "overlays/production")
    [shared] = [each["data"] for each in documents if each["kind"] == "ConfigMap"]
    assert set(shared) <= set.union(*known.values()) | {SECRETS_DIR}
    for name, spec in pods(documents):
        own = {each["name"] for each in spec["containers"][0].get("env", [])}
        assert own <= known[name.removeprefix("orderplane-")]


async def test_a_service_account_has_the_rights_of_its_component_and_no_user_has_any(cluster: Plane) -> None:
    bindings = [each for each in await rendered(cluster, "base") if each["kind"] == "ClusterRoleBinding"]
    assert {(each["roleRef"]["name"], each["subjects"][0]["name"]) for each in bindings} == {
        (f"orderplane:{name}", f"orderplane-{name}") for name in ("operator", "gateway", "webhook", "audit")
    }
    assert {subject["kind"] for each in bindings for subject in each["subjects"]} == {"ServiceAccount"}


async def test_every_process_may_be_disrupted_one_at_a_time(cluster: Plane) -> None:
    documents = await rendered(cluster, "overlays/production")
    budgets = {
        each["metadata"]["name"]: each["spec"].get("maxUnavailable")
        for each in documents
        if each["kind"] == "PodDisruptionBudget"
    }
    assert budgets == {f"orderplane-{name}": 1 for name in PROCESSES}
